"""Training the bundled models for a stretch: data, network, checkpoint, weights and a sheet of samples.

    dreamsplat train-world image --minutes 60 --folder world-training

A stretch draws a fresh pool of objects, goes on from the checkpoint in its folder (or from given weights), and leaves
`image.safetensors` or `volume.safetensors`, which the priors take as their `weights`, and a picture of what they know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamsplat.world import gallery
from dreamsplat.world.bundle import (
    read_image_model, read_volume_model, training_record, write_image_model, write_volume_model,
)  # fmt: skip
from dreamsplat.world.conditioning import drop_conditions
from dreamsplat.world.renders import draw_pool
from dreamsplat.world.training import TrainConfig, Trainer, train
from dreamsplat.world.unet import ImageDenoiser, UNetConfig
from dreamsplat.world.volume_model import VolumeDenoiser, VolumeModelConfig
from dreamsplat.world.volume_pool import draw_volumes, encode_pool, fit_code
from dreamsplat.world.volumes import VolumeCode

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stretch:
    """What both models need for a stretch of training."""

    folder: Path = Path("world-training")
    """Where checkpoints, logs, weights and samples go; a stretch goes on from the checkpoint that it finds there."""
    start: Path | None = None
    """Weights to start from where there is no checkpoint, such as those that ship with the package."""
    seed: int = 0
    """Seed of the objects and of the training; the samples seen so far are added, so every stretch sees new objects."""
    device: str = "cpu"
    """A torch device."""
    training: TrainConfig = field(default_factory=TrainConfig)
    """Length, rates and the like."""


@dataclass(frozen=True)
class ImageStretch:
    """Train the 2D model: caption, view and camera -> RGBA picture."""

    stretch: Stretch = field(default_factory=Stretch)
    """Folder, device, length, rates."""
    network: UNetConfig = field(default_factory=UNetConfig)
    """Sizes of the network, where nothing is there to go on from."""
    batch: int = 64
    """Pictures per step."""
    instances: int = 160
    """Objects of each category in this stretch's pool."""
    views: int = 32
    """Pictures of each object."""


@dataclass(frozen=True)
class VolumeStretch:
    """Train the 3D model: caption -> volume."""

    stretch: Stretch = field(default_factory=Stretch)
    """Folder, device, length, rates."""
    network: VolumeModelConfig = field(default_factory=VolumeModelConfig)
    """Sizes of the network, where nothing is there to go on from."""
    batch: int = 256
    """Objects per step."""
    instances: int = 200
    """Objects of each category in this stretch's pool."""


def train_image(settings: ImageStretch) -> Path:
    """Train the 2D model for a stretch and return the path of its weights."""
    stretch = settings.stretch
    folder, weights = stretch.folder / "image", stretch.folder / "image.safetensors"
    model = read_image_model(stretch.start).requires_grad_(True) if stretch.start else ImageDenoiser(settings.network)
    trainer = _trainer(model, stretch)
    generator = _generator(stretch, folder)
    say = _log.info
    pool = draw_pool(settings.instances, settings.views, model.config.resolution, generator, progress=_progress("objects"))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            z, packed = pool.batch(settings.batch, generator)
            # Caption for guidance; view word and camera so that either can be used alone.
            yield z, drop_conditions(packed, generator, words=0.1, word=0.07, view=0.3, camera=0.15)

    train(trainer, batches(), folder, say, stretch.seed)
    write_image_model(weights, model.config, trainer.average_weights(), trainer.record())
    gallery.draw_image_samples(read_image_model(weights), stretch.folder / "image-samples.png")
    return weights


def train_volume(settings: VolumeStretch) -> Path:
    """Train the 3D model for a stretch and return the path of its weights."""
    stretch = settings.stretch
    folder, weights = stretch.folder / "volume", stretch.folder / "volume.safetensors"
    generator = _generator(stretch, folder)
    pool = draw_volumes(settings.instances, generator, progress=_progress("objects"))
    if stretch.start:
        model, code = read_volume_model(stretch.start)
        model = model.requires_grad_(True)
    else:
        model, code = VolumeDenoiser(settings.network), _code(folder, lambda: fit_code(pool, generator))
    trainer = _trainer(model, stretch)
    latents = encode_pool(pool, code)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            z, packed = latents.batch(settings.batch, generator)
            yield z, drop_conditions(packed, generator, words=0.12, word=0.1, view=1.0, camera=1.0)

    train(trainer, batches(), folder, _log.info, stretch.seed)
    write_volume_model(weights, model.config, trainer.average_weights(), code, trainer.record())
    gallery.draw_volume_samples(weights, stretch.folder / "volume-samples.png")
    return weights


def _trainer(model: ImageDenoiser | VolumeDenoiser, stretch: Stretch) -> Trainer:
    seen = int(training_record(stretch.start)["samples"]) if stretch.start else 0
    return Trainer(model, model.noise, stretch.training, torch.device(stretch.device), seen)


def _generator(stretch: Stretch, folder: Path) -> torch.Generator:
    """New objects for every stretch: the size of the log so far goes into the seed."""
    log = folder / "log.jsonl"
    lines = len(log.read_text().splitlines()) if log.exists() else 0
    return torch.Generator().manual_seed(1_000_000 * stretch.seed + lines + 1)


def _code(folder: Path, fit: Callable[[], VolumeCode]) -> VolumeCode:
    """The code of earlier stretches in this folder, which the network's weights depend on; fitted the first time."""
    path = folder / "code.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_file(vars(fit()), path)
    return VolumeCode(**load_file(path))


def _progress(what: str) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if done % 200 == 0 or done == total:
            _log.info("%d of %d %s drawn", done, total, what)

    return report
