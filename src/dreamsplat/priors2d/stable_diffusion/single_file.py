"""Checkpoints of Stable Diffusion in one safetensors file: what they are, and their networks by diffusers' conversion.

Such a file has the tensors in the names of the original code, and neither configs nor a tokenizer. For Stable Diffusion
1.x, 2.x and XL these come with this package (`configs/`); a file of other sizes needs a folder that has them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from dreamsplat.errors import FileProblem
from dreamsplat.hub.explain import explained
from dreamsplat.hub.optional import require
from dreamsplat.hub.weights_file import Header, read_header, why_not_a_checkpoint

if TYPE_CHECKING:
    import torch

CONFIGS = Path(__file__).parent / "configs"
"""Folders with the configs of v1, v2 and xl."""
PREFIXES = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
"""Network -> how the names of its tensors begin."""
_WIDTHS = {768: "v1", 1024: "v2", 2048: "xl"}
_UNET = PREFIXES["unet"][0]
_FIRST, _TO_TEXT = ("input_blocks.0.0.weight", "conv_in.weight"), "attn2.to_k.weight"
_EXPECTED = "Expected Stable Diffusion 1.x, 2.x or XL for text to image."


def read_single_file(model: str, path: Path) -> Header:
    """The header of a checkpoint in one file; no tensor is read.

    Raises:
        FileProblem: if it is another thing, a part or another model, naming what it is and what to do.
    """
    header = read_header(path)
    if reason := why_not_a_checkpoint(header):
        raise FileProblem(f"{model}: {reason}")
    has = {part for part, starts in PREFIXES.items() if any(name.startswith(starts) for name in header.shapes)}
    if "unet" not in has:
        raise FileProblem(
            f"{model}: its tensors, such as {min(header.shapes)}, are not a whole checkpoint. {_EXPECTED}"
        )
    if not any(_UNET + name in header.shapes for name in _FIRST):
        raise FileProblem(f"{model}: its network, with {min(header.shapes)}, is not a UNet. {_EXPECTED}")
    if lacks := [part for part in ("vae", "text_encoder") if part not in has]:
        raise FileProblem(f"{model}: has no {' and no '.join(lacks)}. Name a file that holds the whole checkpoint.")
    channels = next(header.shapes[_UNET + name][1] for name in _FIRST if _UNET + name in header.shapes)
    if channels != 4:
        raise FileProblem(f"{model}: its UNet takes {channels} channels instead of 4, for inpainting. {_EXPECTED}")
    return header


def bundled_configs(model: str, header: Header) -> Path:
    """The folder of configs for a file, told from the width of the text that its UNet takes.

    Raises:
        FileProblem: if this package has none for it.
    """
    widths = sorted({shape[-1] for name, shape in header.shapes.items() if name.endswith(_TO_TEXT)})
    if len(widths) != 1 or widths[0] not in _WIDTHS:
        known = "768 (Stable Diffusion 1.x), 1024 (2.x) or 2048 (XL)"
        raise FileProblem(
            f"{model}: its UNet takes text of width {' and '.join(map(str, widths))}, expected {known}.",
            advice="Set `prior2d.config` to a folder in the format of diffusers that has its configs and tokenizer.",
        )
    return CONFIGS / _WIDTHS[widths[0]]


def scheduler_changes(model: str, header: Header, prediction: str | None) -> dict[str, Any]:
    """What a file says of its noise schedule, to put into the bundled scheduler config.

    Args:
        model: Its name, for messages.
        header: Of the file.
        prediction: What the user says that the network predicts; None for what the file says.

    Raises:
        FileProblem: if nobody says it, and models of both kinds are common; or if the schedule is another.
    """
    if any(name.startswith("edm_") for name in header.shapes):
        raise FileProblem(f"{model}: was trained on the noise levels of EDM. {_EXPECTED}")
    said = str(header.metadata.get("modelspec.prediction_type", ""))
    if prediction is None and ("v_pred" in header.shapes or said.startswith("v")):
        prediction = "v_prediction"
    if prediction is None and said != "epsilon" and bundled_configs(model, header).name == "v2":
        raise FileProblem(
            f"{model}: is Stable Diffusion 2.x, and does not say whether it predicts noise (512 px) or v (768 px).",
            advice="Set `prior2d.prediction` to epsilon or v_prediction.",
        )
    return {"prediction_type": prediction or "epsilon", "rescale_betas_zero_snr": "ztsnr" in header.shapes}


def read_part(
    kind: Any,  # a model class of diffusers or transformers
    path: Path,
    configs: Path,  # the folder that holds PART/config.json
    part: str,  # of `PREFIXES`
    dtype: torch.dtype,
    device: torch.device,
    changes: Mapping[str, Any],  # to the config
) -> Any:
    """A frozen network of a checkpoint in one file, on a device.

    Raises:
        FileProblem: if its weights are missing or do not fit its config.
    """
    tensors = {name: tensor.to(dtype) for name, tensor in _tensors(path, part).items()}
    with explained(str(path)):
        if part in ("unet", "vae"):
            config = kind.load_config(configs / part) | changes
            with require("accelerate", "diffusion").init_empty_weights():
                network = kind.from_config(config)
            tensors = _diffusion_names(tensors, part, config)
        else:
            config = kind.config_class.from_pretrained(configs / part)
            with require("accelerate", "diffusion").init_empty_weights():
                network = kind(config)
            tensors = _text_names(tensors, network)
        network.load_state_dict(tensors, strict=False, assign=True)
    missing = sorted(name for name, weight in network.state_dict().items() if weight.is_meta)
    if missing:
        raise FileProblem(f"{path}: its {part} lacks {missing[0]} ({len(missing)} tensors in all) of its config.")
    return network.to(device).eval().requires_grad_(False)


def clip_tokenizer(folder: Path) -> Any:
    """The tokenizer of CLIP from the merges of this package, with the padding of a `tokenizer_config.json`."""
    merges = gzip.decompress((CONFIGS / "clip_merges.txt.gz").read_bytes()).decode().splitlines()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    # Each byte is a letter: those that cannot be printed are the ones from 256 on (Radford et al. 2019).
    letters = [chr(code) for code in [*printable, *range(256, 512 - len(printable))]]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return require("transformers", "diffusion").CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=[tuple(merge.split(" ")) for merge in merges],
        pad_token=json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["pad_token"],
    )


def _tensors(path: Path, part: str) -> dict[str, torch.Tensor]:
    """The tensors of one network, under the names that diffusers' conversion takes."""
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if name.startswith(PREFIXES[part])]
        return {_with_text_model(name): file.get_tensor(name) for name in names}


def _with_text_model(name: str) -> str:
    """The name of a tensor of CLIP with the level that some versions of transformers leave out."""
    start, middle, rest = name.partition(".transformer.")
    left_out = rest.startswith(("embeddings.", "encoder.", "final_layer_norm."))
    return f"{start}{middle}text_model.{rest}" if left_out else name


def _diffusion_names(tensors: dict[str, torch.Tensor], part: str, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a UNet or an autoencoder in the names of diffusers, which some files have already."""
    if any("down_blocks." in name for name in tensors):
        return {name.removeprefix(PREFIXES[part][0]): tensor for name, tensor in tensors.items()}
    utils = require("diffusers.loaders.single_file_utils", "diffusion")
    return {"unet": utils.convert_ldm_unet_checkpoint, "vae": utils.convert_ldm_vae_checkpoint}[part](tensors, config)


def _text_names(tensors: dict[str, torch.Tensor], network: Any) -> dict[str, torch.Tensor]:
    """The tensors of a text encoder, of CLIP or of OpenCLIP, in the names of transformers."""
    utils = require("diffusers.loaders.single_file_utils", "diffusion")
    marked = next((name for name in tensors if ".model.transformer.resblocks." in name), None)
    if marked is None:
        named = utils.convert_ldm_clip_checkpoint(tensors)
    else:
        named = utils.convert_open_clip_checkpoint(network, tensors, prefix=f"{marked.partition('.model.')[0]}.model.")
    start = "" if hasattr(network, "text_model") else "text_model."  # a level that transformers 5.6 left out
    return {name.removeprefix(start): tensor for name, tensor in named.items()}
