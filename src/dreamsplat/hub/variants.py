"""Which files hold the weights of a network's folder: one or several shards, in one of several variants.

A network's folder holds its weights in one file or in numbered shards with an index, and perhaps further copies, its
variants: "diffusion_pytorch_model.fp16.safetensors" and "model.fp16-00001-of-00002.safetensors" are in half precision.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from dreamsplat.errors import FileProblem

_WEIGHTS = re.compile(r"[^.]+?(?:\.(?P<old>\w+))?(?:-\d+-of-\d+)?(?:\.(?P<new>\w+))?\.safetensors")
_INDEX = re.compile(r"[^.]+\.safetensors\.index(?:\.(?P<new>\w+))?\.json")


def variant_of(name: str) -> str | None:
    """The variant that a file of weights, or the index of its shards, belongs to: "", "fp16"; None for other files."""
    match = _WEIGHTS.fullmatch(name) or _INDEX.fullmatch(name)
    return match and next((value for value in match.groupdict().values() if value), "")


def best_variant(variants: Iterable[str], half: bool = False) -> str:
    """Which variant to take: the plain one, or "fp16" for `half`; else the other of the two, or whatever there is."""
    order = ("fp16", "") if half else ("", "fp16")
    return min(variants, key=lambda variant: (order.index(variant) if variant in order else len(order), variant))


def weights_files(folder: Path) -> list[Path]:
    """The weights that `read_network` reads of a network's folder: in half precision only where there are no others."""
    by_name = {path: variant_of(path.name) for path in sorted(folder.glob("*.safetensors"))}
    variants = [variant for variant in by_name.values() if variant is not None]
    best = best_variant(variants) if variants else None
    return [path for path, variant in by_name.items() if variant == best]


def missing_shards(folder: Path) -> list[str]:
    """Names of the shards that an index in a network's folder lists, and that are not there.

    Raises:
        FileProblem: if the index is broken.
    """
    best = {variant_of(path.name) for path in weights_files(folder)}
    listed: set[str] = set()
    for index in folder.glob("*.safetensors.index*.json"):
        if not best or variant_of(index.name) in best:
            try:
                listed |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, TypeError, AttributeError) as problem:
                raise FileProblem(f"{index}: not an index of shards. Fetch it again.") from problem
    return sorted(name for name in listed if not (folder / name).is_file())
