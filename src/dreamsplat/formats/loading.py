"""Loading Gaussians: what is in the file decides how it is read, and what cannot be drawn is dropped."""

import logging
import os
from os import PathLike
from pathlib import Path

import torch

from dreamsplat.assets.radiance_field import RadianceField
from dreamsplat.errors import FileProblem
from dreamsplat.files import kinds
from dreamsplat.files.kinds import Kind, kind_of
from dreamsplat.formats.base import FORMATS, ending_of
from dreamsplat.formats.drawable import drawable, drawable_points
from dreamsplat.formats.field_file import read_field
from dreamsplat.formats.oddities import warn_of_activated_values, warn_of_lost_detail
from dreamsplat.formats.points import read_points
from dreamsplat.method.lift import to_gaussians
from dreamsplat.types import Gaussians

POINT_OPACITY = 0.99
"""Opacity of the small ball that a point of a cloud becomes."""

_log = logging.getLogger(__name__)
_MARKED = {kind.ending for kind in (kinds.PLY, kinds.COMPRESSED_PLY, kinds.GLB, kinds.SOG, kinds.SPZ, kinds.SPLAT)}
"""Endings of formats that files are known by without them."""


def load(path: str | PathLike[str], *, strict: bool = False) -> Gaussians:
    """Read Gaussians from a file: float32, on the CPU, in physical units, with quaternions of length 1.

    What is in the file decides how it is read, whatever its name. Rows that cannot be drawn are dropped, and each point
    of a cloud becomes a small ball; a warning says so, and says what looks wrong.

    A radiance field is shown by Gaussians, which takes some seconds; `read_asset` gives the field itself.

    Args:
        path: a file, or the folder of an unpacked SOG.
        strict: refuse a file with rows that cannot be drawn.

    Raises:
        FileProblem: if the file is missing, of an unknown kind, or damaged.
    """
    return in_float32(Path(path), read(path, strict=strict))


def read(path: str | PathLike[str], *, strict: bool = False) -> Gaussians:
    """Like `load`, but centres stay in float64 where the file has them so: move those far from the origin first."""
    path = Path(path)
    kind = _kind(path)
    if kind.holds == "field":
        return read_field(path).gaussians()
    if kind.holds == "points":
        cloud = drawable_points(path, read_points(path), strict)
        _log.info("%s: a point cloud: each of its %s points becomes a small ball.", path, f"{len(cloud):,}")
        return to_gaussians(cloud, opacity=POINT_OPACITY)
    form = FORMATS[kind.ending]
    if form.read is None:
        known = ", ".join(sorted(end for end in FORMATS if FORMATS[end].read))
        raise FileProblem(f"{path}: {form.name} cannot be read back.", advice=f"Load the asset from one of {known}.")
    gaussians = drawable(path, form.read(path), strict)
    if kind == kinds.PLY:
        warn_of_activated_values(path, gaussians)
    return gaussians


def read_asset(path: str | PathLike[str], *, strict: bool = False) -> Gaussians | RadianceField:
    """What is in a file as it is: a radiance field, or Gaussians like `read`."""
    path = Path(path)
    return read_field(path) if kind_of(path) == kinds.FIELD else read(path, strict=strict)


def in_float32(path: Path, gaussians: Gaussians) -> Gaussians:
    """The same in float32; a warning tells how much detail that costs."""
    warn_of_lost_detail(path, gaussians)
    return gaussians.to(torch.float32)


def _kind(path: Path) -> Kind:
    """What a file holds: Gaussians or points, or it is refused."""
    named = ending_of(path)
    is_marked = named is None or named in _MARKED or os.path.isdir(path)
    kind = kind_of(path) if is_marked else None
    if kind is None and named is not None:  # Its reader says what is missing.
        return Kind("gaussians", named, FORMATS[named].name)
    if kind is None:
        known = ", ".join(sorted(end for end in FORMATS if FORMATS[end].read))
        raise FileProblem(
            f"{path}: neither its content nor the ending of its name says that it holds Gaussians.",
            advice=f"Known endings: {known}.",
        )
    if kind.holds == "mesh":
        raise FileProblem(
            f"{path}: {kind.words}, not Gaussians.",
            advice="To start a run from it, choose prior3d:points and set `prior3d.file`.",
        )
    if kind.holds == "other":
        raise FileProblem(f"{path}: {kind.words}, not Gaussians.", advice="Name a file of Gaussians.")
    if named is not None and named != kind.ending and (named, kind) != (".ply", kinds.COMPRESSED_PLY):
        _log.warning("%s: is %s whatever its name says, and is read as such.", path, kind.words)
    return kind
