"""Reading one network of a checkpoint in the format of diffusers: from safetensors alone, complete, and frozen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamsplat.errors import FileProblem
from dreamsplat.hub.explain import explained
from dreamsplat.hub.variants import variant_of, weights_files

if TYPE_CHECKING:
    import torch


def read_network(
    kind: Any,  # a model class of diffusers or transformers
    model: str,  # for messages
    folder: Path,  # the network's own
    dtype: torch.dtype,
    device: torch.device,
    unused: Iterable[str] = (),
) -> Any:
    """A frozen network of a checkpoint, on a device; `unused` tensors may be missing, because nothing uses them.

    Raises:
        FileProblem: if its weights are missing, broken or do not fit its config.
    """
    variant = next((variant_of(path.name) for path in weights_files(folder)), None)
    with explained(model):
        network, report = kind.from_pretrained(
            str(folder), dtype=dtype, variant=variant or None,
            use_safetensors=True, output_loading_info=True, local_files_only=True,
        )  # fmt: skip
    missing = sorted(set(report["missing_keys"]) - set(unused))
    if missing:  # which the libraries fill with random numbers
        raise FileProblem(
            f"{model}: the weights in {folder.name} lack {missing[0]} ({len(missing)} tensors in all) of its config. "
            "Fetch it again, or name another model."
        )
    return network.to(device).eval().requires_grad_(False)
