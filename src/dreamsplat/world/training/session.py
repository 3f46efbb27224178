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

from dreamsplat.world.bundle import (
    read_image_model,
    read_volume_model,
    training_record,
    write_image_model,
    write_volume_model,
)  # fmt: skip
from dreamsplat.world.data.pictures import draw_pool
from dreamsplat.world.data.shapes import draw_volumes, encode_pool, fit_code
from dreamsplat.world.nets.conditions import drop_conditions
from dreamsplat.world.nets.picture_denoiser import ImageDenoiser, UNetConfig
from dreamsplat.world.nets.shape_code import VolumeCode
from dreamsplat.world.nets.shape_denoiser import VolumeDenoiser, VolumeModelConfig
from dreamsplat.world.training import gallery
from dreamsplat.world.training.processes import process_rank, run_in_processes, wait_for_all
from dreamsplat.world.training.trainer import TrainConfig, Trainer, train

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
    processes: int = 1
    """Processes that train together, one per core; each has batches (and a pool) of its own."""
    training: TrainConfig = field(default_factory=TrainConfig)
    """Length, rates and the like."""


@dataclass(frozen=True)
class ImageStretch:
    """Train the 2D model: caption, view and camera -> RGBA picture."""

    stretch: Stretch = field(default_factory=Stretch)
    """Folder, device, length, rates."""
    network: UNetConfig = field(default_factory=UNetConfig)
    """Sizes of the network, where nothing is there to go on from."""
    batch: int = 8
    """Pictures per step; many small steps teach faster than few large ones (docs/world.md)."""
    instances: int = 160
    """Objects of each category in this stretch's pool."""
    views: int = 32
    """Pictures of each object."""


VOLUME_TRAINING = TrainConfig(minutes=20.0, learning_rate=1e-3, decay_samples=800_000, warmup_samples=20_000)
"""Samples of the 3D model cost a hundredth of the 2D model's, so there are more of them."""


@dataclass(frozen=True)
class VolumeStretch:
    """Train the 3D model: caption -> volume."""

    stretch: Stretch = field(default_factory=lambda: Stretch(training=VOLUME_TRAINING))
    """Folder, device, length, rates."""
    network: VolumeModelConfig = field(default_factory=VolumeModelConfig)
    """Sizes of the network, where nothing is there to go on from."""
    batch: int = 256
    """Objects per step."""
    instances: int = 200
    """Objects of each category in this stretch's pool."""


def train_image(settings: ImageStretch) -> Path:
    """Train the 2D model for a stretch and return the path of its weights."""
    run_in_processes(settings.stretch.processes, _train_image, settings)
    weights = settings.stretch.folder / "image.safetensors"
    gallery.draw_image_samples(read_image_model(weights), settings.stretch.folder / "image-samples.png")
    return weights


def _train_image(settings: ImageStretch) -> None:
    stretch = settings.stretch
    folder = stretch.folder / "image"
    model = read_image_model(stretch.start).requires_grad_(True) if stretch.start else ImageDenoiser(settings.network)
    trainer = _trainer(model, stretch)
    generator = _generator(stretch, folder)
    size = model.config.resolution
    pool = draw_pool(settings.instances, settings.views, size, generator, progress=_progress("objects"))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            z, packed = pool.batch(settings.batch, generator)
            # Caption for guidance; view word and camera so that either can be used alone.
            yield z, drop_conditions(packed, generator, words=0.1, word=0.07, view=0.25, camera=0.25)

    train(trainer, batches(), folder, _log.info, stretch.seed)
    if process_rank() == 0:
        weights = stretch.folder / "image.safetensors"
        write_image_model(weights, model.config, trainer.average_weights(), trainer.record())


def train_volume(settings: VolumeStretch) -> Path:
    """Train the 3D model for a stretch and return the path of its weights."""
    run_in_processes(settings.stretch.processes, _train_volume, settings)
    weights = settings.stretch.folder / "volume.safetensors"
    gallery.draw_volume_samples(weights, settings.stretch.folder / "volume-samples.png")
    return weights


def _train_volume(settings: VolumeStretch) -> None:
    stretch = settings.stretch
    folder = stretch.folder / "volume"
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
    if process_rank() == 0:
        weights = stretch.folder / "volume.safetensors"
        write_volume_model(weights, model.config, trainer.average_weights(), code, trainer.record())


def _trainer(model: ImageDenoiser | VolumeDenoiser, stretch: Stretch) -> Trainer:
    seen = int(training_record(stretch.start)["samples"]) if stretch.start else 0
    return Trainer(model, model.noise, stretch.training, torch.device(stretch.device), seen)


def _generator(stretch: Stretch, folder: Path) -> torch.Generator:
    """New objects for every stretch: the size of the log so far goes into the seed."""
    log = folder / "log.jsonl"
    lines = len(log.read_text().splitlines()) if log.exists() else 0
    return torch.Generator().manual_seed(1_000_000 * stretch.seed + 1_000 * process_rank() + lines + 1)


def _code(folder: Path, fit: Callable[[], VolumeCode]) -> VolumeCode:
    """The code of earlier stretches in this folder, which the network's weights depend on; fitted the first time."""
    path = folder / "code.safetensors"
    if process_rank() == 0 and not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_file(vars(fit()), path)
    wait_for_all()
    return VolumeCode(**load_file(path))


def _progress(what: str) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if done % 200 == 0 or done == total:
            _log.info("%d of %d %s drawn", done, total, what)

    return report
