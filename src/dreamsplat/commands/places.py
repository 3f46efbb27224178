"""The files that a command reads and writes, checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

from dreamsplat import registry
from dreamsplat.errors import FileProblem


def check_input(path: Path) -> None:
    """Raise FileProblem if there is no such file."""
    if not path.exists():
        raise FileProblem(f"{path}: no such file.", advice="Check the path.")


def check_output(path: Path, overwrite: bool) -> None:
    """Raise FileProblem if Gaussians cannot be written there."""
    known = registry.members("formats")
    if not any(path.name.lower().endswith(end) for end in known):
        raise FileProblem(
            f"{path}: Gaussians cannot be saved as '{path.suffix}'.",
            advice=f"Known endings: {', '.join(sorted(known))}.",
        )
    if not path.absolute().parent.is_dir():
        raise FileProblem(f"{path}: the folder {path.parent} does not exist.", advice="Create it first.")
    if path.is_dir():
        raise FileProblem(f"{path}: is a folder, expected the name of a file to write.")
    if path.exists() and not overwrite:
        raise FileProblem(f"{path}: the file exists.", advice="Choose another name, or add --overwrite.")
