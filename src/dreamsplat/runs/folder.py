"""The folder of one run: the names of its files, and the plain ones among them.

| file | content |
|---|---|
| `asset.ply` | the current Gaussians, as a standard PLY; those of a radiance field when it stops |
| `asset.safetensors` | the current radiance field, if the run optimises one |
| `preview.png` | contact sheet, six azimuths: the 3D prior's cloud, the first Gaussians, the current ones |
| `turntable.mp4` or `.gif` | once around the finished asset |
| `config.json` | every setting of the run |
| `metrics.jsonl` | one JSON object per step |
| `run.json` | what happened: state, steps, time, versions, hashes of models, files and asset (`record.py`) |
| `checkpoints/` | the newest two (`checkpoints.py`), the first rows of the preview, and the lock (`lock.py`) |

Every file but the metrics is replaced in one step, so a run that is killed at any moment leaves whole files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files.atomic import read_bytes, remove_leftovers, replacing
from dreamsplat.runs.lock import LOCK, OWNER, locked

if TYPE_CHECKING:
    from dreamsplat.config import DreamConfig

ASSET = "asset.ply"
FIELD = "asset.safetensors"
PREVIEW = "preview.png"
FILM = "turntable.mp4"
CONFIG = "config.json"
METRICS = "metrics.jsonl"
RECORD = "run.json"
CHECKPOINTS = "checkpoints"
FIRST_ROWS = "checkpoints/first-rows.safetensors"
OUTPUTS = (ASSET, FIELD, PREVIEW, FILM, "turntable.gif", METRICS, FIRST_ROWS)
"""What a new run in the same folder replaces, besides settings, record and checkpoints."""


@dataclass(frozen=True)
class Pictures:
    """How large the pictures of a run are."""

    preview_px: int = 192
    """Width and height of one picture of the preview."""
    film_px: int = 256
    """Width and height of the turntable."""
    film_frames: int = 120
    """Pictures in the turntable."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder of a run and hold its lock. A folder that was made here, and stays empty, is removed again.

    Raises:
        FileProblem: if it cannot be made or written, or another run writes there.
    """
    check_name(folder)
    try:
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise FileProblem(f"{folder}: is a file, expected a folder.", advice="Choose another name.") from error
    except OSError as error:
        raise FileProblem(
            f"{folder}: cannot be used as a folder ({error.strerror}).", advice="Choose another."
        ) from error
    with locked(folder):
        for written in (folder, folder / CHECKPOINTS):
            remove_leftovers(written)
        try:
            yield
        finally:
            if not (folder / CONFIG).exists():
                _remove_if_empty(folder, new)


def _remove_if_empty(folder: Path, new: bool) -> None:
    for name in (OWNER, LOCK):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # Something else lies there.
        (folder / CHECKPOINTS).rmdir()
        if new:
            folder.rmdir()


def check_name(folder: Path) -> None:
    """Raise FileProblem if a folder's name is not valid UTF-8, which safetensors needs."""
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise FileProblem(
            f"{folder}: its name is not valid UTF-8.", advice="Choose another, or rename the folder."
        ) from error


def write_config(folder: Path, config: DreamConfig) -> None:
    """Write the settings of a run."""
    with replacing(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(config.to_json(), indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path) -> DreamConfig:
    """The settings of a run.

    Raises:
        FileProblem: if there are none, or the file is damaged.
        InvalidInput: if they are of another version.
    """
    from dreamsplat.config import DreamConfig  # Here and not above: a list of runs does not need it.

    values = read_json(folder / CONFIG, "Start the run again.")
    try:
        return DreamConfig.from_json(values)
    except InvalidInput as error:  # Its settings are members of the file here, not flags.
        advice = "" if error.advice else "Restore the file, or start the run again."
        raise InvalidInput(f"{folder / CONFIG}: {error}", advice=advice) from error


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """The JSON object in a file of a run.

    Raises:
        FileProblem: if there is no such file, or it is damaged; then with this advice.
    """
    if not path.is_file():
        raise FileProblem(
            f"{path}: no such file, so {path.parent} is not the folder of a run.", advice="Check the path."
        )
    try:
        values = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise FileProblem(f"{path}: damaged ({error}).", advice=advice) from error
    if not isinstance(values, dict):
        raise FileProblem(f"{path}: damaged (not a JSON object).", advice=advice)
    return values


def append_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Add a line to the metrics; numbers that are not finite become null, which JSON has for them.

    Raises:
        FileProblem: if it cannot be written, as on a full disk.
    """
    path = folder / METRICS
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in metrics.items()
    }
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")
    except OSError as error:
        raise FileProblem(f"{path}: cannot be written ({error.strerror}).") from error


def cut_metrics(folder: Path, step: int) -> None:
    """Remove the lines of later steps than this one, and damaged lines."""
    path = folder / METRICS
    lines = read_bytes(path).decode(errors="replace").splitlines() if path.exists() else []
    kept = [line for line in lines if _step_of(line) <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> float:
    """The step of a line of the metrics; infinite if the line is damaged."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf
