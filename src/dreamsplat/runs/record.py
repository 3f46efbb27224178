"""The record of a run, `run.json`: what happened, and what the result depends on besides the settings."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dreamsplat import __version__
from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import read_bytes, replacing
from dreamsplat.runs.folder import ASSET, RECORD, read_json
from dreamsplat.runs.sources import Sources

if TYPE_CHECKING:
    from dreamsplat.config import DreamConfig

PACKAGES = ("torch", "numpy", "scipy", "diffusers", "transformers")
"""Packages whose versions decide the numbers."""

State = Literal["running", "done", "stopped", "failed"]
"""Of a run. One that says "running" while nobody holds its lock has died."""


@dataclass(frozen=True)
class Record:
    """What happened in a run, and what its numbers depend on besides its settings."""

    prompt: str
    """Its prompt."""
    state: State
    """What became of it."""
    step: int
    """Optimisation steps that the asset has."""
    steps: int
    """Optimisation steps of the whole run."""
    seed: int
    """Its seed."""
    checkpoint_every: int
    """Steps between checkpoints, which decide the asset of a run that went back to one."""
    seconds: float
    """How long it has taken."""
    written: str = ""
    """When this was written, ISO 8601."""
    why: str | None = None
    """The error of a run that failed."""
    asset_sha256: str | None = None
    """Of the asset when this was written; None if there was none."""
    start_sha256: str | None = None
    """For a run that began from another run's checkpoint: the hash of that run's settings."""
    sources: Sources = field(default_factory=dict)
    """What the run was made of; empty until its models are loaded."""
    dreamsplat: str = ""
    """Version of this package."""
    python: str = ""
    """Version of Python."""
    machine: str = ""
    """Operating system and kind of processor."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of `PACKAGES`."""


_KINDS: dict[str, Any] = {
    "prompt": str, "state": str, "step": int, "steps": int, "seed": int, "checkpoint_every": int,
    "seconds": int | float, "written": str, "why": str | None, "asset_sha256": str | None,
}  # fmt: skip
_LATER_KINDS: dict[str, Any] = {"start_sha256": str | None, "sources": dict, "packages": dict}
"""Of fields that the first version did not write."""


def write_record(folder: Path, record: Record) -> None:
    """Write a record, with the time, the hash of the asset and the versions of this moment."""
    now = replace(
        record,
        written=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        seconds=round(record.seconds, 3),
        asset_sha256=asset_sha256(folder),
        dreamsplat=__version__,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        packages={package: found for package in PACKAGES if (found := _version(package))},
    )
    with replacing(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(asdict(now), indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> Record:
    """The record of a run.

    Raises:
        FileProblem: if there is none, or it is damaged.
    """
    advice = "Resume the run: that writes it again."
    values = read_json(folder / RECORD, advice)
    known = {f.name: values[f.name] for f in fields(Record) if f.name in values}
    for name, kind in (_KINDS | {name: kind for name, kind in _LATER_KINDS.items() if name in known}).items():
        if not isinstance(known.get(name), kind):
            found = str(known.get(name))[:40]
            raise FileProblem(f"{folder / RECORD}: damaged (its {name} is {found!r}).", advice=advice)
    return Record(**known)


def differences(before: Record, after: Record) -> list[str]:
    """What two runs were made of that differs, a line each: "packages.torch was 2.13.0, is 2.14.0"."""
    old, new = _origins(before), _origins(after)
    return [
        f"{name} was {old.get(name, 'unknown')}, is {new.get(name, 'unknown')}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]


def config_sha256(config: DreamConfig) -> str:
    """A hash of all settings of a run."""
    return hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode()).hexdigest()


def asset_sha256(folder: Path) -> str | None:
    """The hash of a run's asset; None if there is none."""
    asset = folder / ASSET
    return hashlib.sha256(read_bytes(asset)).hexdigest() if asset.exists() else None


def _origins(record: Record) -> dict[str, str]:
    parts = {"packages": record.packages} | record.sources
    named = {f"{part}.{name}": str(value) for part, values in parts.items() for name, value in values.items()}
    return {"dreamsplat": record.dreamsplat, "python": record.python, "machine": record.machine} | named


@functools.cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
