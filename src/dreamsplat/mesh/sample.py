"""Coloured points on the surface of a mesh, uniform by area.

A mesh is a tuple of patches: triangles with a colour at each corner and possibly a texture.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dreamsplat.files.atomic import refuse
from dreamsplat.formats.any_ply import Column
from dreamsplat.formats.points import GREY
from dreamsplat.types import PointCloud, check_shapes

Wrap = Literal["repeat", "mirror", "clamp"]
"""What lies beyond the sides of a texture: it again, its mirror image, or its outermost colours."""


@dataclass(frozen=True)
class Patch:
    """F triangles that share one texture, or have none."""

    corners: Tensor
    """[F, 3, 3] corner positions (triangle, corner, coordinate)."""
    rgb: Tensor
    """[F, 3, 3] display colours of the corners; those of a texture are multiplied by them."""
    uv: Tensor | None = None
    """[F, 3, 2] texture coordinates of the corners: (0, 0) is the lower left of the texture."""
    texture: Tensor | None = None
    """[h, w, 3] uint8 display colours, first row on top."""
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")
    """What is beyond the texture along its width and its height."""

    def __post_init__(self) -> None:
        check_shapes(corners=(self.corners, "F 3 3"), rgb=(self.rgb, "F 3 3"))
        assert (self.uv is None) == (self.texture is None), "texture and texture coordinates need each other"


Surface = tuple[Patch, ...]
"""A whole mesh."""


def triangle_areas(surface: Surface) -> Tensor:
    """The area [F] of every triangle of every patch, in order."""
    corners = torch.cat([patch.corners for patch in surface])
    sides = corners[:, 1:] - corners[:, :1]  # [F, 2, 3]
    return torch.linalg.cross(sides[:, 0], sides[:, 1]).norm(dim=-1) / 2


def sample_surface(surface: Surface, count: int, generator: torch.Generator) -> PointCloud:
    """Points drawn uniformly by area, coloured by the texture or between the corners' colours: float32, on the CPU.

    Args:
        surface: Patches whose areas are finite and not all 0.
        count: Number of points, >= 1.
        generator: Source of all randomness: triangles, then places in them.
    """
    ends = triangle_areas(surface).cumsum(dim=0)
    drawn = torch.rand(count, generator=generator, dtype=torch.float64) * ends[-1]
    # `right` skips triangles without area; the clamp is for a product that was rounded up to the total.
    index = torch.searchsorted(ends, drawn, right=True).clamp_max(len(ends) - 1)
    # Uniform in a triangle: Osada et al. 2002, "Shape Distributions", eq. 1.
    root, share = torch.rand((count, 2), generator=generator, dtype=torch.float64).unbind(dim=1)
    root = root.sqrt()
    weights = torch.stack([1 - root, root * (1 - share), root * share], dim=1)  # [P, 3]
    xyz, rgb = torch.empty(count, 3), torch.empty(count, 3)
    first = 0
    for patch in surface:
        here = ((index >= first) & (index < first + len(patch.corners))).nonzero()[:, 0]
        rows, share_of = index[here] - first, weights[here, :, None]
        xyz[here] = (patch.corners[rows] * share_of).sum(dim=1).float()
        rgb[here] = _colours(patch, rows, share_of)
        first += len(patch.corners)
    return PointCloud(xyz=xyz, rgb=rgb)


def _colours(patch: Patch, rows: Tensor, weights: Tensor) -> Tensor:
    """The colours [P, 3] of points in triangles `rows` [P], at `weights` [P, 3, 1] of the corners."""
    rgb = (patch.rgb[rows] * weights).sum(dim=1).float()
    if patch.uv is None or patch.texture is None:
        return rgb
    u, v = (patch.uv[rows] * weights).sum(dim=1).unbind(dim=1)
    height, width = patch.texture.shape[:2]
    # The nearest texel: between texels lie the seams of an atlas.
    column = (_wrapped(u, patch.wrap[0]) * width).long().clamp_max(width - 1)
    row = (_wrapped(1 - v, patch.wrap[1]) * height).long().clamp_max(height - 1)
    return rgb * patch.texture[row, column].float() / 255


def _wrapped(places: Tensor, wrap: Wrap) -> Tensor:
    """Texture coordinates as places from 0 to 1 in the texture."""
    if wrap == "repeat":
        return places.remainder(1)
    return places.clamp(0, 1) if wrap == "clamp" else 1 - (places.remainder(2) - 1).abs()


def polygon_patch(
    path: Path,
    xyz: Tensor,  # [V, 3]
    polygons: Column,  # indices of vertices
    vertex_rgb: Tensor | None,  # [V, 3]
    face_rgb: Tensor | None,  # [M, 3], used without vertex_rgb
    most: int,
) -> Patch:
    """Polygons of any length as fans of triangles; lines and single points are ignored.

    Raises:
        FileProblem: naming `path`, if a polygon refers to a missing vertex, or there are over `most` triangles.
    """
    triangles = (polygons.lengths - 2).clip(0)  # [M] in the fan of each polygon
    if (count := int(triangles.sum())) > most:
        refuse(path, f"{count} triangles in too few bytes; the file is damaged")
    with np.errstate(invalid="ignore"):  # Values that are not integers fail the check below.
        vertices = polygons.values.astype(np.int64)
    owner = np.repeat(np.arange(len(triangles)), triangles)
    begin = (polygons.lengths.cumsum() - polygons.lengths)[owner]
    within = np.arange(count) - (triangles.cumsum() - triangles)[owner]
    corners = np.stack([vertices[begin], vertices[begin + within + 1], vertices[begin + within + 2]], axis=1)
    if corners.size and not 0 <= corners.min() <= corners.max() < len(xyz):
        refuse(path, f"a face refers to a vertex beyond its {len(xyz)}", "Export it again.")
    rgb = torch.tensor(GREY).expand(count, 3, 3)
    if vertex_rgb is not None:
        rgb = vertex_rgb.float()[corners]
    elif face_rgb is not None:
        rgb = face_rgb.float()[owner][:, None].expand(count, 3, 3)
    return Patch(xyz[corners], rgb)
