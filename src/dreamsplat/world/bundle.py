"""The weights of the bundled models: safetensors files whose header holds sizes, vocabulary and training record."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import replacing
from dreamsplat.hub.digests import file_sources
from dreamsplat.world.header import IMAGE_WEIGHTS, VOLUME_WEIGHTS, WEIGHTS, read_sizes
from dreamsplat.world.language.vocabulary import vocabulary_header
from dreamsplat.world.nets.picture_denoiser import ImageDenoiser, ImageDenoiserSizes
from dreamsplat.world.nets.shape_code import ShapeCode
from dreamsplat.world.nets.shape_denoiser import ShapeDenoiser, ShapeDenoiserSizes

_CODE = "code."
_Sizes = TypeVar("_Sizes", ImageDenoiserSizes, ShapeDenoiserSizes)
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
    return _network(path, ImageDenoiser, ImageDenoiserSizes, read_sizes(path), load_file(path))


def read_volume_model(path: Path = VOLUME_WEIGHTS) -> tuple[ShapeDenoiser, ShapeCode]:
    """The 3D model and the code of its latents, in float32, frozen, on the CPU; errors as `read_image_model`."""
    sizes, tensors = read_sizes(path), load_file(path)
    code = {k.removeprefix(_CODE): tensors.pop(k).float() for k in [*tensors] if k.startswith(_CODE)}
    return _network(path, ShapeDenoiser, ShapeDenoiserSizes, sizes, tensors), ShapeCode(**code)


def weight_hashes() -> dict[str, str]:
    """SHA-256 of every bundled weights file, by file name."""
    return file_sources(*sorted(WEIGHTS.glob("*.safetensors")))


def training_record(path: Path) -> dict[str, float]:
    """How a weights file was trained: samples seen, seconds in steps."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["training"])


def _write(path: Path, tensors: dict[str, Tensor], header: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file(tensors, partial, vocabulary_header() | {key: json.dumps(value) for key, value in header.items()})


def _network(
    path: Path,
    kind: Callable[[_Sizes], _Model],
    kind_of_sizes: Callable[..., _Sizes],
    sizes: dict[str, Any],
    tensors: dict[str, Tensor],
) -> _Model:
    values = {name: tuple(size) if isinstance(size, list) else size for name, size in sizes.items()}
    try:
        # Networks start from random weights; the caller's randomness must not notice.
        with torch.random.fork_rng(devices=[]):
            model = kind(kind_of_sizes(**values))
        model.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        raise FileProblem(f"{path}: weights of another network ({str(error).splitlines()[0]}).") from error
    return model.float().eval().requires_grad_(False)
