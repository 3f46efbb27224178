"""What a run leaves to be known: `run.json`, beside its configuration, for lists of runs and for repeating them."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import shlex
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from dreamsplat import __version__
from dreamsplat.config import DreamConfig
from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import read_bytes, replacing
from dreamsplat.world.bundle import weight_hashes

NAME = "run.json"
PACKAGES = ("torch", "numpy", "scipy", "diffusers", "transformers")
"""Packages whose versions decide the numbers."""

_KINDS = {
    "prompt": str, "state": str, "step": int, "steps": int, "checkpoint_every": int, "seconds": int | float,
    "written": str, "why": str | None, "asset_sha256": str | None,
}  # fmt: skip

State = Literal["running", "done", "stopped", "failed"]
"""Of a run. One that says "running" while nobody holds its lock has died."""


@functools.cache  # hashing the weights takes longer than all the rest of a checkpoint
def environment() -> dict[str, Any]:
    """What the numbers of a run depend on, besides its configuration."""
    return {
        "dreamsplat": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {package: found for package in PACKAGES if (found := _version(package))},
        "weights": weight_hashes(),
    }


def write(
    run: Path, config: DreamConfig, state: State, step: int, seconds: float, every: int, why: str | None = None
) -> None:
    """Write the record of a run as it stands; `every` is the number of steps between its checkpoints."""
    record = {
        "prompt": config.prompt,
        "state": state,
        "why": why,
        "step": step,
        "steps": config.steps,
        "seed": config.seed,
        "checkpoint_every": every,  # Decides the asset of a run that was set back to a checkpoint.
        "seconds": round(seconds, 3),
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "asset_sha256": asset_sha256(run),
    }
    with replacing(run / NAME) as temporary:
        temporary.write_text(json.dumps(record | environment(), indent=2) + "\n", encoding="utf-8")


def config_sha256(config: DreamConfig) -> str:
    """A hash of all settings of a run."""
    return hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode()).hexdigest()


def asset_sha256(run: Path) -> str | None:
    """The hash of a run's asset as it is now; None if there is none."""
    asset = run / "asset.ply"
    return hashlib.sha256(read_bytes(asset)).hexdigest() if asset.exists() else None


def read(run: Path) -> dict[str, Any]:
    """The record of a run, with all that `write` puts there.

    Raises:
        FileProblem: if there is none, or it is damaged.
    """
    anew = f"dreamsplat generate --resume {shlex.quote(str(run))} writes it anew"
    record = _json(run / NAME, anew)
    for name, kind in _KINDS.items():
        if not isinstance(record.get(name), kind):
            raise FileProblem(f"{run / NAME}: damaged (its {name} is {str(record.get(name))[:40]!r}). {anew}.")
    return record


def read_config(run: Path) -> DreamConfig:
    """The configuration of a run.

    Raises:
        FileProblem: if there is none, or it is damaged.
        InvalidInput: if it is of another version.
    """
    return DreamConfig.from_json(_json(run / "config.json", "Begin the run anew"))


def _json(path: Path, advice: str) -> dict[str, Any]:
    if not path.is_file():
        raise FileProblem(f"{path}: no such file, so {path.parent} is not the folder of a run. Check the path.")
    try:
        values = json.loads(read_bytes(path))
    except ValueError as error:
        raise FileProblem(f"{path}: damaged ({error}). {advice}.") from error
    if not isinstance(values, dict):
        raise FileProblem(f"{path}: damaged (no JSON object). {advice}.")
    return values


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
