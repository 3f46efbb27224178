"""Names of the files that belong to a textured .obj."""

from pathlib import Path


def obj_companions(path: Path) -> tuple[Path, Path]:
    """The .mtl and the .png beside a textured .obj; spaces become _, since some readers cut names there."""
    stem = "_".join(path.stem.split())
    return path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}.png")
