"""A session of training a bundled model: data, network, checkpoint, weights and a sheet of samples.

    dreamsplat train-world image --minutes 60 --folder world-training

A session draws a new pool of objects, continues from the checkpoint in its folder (or from given weights), and writes
`image.safetensors` or `volume.safetensors`, which the priors take as their `weights`, and a sheet of samples.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.maths.ranges import check_range, check_ranges
from dreamsplat.world import bundle
from dreamsplat.world.data.pictures import draw_pictures
from dreamsplat.world.data.shapes import draw_shapes, encode_pool, fit_code
from dreamsplat.world.nets.conditions import drop_conditions
from dreamsplat.world.nets.picture_denoiser import ImageDenoiser, ImageDenoiserSizes
from dreamsplat.world.nets.shape_code import ShapeCode
from dreamsplat.world.nets.shape_denoiser import ShapeDenoiser, ShapeDenoiserSizes
from dreamsplat.world.training import gallery
from dreamsplat.world.training.processes import process_rank, run_in_processes, wait_for_all
from dreamsplat.world.training.trainer import Batches, Trainer, TrainerSettings, train

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """What a session needs for either model."""

    folder: Path = Path("world-training")
    """Where checkpoints, logs, weights and samples go; training continues from a checkpoint found there."""
    start: Path | None = None
    """Weights to start from if there is no checkpoint, such as those that ship with the package."""
    seed: int = 0
    """Seed of the objects and of the training; every session in a folder sees new objects."""
    device: str = "cpu"
    """A torch device."""
    processes: int = 1
    """Processes that train together, one per core; each has its own pool and batches."""
    training: TrainerSettings = field(default_factory=TrainerSettings)
    """Length, rates and the like."""

    def __post_init__(self) -> None:
        """Refuse what would otherwise fail after the objects are drawn."""
        check_range("processes", self.processes, 1, 1024)
        check_range("minutes", self.training.minutes, 0, inf)
        if self.folder.exists() and not self.folder.is_dir():
            raise InvalidInput(f"{self.folder} is a file, expected a folder.", setting="folder")
        if self.start is not None and not self.start.is_file():
            raise FileProblem(f"{self.start}: no such file.", setting="start", advice="Check the path.")
        try:
            torch.device(self.device)
        except RuntimeError as error:
            raise InvalidInput(f"{self.device!r}, expected a torch device.", setting="device") from error


@dataclass(frozen=True)
class ImageTraining:
    """Train the 2D model: caption, view and camera -> RGBA picture."""

    session: Session = field(default_factory=Session)
    """Folder, device, length, rates."""
    network: ImageDenoiserSizes = field(default_factory=ImageDenoiserSizes)
    """Sizes of a network that does not start from weights."""
    batch: int = 8
    """Pictures per step; many small steps teach faster than few large ones (docs/world.md)."""
    instances: int = 160
    """Objects of each category in the pool."""
    views: int = 32
    """Pictures of each object."""

    def __post_init__(self) -> None:
        check_ranges(self, batch=(1, 10**6), instances=(1, 10**6), views=(1, 10**6))


VOLUME_TRAINER = TrainerSettings(minutes=20.0, learning_rate=1e-3, decay_samples=800_000, warmup_samples=20_000)
"""A sample of the 3D model costs a hundredth of one of the 2D model, so it sees more of them."""


@dataclass(frozen=True)
class VolumeTraining:
    """Train the 3D model: caption -> shape."""

    session: Session = field(default_factory=lambda: Session(training=VOLUME_TRAINER))
    """Folder, device, length, rates."""
    network: ShapeDenoiserSizes = field(default_factory=ShapeDenoiserSizes)
    """Sizes of a network that does not start from weights."""
    batch: int = 256
    """Objects per step."""
    instances: int = 200
    """Objects of each category in the pool."""

    def __post_init__(self) -> None:
        check_ranges(self, batch=(1, 10**6), instances=(1, 10**6))


def train_image(settings: ImageTraining) -> Path:
    """Train the 2D model for a session and return the path of its weights."""
    run_in_processes(settings.session.processes, _train_image, settings)
    weights = settings.session.folder / "image.safetensors"
    gallery.draw_image_samples(bundle.read_image_model(weights), settings.session.folder / "image-samples.png")
    return weights


def _train_image(settings: ImageTraining) -> None:
    session = settings.session
    folder = session.folder / "image"
    model = bundle.read_image_model(session.start) if session.start else ImageDenoiser(settings.network)
    trainer = _trainer(model, session)
    generator = _generator(session, folder)
    pool = draw_pictures(settings.instances, settings.views, model.config.resolution, generator, progress=_progress)

    def batches() -> Batches:
        while True:
            z, packed = pool.batch(settings.batch, generator)
            # The caption is dropped for guidance; view word and camera so that either can be used alone.
            yield z, drop_conditions(packed, generator, words=0.1, word=0.07, view=0.25, camera=0.25)

    train(trainer, batches(), folder, _log.info, session.seed)
    if process_rank() == 0:
        weights = session.folder / "image.safetensors"
        bundle.write_image_model(weights, model.config, trainer.average_weights(), trainer.record())


def train_volume(settings: VolumeTraining) -> Path:
    """Train the 3D model for a session and return the path of its weights."""
    run_in_processes(settings.session.processes, _train_volume, settings)
    weights = settings.session.folder / "volume.safetensors"
    gallery.draw_volume_samples(weights, settings.session.folder / "volume-samples.png")
    return weights


def _train_volume(settings: VolumeTraining) -> None:
    session = settings.session
    folder = session.folder / "volume"
    generator = _generator(session, folder)
    pool = draw_shapes(settings.instances, generator, progress=_progress)
    if session.start:
        model, start_code = bundle.read_volume_model(session.start)
        code = _code(folder, lambda: start_code)
    else:
        model, code = ShapeDenoiser(settings.network), _code(folder, lambda: fit_code(pool, generator))
    trainer = _trainer(model, session)
    latents = encode_pool(pool, code)

    def batches() -> Batches:
        while True:
            z, packed = latents.batch(settings.batch, generator)
            yield z, drop_conditions(packed, generator, words=0.12, word=0.1, view=1.0, camera=1.0)

    train(trainer, batches(), folder, _log.info, session.seed)
    if process_rank() == 0:
        weights = session.folder / "volume.safetensors"
        bundle.write_volume_model(weights, model.config, trainer.average_weights(), code, trainer.record())


def _trainer(model: ImageDenoiser | ShapeDenoiser, session: Session) -> Trainer:
    seen = int(bundle.training_record(session.start)["samples"]) if session.start else 0
    return Trainer(model.requires_grad_(True), model.noise, session.training, torch.device(session.device), seen)


def _generator(session: Session, folder: Path) -> torch.Generator:
    """New objects for every session: the length of the log so far goes into the seed."""
    log = folder / "log.jsonl"
    lines = len(log.read_text().splitlines()) if log.exists() else 0
    return torch.Generator().manual_seed(1_000_000 * session.seed + 1_000 * process_rank() + lines + 1)


def _code(folder: Path, first: Callable[[], ShapeCode]) -> ShapeCode:
    """The code of the folder's sessions, which the checkpoint's weights depend on; the first session makes it."""
    path = folder / "code.safetensors"
    if process_rank() == 0 and not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_file(vars(first()), path)
    wait_for_all()
    return ShapeCode(**load_file(path))


def _progress(done: int, total: int) -> None:
    if done % 200 == 0 or done == total:
        _log.info("%d of %d objects drawn", done, total)
