"""What a list says of runs, read from their folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreamsplat.errors import FileProblem
from dreamsplat.runs.folder import PREVIEW, RECORD
from dreamsplat.runs.lock import holder
from dreamsplat.runs.record import read_record


@dataclass(frozen=True)
class Summary:
    """A run in a list."""

    folder: Path
    """Its folder."""
    state: str
    """`record.State`; "died" for a run that was killed, "damaged" where the record cannot be read."""
    prompt: str = "?"
    """Its prompt."""
    step: int = 0
    """Optimisation steps done."""
    steps: int = 0
    """Optimisation steps of the whole run."""
    seconds: float = 0.0
    """How long it has taken."""
    written: str = ""
    """When its record was last written, ISO 8601."""
    why: str | None = None
    """What went wrong."""
    picture: Path | None = None
    """Its preview; None if there is none yet."""


def find_runs(folder: Path) -> list[Path]:
    """The run folders: `folder` itself, those right below it, and those in its `runs`, where new ones go.

    Raises:
        FileProblem: if the folder may not be read.
    """
    try:
        below = sorted(folder.iterdir())
        default = sorted((folder / "runs").iterdir()) if (folder / "runs").is_dir() else []
        return list(filter(_is_run, (folder, *below, *default)))
    except OSError as error:
        raise FileProblem(f"{folder}: cannot be listed ({error.strerror}).", advice="Choose another folder.") from error


def summarise(folder: Path) -> Summary:
    """What a list says of a run."""
    picture = folder / PREVIEW if (folder / PREVIEW).exists() else None
    try:
        record = read_record(folder)
    except FileProblem as problem:
        return Summary(folder, "damaged", why=str(problem), picture=picture)
    died = record.state == "running" and holder(folder) is None
    return Summary(
        folder=folder, state="died" if died else record.state, prompt=record.prompt, step=record.step,
        steps=record.steps, seconds=record.seconds, written=record.written, why=record.why, picture=picture,
    )  # fmt: skip


def _is_run(folder: Path) -> bool:
    try:
        return (folder / RECORD).is_file()
    except OSError:  # A folder that we may not read.
        return False
