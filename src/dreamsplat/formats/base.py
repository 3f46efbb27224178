"""The file formats for Gaussians, by the endings of files' names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dreamsplat import registry
from dreamsplat.formats import compressed_ply, glb, html, ply, sog, splat, spz
from dreamsplat.types import Gaussians


@dataclass(frozen=True)
class Format:
    """One file format for Gaussians."""

    name: str
    """Its usual name."""
    write: Callable[[Gaussians, Path], None]
    """Writes the file; replaces an existing one in one step."""
    read: Callable[[Path], Gaussians] | None
    """Reads it back as it is, on the CPU: `drawable` judges the values. None if such files are only written."""


PLY = Format("standard 3D Gaussian splatting PLY", ply.write, ply.read)
COMPRESSED_PLY = Format("PlayCanvas' compressed PLY", compressed_ply.write, compressed_ply.read)
GLB = Format("glTF with KHR_gaussian_splatting", glb.write, glb.read)
HTML = Format("a page that shows the asset", html.write, None)
SOG = Format("PlayCanvas' SOG", sog.write, sog.read)
SPLAT = Format("web viewers' .splat", splat.write, splat.read)
SPZ = Format("Niantic's .spz", spz.write, spz.read)
FORMATS: Mapping[str, Format] = registry.members("formats")
"""Ending of a file's name, in lower case and with its dot -> format. The longest that matches is used."""


def ending_of(path: Path) -> str | None:
    """The longest ending of a known format that a file's name has."""
    return max((end for end in FORMATS if path.name.lower().endswith(end)), key=len, default=None)
