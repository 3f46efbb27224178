"""The folder of one run: what is written while it goes, and what remains.

| file | content |
|---|---|
| `asset.ply` | the Gaussians as they stand, the standard PLY |
| `preview.png` | contact sheet, six azimuths: the 3D prior's cloud, the initial Gaussians, how they stand |
| `turntable.mp4` or `.gif` | once around the finished asset |
| `config.json` | every setting of the run |
| `metrics.jsonl` | one JSON object per step |
| `run.json` | what happened: state, steps, time, versions, hashes of weights and asset (`record.py`) |
| `checkpoints/` | the newest two (`checkpoints.py`), the first rows of the preview, and the lock (`lock.py`) |

Every file but the metrics is replaced in one step, so a run that is stopped at any moment leaves whole files.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamsplat.assets.draw import Frames, draw, draw_points
from dreamsplat.assets.sheet import contact_sheet
from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import read_bytes, replacing
from dreamsplat.formats import save
from dreamsplat.formats.png import write_png
from dreamsplat.formats.video import write_turntable
from dreamsplat.method.cameras import orbit
from dreamsplat.runs import checkpoints
from dreamsplat.runs.lock import NAME as lock_name
from dreamsplat.types import Cameras, Gaussians, Step

OUTPUTS = ("asset.ply", "preview.png", "turntable.mp4", "turntable.gif", "config.json", "metrics.jsonl", "run.json")
"""The names that a run may write."""
REFRESH_SECONDS = 10.0
"""How often the asset and the preview are written during a run."""

_log = logging.getLogger(__name__)
_FIRST_ROWS = "checkpoints/first-rows.safetensors"


@dataclass
class RunFolder:
    """One run's folder: `start`, then `record` each step, then `finish`."""

    path: Path
    """The folder."""
    new: bool
    """Whether `open_run` made it."""
    preview_size: int = 192
    """Width and height of one picture of the preview, px."""
    _rows: list[tuple[str, Tensor]] = field(default_factory=list)
    _latest: tuple[Gaussians, int, int] | None = None
    _start: float = field(default_factory=time.monotonic)
    _next_refresh: float = 0.0

    @property
    def step(self) -> int | None:
        """Optimisation steps done, once there are Gaussians."""
        return None if self._latest is None else self._latest[1]

    @property
    def seconds(self) -> float:
        """How long the run has taken, all its parts together."""
        return time.monotonic() - self._start

    def rewind(self, gaussians: Gaussians, step: int, total: int, seconds: float) -> None:
        """Stand where the run was after `step` steps: forget metrics beyond, remember the preview's first rows."""
        self._latest, self._start = (gaussians, step, total), time.monotonic() - seconds
        path = self.path / "metrics.jsonl"
        lines = read_bytes(path).decode(errors="replace").splitlines() if path.exists() else []
        kept = [line for line in lines if _step_of(line) <= step]
        with replacing(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._rows = _read_rows(self.path / _FIRST_ROWS)

    def record(self, step: Step) -> None:
        """Log a step's numbers; write asset and preview after the lift, and then every few seconds."""
        self._latest = (step.gaussians, step.index, step.total)
        seconds = self.seconds
        numbers = {name: value if math.isfinite(value) else None for name, value in step.metrics.items()}
        line = {"stage": step.stage, "step": step.index, "seconds": round(seconds, 3), "gaussians": len(step.gaussians)}
        self._append("metrics.jsonl", json.dumps(line | numbers))
        if step.stage == "lift":
            rows = {label: (255 * images.clamp(0, 1)).round().byte() for label, images in self._first_rows(step)}
            with replacing(self.path / _FIRST_ROWS) as temporary:
                save_file(rows, temporary)
            self._rows = [(label, images / 255) for label, images in rows.items()]
            self.refresh("now")
        elif time.monotonic() >= self._next_refresh:
            self.refresh("now")

    def refresh(self, word: str) -> bool:
        """Write asset and preview as they stand, the last row labelled `word`; returns whether there was anything."""
        if self._latest is None:
            return False
        start = time.monotonic()
        gaussians, index, total = self._latest
        save(gaussians, self.path / "asset.ply")
        label = f"{word}\nstep {index} of {total}\n{len(gaussians):,} Gaussians"
        rows = [*self._rows, (label, draw(gaussians, self._preview_cameras()))]
        azimuths = [f"{degrees}\N{DEGREE SIGN}" for degrees in range(0, 360, 60)]
        write_png(contact_sheet(rows, azimuths), self.path / "preview.png")
        # On a slow renderer pictures may take long: never more than a tenth of the time goes into them.
        taken = time.monotonic() - start
        self._next_refresh = time.monotonic() + max(REFRESH_SECONDS, 9 * taken)
        return True

    def finish(self) -> list[Path]:
        """Write the final asset, preview and turntable; returns the paths of what a person wants to open."""
        self.refresh("final")
        assert self._latest is not None, "finish() before the first step"
        turntable = write_turntable(Frames(self._latest[0], orbit().cameras), self.path / "turntable.mp4")
        return [self.path / "asset.ply", self.path / "preview.png", turntable]

    def start(self, resolved: str) -> None:
        """Remove the outputs of an earlier run and write the resolved configuration, JSON text."""
        old = [self.path / name for name in (*OUTPUTS, _FIRST_ROWS)]
        for path in (*old, *checkpoints.newest_first(self.path)):
            path.unlink(missing_ok=True)
        self.write_config(resolved)

    def write_config(self, resolved: str) -> None:
        """Write the resolved configuration, JSON text."""
        with replacing(self.path / "config.json") as temporary:
            temporary.write_text(resolved + "\n", encoding="utf-8")

    def forget(self) -> None:
        """Remove the configuration and the record of a run that came to nothing."""
        for name in ("config.json", "run.json"):
            (self.path / name).unlink(missing_ok=True)

    def discard_if_empty(self) -> None:
        """Remove the folder again if this run made it and nothing but its lock was written."""
        lock = self.path / lock_name
        if lock.exists() and list(lock.parent.iterdir()) == [lock] and not (self.path / "config.json").exists():
            lock.unlink()
            lock.parent.rmdir()
        if self.new and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def _first_rows(self, step: Step) -> list[tuple[str, Tensor]]:
        """The preview's rows before the first step: label, images [6, H, W, 3]."""
        rows = [(f"initial\n{len(step.gaussians):,} Gaussians", draw(step.gaussians, self._preview_cameras()))]
        if step.cloud is not None:
            label = f"3D prior\n{len(step.cloud):,} points"
            rows.insert(0, (label, draw_points(step.cloud, self._preview_cameras())))
        return rows

    def _append(self, name: str, line: str) -> None:
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise FileProblem(f"{self.path / name}: cannot be written ({error.strerror}).") from error

    def _preview_cameras(self) -> Cameras:
        return orbit(6, size=self.preview_size).cameras


def _step_of(line: str) -> float:
    """The step of a line of the metrics; infinite if the line is damaged."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def _read_rows(path: Path) -> list[tuple[str, Tensor]]:
    """The preview's first rows; none if there is no such file, or it is damaged."""
    try:
        return [(label, images / 255) for label, images in load_file(path).items()]
    except FileNotFoundError:
        return []
    except (SafetensorError, OSError) as error:
        _log.warning("%s is damaged (%s): the preview goes on without its first rows.", path, error)
        return []


def check_name(path: Path) -> None:
    """Raise FileProblem if a folder's name is no UTF-8, as safetensors wants it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise FileProblem(f"{path}: its name is no UTF-8. Choose another, or rename the folder.") from error


def open_run(path: Path, overwrite: bool = False) -> RunFolder:
    """Make the folder of a run, or take an old one, and make sure that it can be written before any work is done.

    Args:
        path: the folder; its parents are made too.
        overwrite: allow a folder that is not empty; `RunFolder.start` removes earlier outputs, other files stay.

    Raises:
        FileProblem: if the path is a file, cannot be written, or is not empty without `overwrite`.
    """
    check_name(path)
    try:
        new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()) and not overwrite:
            raise FileProblem(f"{path}: the folder exists and is not empty. Choose another --out, or add --overwrite.")
        probe = path / ".dreamsplat-probe"
        probe.write_bytes(b"")
        probe.unlink()
    except FileProblem:
        raise
    except FileExistsError as error:
        raise FileProblem(f"{path}: is a file, expected a folder. Choose another --out.") from error
    except OSError as error:
        raise FileProblem(f"{path}: cannot be used as a folder ({error.strerror}). Choose another --out.") from error
    return RunFolder(path=path, new=new)
