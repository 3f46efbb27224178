"""Shap-E's checkpoints in the format of diffusers: their names, and the files that are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreamsplat.hub.fetch import check_available, local_folder
from dreamsplat.hub.networks import weights_files

_MODELS = {False: "openai/shap-e", True: "openai/shap-e-img2img"}
_RENDERERS = ("shap_e_renderer", "renderer")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine."""

    model: str
    """Its name: a folder or a hub id."""
    folder: Path
    """Where its files are."""
    files: tuple[str, ...]
    """Glob patterns of what is read."""
    renderer: str
    """The folder of its renderer."""


def find_checkpoint(model: str | None, revision: str | None, from_picture: bool) -> Checkpoint:
    """A checkpoint, fetched if it is not on this machine; None takes OpenAI's for words or for pictures.

    Raises:
        FileProblem: if it is not available.
    """
    model, files = model or _MODELS[from_picture], _files("*renderer", from_picture)
    # Copies in half precision are fetched too: openai/shap-e has no others.
    folder = local_folder(model, revision, files, not_fetched=())
    # The first one in safetensors: on the hub the newer folder holds a pickle.
    renderer = next((name for name in _RENDERERS if weights_files(folder / name)), _RENDERERS[0])
    return Checkpoint(model, folder, _files(renderer, from_picture), renderer)


def check_checkpoint(model: str | None, revision: str | None, from_picture: bool) -> None:
    """Refuse a checkpoint that is certainly not available; see `check_available`."""
    check_available(model or _MODELS[from_picture], revision, _files("*renderer", from_picture))


def _files(renderer: str, from_picture: bool) -> tuple[str, ...]:
    """What is read, and fetched from the hub: never a pickle."""
    encoder = ("image_encoder", "image_processor/*.json") if from_picture else ("text_encoder", "tokenizer/*")
    networks = ("prior", renderer, encoder[0])
    weights = (f"{name}/*.{kind}" for name in networks for kind in ("json", "safetensors"))
    return ("model_index.json", "scheduler/*.json", *weights, encoder[1])
