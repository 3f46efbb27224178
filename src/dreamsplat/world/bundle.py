"""The weights of the bundled models: safetensors files whose header holds sizes, vocabulary and training record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import replacing
from dreamsplat.world.language.vocabulary import check_vocabulary, vocabulary_header
from dreamsplat.world.nets.picture_denoiser import ImageDenoiser, ImageDenoiserSizes
from dreamsplat.world.nets.shape_code import ShapeCode
from dreamsplat.world.nets.shape_denoiser import ShapeDenoiser, ShapeDenoiserSizes

WEIGHTS = Path(__file__).parent / "weights"
IMAGE_WEIGHTS = WEIGHTS / "image.safetensors"
VOLUME_WEIGHTS = WEIGHTS / "volume.safetensors"
_CODE = "code."
_REMEDY = "Train the model, or reinstall dreamsplat if it is a bundled one."
_Model = TypeVar("_Model", ImageDenoiser, ShapeDenoiser)


def write_image_model(
    path: Path, sizes: ImageDenoiserSizes, weights: dict[str, Tensor], record: dict[str, float]
) -> None:
    """Write a 2D model; `record` says how it was trained."""
    _write(path, weights, {"config": asdict(sizes), "training": record})


def write_volume_model(
    path: Path, sizes: ShapeDenoiserSizes, weights: dict[str, Tensor], code: ShapeCode, record: dict[str, float]
) -> None:
    """Write a 3D model with the code of its latents."""
    code_tensors = {_CODE + name: value.to(torch.float16).contiguous() for name, value in vars(code).items()}
    _write(path, weights | code_tensors, {"config": asdict(sizes), "training": record})


def read_image_model(path: Path = IMAGE_WEIGHTS) -> ImageDenoiser:
    """The 2D model in float32, frozen, on the CPU.

    Raises:
        FileProblem: if the file is missing, is not such a model, or was trained on another vocabulary.
    """
    tensors, sizes = _read(path)
    sizes["channels"] = tuple(sizes["channels"])
    with torch.random.fork_rng(devices=[]):  # It begins with random weights; nobody else's randomness must notice.
        model = ImageDenoiser(ImageDenoiserSizes(**sizes))
    return _fill(model, tensors, path)


def read_volume_model(path: Path = VOLUME_WEIGHTS) -> tuple[ShapeDenoiser, ShapeCode]:
    """The 3D model and the code of its latents, in float32, frozen, on the CPU; errors as `read_image_model`."""
    tensors, sizes = _read(path)
    code = {k.removeprefix(_CODE): v.float() for k, v in tensors.items() if k.startswith(_CODE)}
    weights = {k: v for k, v in tensors.items() if not k.startswith(_CODE)}
    with torch.random.fork_rng(devices=[]):
        model = ShapeDenoiser(ShapeDenoiserSizes(**sizes))
    return _fill(model, weights, path), ShapeCode(**code)


def file_hashes(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, by file name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def weight_hashes() -> dict[str, str]:
    """SHA-256 of every bundled weights file, by file name."""
    return file_hashes(sorted(WEIGHTS.glob("*.safetensors")))


def training_record(path: Path) -> dict[str, float]:
    """How a weights file was trained: samples seen, seconds in steps."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["training"])


def _write(path: Path, tensors: dict[str, Tensor], header: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file(tensors, partial, vocabulary_header() | {key: json.dumps(value) for key, value in header.items()})


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a weights file, and the sizes of its network."""
    if not path.is_file():
        raise FileProblem(f"{path}: no such weights file.", advice=_REMEDY)
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            sizes = json.loads(header["config"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FileProblem(f"{path}: not a dreamsplat weights file ({error}).", advice=_REMEDY) from error
    check_vocabulary(path, header)
    return tensors, sizes


def _fill(model: _Model, tensors: dict[str, Tensor], path: Path) -> _Model:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise FileProblem(f"{path}: weights of another network ({str(error).splitlines()[0]}).") from error
    return model.float().eval().requires_grad_(False)
