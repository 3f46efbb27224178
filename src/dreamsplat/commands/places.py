"""Where a command reads and writes: what cannot be right is refused before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dreamsplat import registry
from dreamsplat.errors import FileProblem
from dreamsplat.files.kinds import EXPORTS, kind_of
from dreamsplat.runs.folder import ASSET, check_name


def check_input(path: Path) -> None:
    """Refuse a file that Gaussians cannot be read from: one that is missing, or certainly holds something else."""
    if (path / ASSET).is_file():
        raise FileProblem(f"{path}: the folder of a run, expected a file.", advice=f"Name its asset: {path / ASSET}.")
    kind = kind_of(path)
    ours = ending(path, registry.names("formats")) is not None
    if kind is None and not ours:
        advice = f"Known endings: {', '.join(sorted(registry.names('formats')))}."
        raise FileProblem(f"{path}: neither its content nor its name says that it holds Gaussians.", advice=advice)
    if kind is not None and kind.holds == "other" and not ours:
        raise FileProblem(f"{path}: {kind.words}, not Gaussians.", advice="Name a file of Gaussians.")


def check_output(path: Path, overwrite: bool, known: Sequence[str] = ()) -> str:
    """Refuse a file that cannot be written, is of an unknown kind, or is there and may not be replaced.

    Args:
        path: The file.
        overwrite: Whether it may be replaced.
        known: Endings of the names of files that can be written; by default those of files of Gaussians.

    Returns:
        The ending of its name.

    Raises:
        FileProblem: naming what is wrong.
    """
    kind = _known_ending(path, known or registry.names("formats"))
    try:
        path.lstat()
    except FileNotFoundError:
        if not os.path.isdir(path.absolute().parent):
            why = f"{path}: the folder '{path.parent}' does not exist."
            raise FileProblem(why, advice="Create it first.") from None
        return kind
    except OSError as error:  # such as a name that is too long
        raise FileProblem(f"{path}: cannot be used ({error.strerror}).", advice="Choose another name.") from error
    if path.is_dir():
        raise FileProblem(f"{path}: is a folder, expected the name of a file to write.")
    if not overwrite:
        raise FileProblem(f"{path}: the file exists.", advice="Choose another name, or add --overwrite.")
    return kind


def ending(path: Path, known: Sequence[str]) -> str | None:
    """The longest of the known endings that a file's name has after at least one letter."""
    ends = [end for end in known if path.name.lower().endswith(end) and len(path.name) > len(end)]
    return max(ends, key=len, default=None)


def _known_ending(path: Path, known: Sequence[str]) -> str:
    if (export := ending(path, EXPORTS)) is not None and export not in known:
        raise FileProblem(f"{path}: {export} files hold no Gaussians.", advice="Write them with `dreamsplat convert`.")
    if (found := ending(path, known)) is None:
        advice = f"Known endings: {', '.join(sorted(known))}."
        raise FileProblem(f"{path}: unknown format '{path.suffix}'.", advice=advice)
    return found


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
