"""What a file of weights is, told from its first bytes and the names of its tensors; no tensor is read."""

import re
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from dreamsplat.errors import FileProblem
from dreamsplat.hub.names import PICKLES

_CONVERT = (
    "import sys, torch, safetensors.torch as s; d = torch.load(sys.argv[1], weights_only=True); "
    "d = d.get('state_dict', d); "
    "s.save_file({k: v.clone().contiguous() for k, v in d.items() if hasattr(v, 'clone')}, sys.argv[2])"
)
"""A program that turns a pickle of tensors into safetensors; torch refuses the pickle if it would run code."""
_MOST_HEADER = 100_000_000
"""Bytes; safetensors' own limit."""
LORA = (
    "a LoRA: it changes a checkpoint and is not one. Merge it into its checkpoint with diffusers "
    "(load_lora_weights, fuse_lora, unload_lora_weights, save_pretrained), and name the folder that this writes."
)
EMBEDDING = (
    "a textual-inversion embedding: it is a word for a prompt, not a checkpoint. "
    "Name the checkpoint that it was made for, and say in the prompt what the word shows."
)
_WHOLE = "Name the checkpoint that it was made for."
_PARTS = (
    (r"lora|lycoris|lokr_|hada_w|oft_(blocks|diag)|dora_scale", LORA),
    (r"control_model\.|controlnet_|^control_", f"a ControlNet, not a checkpoint. {_WHOLE}"),
    (r"^(image_proj|ip_adapter)\.", f"an IP-Adapter, not a checkpoint. {_WHOLE}"),
    (r"motion_modules\.", f"a motion module of AnimateDiff, not a checkpoint. {_WHOLE}"),
)
"""Pattern that the name of a tensor holds; what the file then is, and what to do."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of the tensors, by name."""
    metadata: Mapping[str, str]
    """Free text."""


def read_header(path: Path) -> Header:
    """The header of a safetensors file.

    Raises:
        FileProblem: if it is a pickle, which is not read, or is another kind of file, or is cut off.
    """
    with path.open("rb") as file:
        start = file.read(256)
    if len(start) < 9 or start[8:9] != b"{" or not 2 <= int.from_bytes(start[:8], "little") <= _MOST_HEADER:
        raise FileProblem(f"{path}: {_other_kind(path, start)}")
    try:
        with safe_open(path, "np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            return Header(shapes, file.metadata() or {})
    except SafetensorError as problem:
        raise FileProblem(f"{path}: a safetensors file that is cut off or corrupt. Fetch it again.") from problem


def why_not_a_checkpoint(header: Header) -> str | None:
    """What else a file of weights is, and what to do; None if it may be a checkpoint."""
    if not header.shapes:
        return "holds no tensors. Fetch it again, or name another model."
    if any(name.startswith("model.diffusion_model.") for name in header.shapes):
        return None
    for pattern, kind in _PARTS:
        if any(re.search(pattern, name) for name in header.shapes):
            return f"is {kind}"
    return f"is {EMBEDDING}" if _is_embedding(header.shapes) else None


def refuse_file(model: str, path: Path) -> FileProblem:
    """The error for a file where only a folder is read."""
    reason = why_not_a_checkpoint(read_header(path)) or "is a file."
    return FileProblem(f"{model}: {reason} Expected a folder in the format of diffusers, or a hub id.")


def _is_embedding(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether these are a few rows for a text encoder: "emb_params", "clip_l" and "clip_g", or "<word>"."""
    rows = all(len(shape) in (1, 2) for shape in shapes.values())
    return len(shapes) <= 4 and rows and not any(name.endswith((".weight", ".bias")) for name in shapes)


def _other_kind(path: Path, start: bytes) -> str:
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS instead of the file. Run `git lfs pull` in its folder."
    if start.startswith(b"GGUF"):
        return "GGUF, which is not read. Give the model in safetensors."
    if start.lstrip()[:1] == b"<":
        return "a web page, not a model. Download the file itself."
    if start[:1] == b"\x80" or _is_torch_zip(path) or (path.suffix.lower() in PICKLES and start):
        target = shlex.join([str(path), str(path.with_suffix(".safetensors"))])
        return f'a pickle, which can run code when it is read. Convert it: python -c "{_CONVERT}" {target}'
    return "not a safetensors file. Expected a checkpoint of Stable Diffusion in one file, or a folder."


def _is_torch_zip(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("data.pkl") for name in archive.namelist())
