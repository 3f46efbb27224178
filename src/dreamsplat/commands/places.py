"""Where a command reads and writes: what cannot be right is refused before torch is imported."""

from __future__ import annotations

import os
from pathlib import Path

from dreamsplat.errors import FileProblem
from dreamsplat.runs.folder import check_name


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder for a run that cannot be made or written, or holds something that may not be overwritten.

    Raises:
        FileProblem: naming what is in the way.
    """
    check_name(folder)
    try:
        existing = _nearest(folder.absolute())
        taken = existing == folder.absolute() and existing.is_dir() and any(existing.iterdir())
    except OSError as error:  # such as a name that is too long
        raise FileProblem(
            f"{folder}: cannot be used as a folder ({error.strerror}).", advice="Choose another."
        ) from error
    if not existing.is_dir():
        raise FileProblem(f"{folder}: {existing} is a file, expected a folder.", advice="Choose another name.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise FileProblem(f"{folder}: you may not write to {existing}.", advice="Choose another folder.")
    if taken and not overwrite:
        raise FileProblem(
            f"{folder}: the folder exists and is not empty.", advice="Choose another --out, or add --overwrite."
        )


def _nearest(path: Path) -> Path:
    """The path itself or, while it does not exist, the first folder above it that does."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return _nearest(path.parent)
    return path
