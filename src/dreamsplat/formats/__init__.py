"""Saving and loading Gaussians; the file's suffix chooses the format from `FORMATS`.

To add a format, write a module with `write(gaussians, path)` and `read(path)`, describe it below, and add its line to
`registry.py`; or register it from a package of your own (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch

from dreamsplat import registry
from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files.atomic import read_start
from dreamsplat.formats import compressed_ply, glb, html, ply, sog, splat, spz
from dreamsplat.types import AbstractAsset, Gaussians

__all__ = ["FORMATS", "Format", "load", "save"]


@dataclass(frozen=True)
class Format:
    """One file format for Gaussians."""

    name: str
    """Its usual name."""
    write: Callable[[Gaussians, Path], None]
    """Writes the file; replaces an existing one in one step."""
    read: Callable[[Path], Gaussians] | None
    """Reads it back: float32, on the CPU. None if such files are only written."""


def _read_any_ply(path: Path) -> Gaussians:
    """A standard PLY, or a compressed one, to which other programs give the same suffix."""
    return compressed_ply.read(path) if compressed_ply.is_compressed(read_start(path)) else ply.read(path)


PLY = Format("standard 3D Gaussian splatting PLY", ply.write, _read_any_ply)
COMPRESSED_PLY = Format("PlayCanvas' compressed PLY", compressed_ply.write, compressed_ply.read)
GLB = Format("glTF with KHR_gaussian_splatting", glb.write, glb.read)
HTML = Format("a page that shows the asset", html.write, None)
SOG = Format("PlayCanvas' SOG", sog.write, sog.read)
SPLAT = Format("web viewers' .splat", splat.write, splat.read)
SPZ = Format("Niantic's .spz", spz.write, spz.read)
FORMATS: Mapping[str, Format] = registry.members("formats")
"""Ending of a file's name, in lower case and with its dot -> format. The longest that matches is used."""


def save(asset: AbstractAsset, path: str | PathLike[str]) -> None:
    """Write an asset's Gaussians to a file; an existing file of that name is replaced in one step.

    Args:
        asset: its Gaussians have finite values, scales > 0, opacities in [0, 1] and quaternions of any non-zero length;
            any device.
        path: its suffix chooses the format, see `FORMATS`.

    Raises:
        FileProblem: if the suffix is unknown, or the file cannot be written.
        InvalidInput: if a value is not finite or outside its range.
    """
    path = Path(path)
    chosen = _format_of(path, "saved")
    gaussians = asset.gaussians()
    _check_values(gaussians)
    chosen.write(gaussians.detach(), path)


def load(path: str | PathLike[str]) -> Gaussians:
    """Read Gaussians from a file: float32, on the CPU, in physical units, with quaternions of length 1.

    Raises:
        FileProblem: if the file is missing, of an unknown kind, truncated, or holds values that are not finite.
    """
    path = Path(path)
    chosen = _format_of(path, "loaded")
    known = ", ".join(sorted(end for end in FORMATS if FORMATS[end].read))
    if chosen.read is None:
        raise FileProblem(f"{path}: {chosen.name} cannot be read back.", advice=f"Load the asset from one of {known}.")
    return chosen.read(path)


def _format_of(path: Path, verb: str) -> Format:
    ends = [end for end in FORMATS if path.name.lower().endswith(end)]
    if not ends:
        known = ", ".join(sorted(end for end in FORMATS if verb == "saved" or FORMATS[end].read))
        raise FileProblem(f"{path}: Gaussians cannot be {verb} as '{path.suffix}'.", advice=f"Known endings: {known}.")
    return FORMATS[max(ends, key=len)]


def _check_values(gaussians: Gaussians) -> None:
    # As float32, because that is what files hold.
    rules = {
        f"{name}: a value is NaN or infinite": torch.isfinite(values.float())
        for name, values in gaussians.tensors().items()
    }
    rules["scales: a value is not above 0"] = gaussians.scales > 0
    rules["opacities: a value is outside [0, 1]"] = (gaussians.opacities >= 0) & (gaussians.opacities <= 1)
    rules["quats: a quaternion is 0 0 0 0"] = (gaussians.quats.float() != 0).any(dim=-1)
    for complaint, holds in rules.items():
        if not bool(holds.all()):
            bad = ~holds.reshape(len(gaussians), -1).all(dim=-1)
            where = f"Gaussian {int(bad.nonzero()[0])}, {int(bad.sum())} in all"
            raise InvalidInput(f"{complaint} ({where}); nothing was written.", advice="Remove those Gaussians first.")
