"""What a list says of runs, read from their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dreamsplat.errors import FileProblem
from dreamsplat.runs import record as records
from dreamsplat.runs.lock import holder


def find_runs(folder: Path) -> list[Path]:
    """The run folders: `folder` itself, and those right below it.

    Raises:
        FileProblem: if the folder may not be read.
    """
    try:
        return list(filter(_is_run, (folder, *sorted(folder.iterdir()))))
    except OSError as error:
        raise FileProblem(f"{folder}: cannot be listed ({error.strerror}). Choose another folder.") from error


def _is_run(folder: Path) -> bool:
    try:
        return (folder / records.NAME).is_file()
    except OSError:  # A folder of somebody else.
        return False


def describe(run: Path) -> dict[str, Any]:
    """What a list says of a run. A run that says "running", while nobody writes, has died."""
    picture = run / "preview.png"
    told = {"folder": str(run), "picture": str(picture) if picture.exists() else None}
    try:
        record = records.read(run)
    except FileProblem as problem:
        unknown = {"prompt": "?", "step": 0, "steps": 0, "seconds": 0.0, "written": ""}
        return told | unknown | {"state": "damaged", "why": str(problem)}
    died = record["state"] == "running" and holder(run) is None
    names = ("prompt", "step", "steps", "seconds", "written", "why")
    return told | {name: record[name] for name in names} | {"state": "died" if died else record["state"]}
