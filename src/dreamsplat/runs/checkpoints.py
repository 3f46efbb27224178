"""The checkpoints of a run: everything needed to continue it, bit for bit. safetensors, and never half a file."""

from __future__ import annotations

import json
import logging
import os
import zlib
from dataclasses import dataclass, fields
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamsplat.config import DreamConfig
from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files.atomic import replacing
from dreamsplat.runs.folder import CHECKPOINTS, CONFIG
from dreamsplat.runs.record import config_sha256

KEPT = 2
"""The newest ones that stay: one may be damaged."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file holds."""

    state: dict[str, Tensor]
    """A `Step.snapshot`."""
    step: int
    """Optimisation steps done."""
    seconds: float
    """Time that the run had taken so far."""
    slowed: int
    """How often its learning rates had been halved."""
    config_sha256: str
    """Of the settings that it was made with, `record.config_sha256`."""


def write(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and remove all but the newest `KEPT`; returns its path.

    Raises:
        FileProblem: if it cannot be written, as on a full disk; the earlier ones stay as they are.
    """
    (folder / CHECKPOINTS).mkdir(exist_ok=True)
    path = path_of(folder, checkpoint.step)
    header = {f.name: getattr(checkpoint, f.name) for f in fields(Checkpoint) if f.name != "state"}
    state = {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in checkpoint.state.items()
    }
    header["crc32"] = _crc32(state)
    with replacing(path) as temporary:
        save_file(state, temporary, metadata={"run": json.dumps(header)})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the name must not outlive the content in a power cut
    for old in newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint.

    Raises:
        FileProblem: if it is missing or damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["run"])
        state = load_file(path)
        if _crc32(state) != header.pop("crc32"):
            raise ValueError("its numbers have changed")
        return Checkpoint(state, **header)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise FileProblem(f"{path} is damaged ({str(error).splitlines()[0]}).") from error


def checkpoint_of(folder: Path, config: DreamConfig) -> Checkpoint | None:
    """The newest checkpoint of a run with these settings, as `newest_checkpoint`.

    Raises:
        InvalidInput: if the settings are not those that it was made with.
    """
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None and checkpoint.config_sha256 != config_sha256(config):
        raise InvalidInput(
            f"{folder / CONFIG}: these are not the settings that its checkpoints were made with.",
            advice="Restore them, or start another run with the new ones.",
        )
    return checkpoint


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of a run that is whole, or None if there is none; damaged ones are logged and skipped.

    Raises:
        FileProblem: if there are checkpoints, and all are damaged.
    """
    problems: list[FileProblem] = []
    for path in newest_first(folder):
        try:
            checkpoint = read_checkpoint(path)
        except FileProblem as problem:
            problems.append(problem)
            continue
        for problem in problems:
            _log.warning("%s Going back to the one before.", problem)
        return checkpoint
    if problems:
        raise FileProblem(f"{folder / CHECKPOINTS}: all checkpoints are damaged.", advice="Start the run again.")
    return None


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint after so many steps is kept."""
    return folder / CHECKPOINTS / f"step-{step:07d}.safetensors"


def newest_first(folder: Path) -> list[Path]:
    """The files of a run's checkpoints; folders of such names do not count."""
    return sorted(filter(Path.is_file, (folder / CHECKPOINTS).glob("step-*.safetensors")), reverse=True)


def _crc32(state: dict[str, Tensor]) -> int:
    """A checksum of all numbers: safetensors has none, and one changed bit would change the rest of the run."""
    crc = 0
    for name in sorted(state):
        content = state[name].reshape(-1).contiguous().view(torch.uint8).numpy().data
        crc = zlib.crc32(content, zlib.crc32(name.encode(), crc))
    return crc
