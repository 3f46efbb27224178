"""The checkpoints of a run: everything that it needs to go on, bit for bit. safetensors, and never half a file."""

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

from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import replacing

FOLDER = "checkpoints"
"""Inside the run's folder."""
KEPT = 2
"""The newest ones that stay: one may be damaged."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
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
    """Of the settings that it was made with, `records.config_sha256`."""


def write(run: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint and remove all but the newest `KEPT`.

    Raises:
        FileProblem: if it cannot be written, as on a full disk; the earlier ones stay as they are.
    """
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{checkpoint.step:07d}.safetensors"
    told = {f.name: getattr(checkpoint, f.name) for f in fields(Checkpoint) if f.name != "state"}
    state = {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in checkpoint.state.items()
    }
    told["crc32"] = _crc32(state)
    with replacing(path) as temporary:
        try:
            save_file(state, temporary, metadata={"run": json.dumps(told)})
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the name must not outlive the content in a power cut
    for old in newest_first(run)[KEPT:]:
        old.unlink(missing_ok=True)


def read_newest(run: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None if there is none; a damaged one is told of and passed over.

    Raises:
        FileProblem: if there are checkpoints, and all are damaged.
    """
    paths = newest_first(run)
    for path in paths:
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                told = json.loads((file.metadata() or {})["run"])
            state = load_file(path)
            if _crc32(state) != told.pop("crc32"):
                raise ValueError("its numbers have changed")
            return Checkpoint(state, **told)
        except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            back = "going back to the one before" if path != paths[-1] else "and there is none before"
            _log.warning("%s is damaged (%s): %s.", path, str(error).splitlines()[0], back)
    if paths:
        raise FileProblem(
            f"{run / FOLDER}: all checkpoints are damaged. Begin anew: dreamsplat generate ... --overwrite."
        )
    return None


def _crc32(state: dict[str, Tensor]) -> int:
    """A checksum of all numbers: safetensors has none, and one changed bit would change the rest of the run."""
    crc = 0
    for name in sorted(state):
        content = state[name].reshape(-1).contiguous().view(torch.uint8).numpy().data
        crc = zlib.crc32(content, zlib.crc32(name.encode(), crc))
    return crc


def newest_first(run: Path) -> list[Path]:
    """The files of a run's checkpoints; folders of such names are none."""
    return sorted(filter(Path.is_file, (run / FOLDER).glob("step-*.safetensors")), reverse=True)
