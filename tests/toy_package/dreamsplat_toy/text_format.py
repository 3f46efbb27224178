"""A file format: Gaussians as JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from dreamsplat import FileProblem, Gaussians
from dreamsplat.formats import Format


def write(gaussians: Gaussians, path: Path) -> None:
    """Write all tensors by name; `dreamsplat.save` has checked their values."""
    fields = dataclasses.fields(gaussians)
    path.write_text(json.dumps({field.name: getattr(gaussians, field.name).tolist() for field in fields}))


def read(path: Path) -> Gaussians:
    """Read them back: float32, on the CPU."""
    try:
        values = json.loads(path.read_text())
        return Gaussians(**{name: torch.tensor(rows, dtype=torch.float32) for name, rows in values.items()})
    except (OSError, ValueError, TypeError) as error:
        raise FileProblem(f"{path}: cannot be read ({error}).") from error


GS_JSON = Format("Gaussians as JSON", write, read)
