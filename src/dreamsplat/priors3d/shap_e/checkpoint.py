"""Shap-E's checkpoints in the format of diffusers: their names, and the files that are read."""

from dataclasses import dataclass
from pathlib import Path

from dreamsplat.hub.digests import model_sources
from dreamsplat.hub.fetch import Wanted, check_available, found_here, local_folder
from dreamsplat.hub.variants import weights_files

_MODELS = {False: "openai/shap-e", True: "openai/shap-e-img2img"}
_RENDERERS = ("shap_e_renderer", "renderer")


@dataclass(frozen=True)
class ShapEModel:
    """A checkpoint on this machine."""

    model: str
    """Its name: a folder or a hub id."""
    folder: Path
    """Where its files are."""
    renderer: str
    """The folder of its renderer."""


def find_checkpoint(model: str | None, revision: str | None, from_picture: bool) -> ShapEModel:
    """A checkpoint, fetched if it is not on this machine; None takes OpenAI's for words or for pictures.

    Raises:
        FileProblem: if it is not available.
    """
    model, files = model or _MODELS[from_picture], _files("*renderer", from_picture)
    folder = local_folder(model, revision, files)
    return ShapEModel(model, folder, _renderer(folder))


def checkpoint_sources(model: str | None, revision: str | None, from_picture: bool) -> dict[str, str]:
    """What a checkpoint is made of; nothing if it is not on this machine."""
    found = found_here([model or _MODELS[from_picture]], revision, _files("*renderer", from_picture))
    return {} if found is None else model_sources(*found, _files(_renderer(found[1]), from_picture))


def check_checkpoint(model: str | None, revision: str | None, from_picture: bool) -> None:
    """Refuse a checkpoint that is certainly not available; see `check_available`."""
    check_available(model or _MODELS[from_picture], revision, _files("*renderer", from_picture))


def wanted(model: str | None, revision: str | None, from_picture: bool) -> Wanted:
    """What is fetched."""
    return Wanted((model or _MODELS[from_picture],), revision, _files("*renderer", from_picture), half=True)


def _renderer(folder: Path) -> str:
    """The folder of the renderer in safetensors: on the hub the newer one holds a pickle."""
    return next((name for name in _RENDERERS if weights_files(folder / name)), _RENDERERS[0])


def _files(renderer: str, from_picture: bool) -> tuple[str, ...]:
    """What is read, and fetched from the hub: never a pickle."""
    encoder = ("image_encoder", "image_processor/*.json") if from_picture else ("text_encoder", "tokenizer/*")
    networks = ("prior", renderer, encoder[0])
    weights = (f"{name}/*.{kind}" for name in networks for kind in ("json", "safetensors"))
    return ("model_index.json", "scheduler/*.json", *weights, encoder[1])
