"""Coloured objects made of parts: surface points, signed distance, and colours under one fixed light.

The colour of every point is linear in the caption's colour c (`LitPoints.colours`), so one sampling of an object serves
all colours. The light is fixed to the world and has no highlights: a point has the same colour from every side, as
the Gaussians that are made from it do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from dreamsplat.world.objects.primitives import Primitive, Vector

# The light: where it comes from (upper front left), and how its three terms share the full brightness of 1.
_TO_LIGHT = torch.nn.functional.normalize(torch.tensor([-0.35, -0.65, 0.8]), dim=0)
_AMBIENT, _SKY, _DIFFUSE = 0.55, 0.13, 0.32
_BURIED = 2e-3  # World units below the surface of another part at which a point counts as hidden.
_BOUNDS_MARGIN = 0.02  # World units; covers what the points of a hull miss between them.


@dataclass(frozen=True, eq=False)
class Part:
    """A primitive with its place and colour in an object: world = scale * rotation @ local + translation."""

    primitive: Primitive
    colour: Vector | Literal["main"] = "main"
    """A fixed display colour in [0, 1], or "main" for the colour that the caption names."""
    brightness: float = 1.0
    """Factor on the colour, in (0, 1]."""
    translation: Vector = (0.0, 0.0, 0.0)
    """World position of the primitive's origin."""
    rotation: Tensor = field(default_factory=lambda: torch.eye(3))
    """[3, 3] from the primitive's axes to the world's."""
    scale: float = 1.0
    """World units per unit of the primitive."""

    def to_local(self, xyz: Tensor) -> Tensor:
        """World points [..., 3] in the primitive's axes and units [..., 3]."""
        return (xyz - xyz.new_tensor(self.translation)) @ (self.rotation.to(xyz) / self.scale)

    def to_world(self, xyz: Tensor) -> Tensor:
        """Points of the primitive [..., 3] in the world [..., 3]."""
        return xyz @ (self.rotation.to(xyz).T * self.scale) + xyz.new_tensor(self.translation)

    @cached_property
    def bounds(self) -> Tensor:
        """Lowest and highest world coordinates [2, 3], a little generous."""
        hull = self.to_world(self.primitive.hull())
        return torch.stack([hull.amin(0) - _BOUNDS_MARGIN, hull.amax(0) + _BOUNDS_MARGIN])

    def area(self) -> float:
        """Surface area, squared world units."""
        return self.primitive.area() * self.scale**2

    def distance(self, xyz: Tensor) -> Tensor:
        """Signed distance [...] of world points [..., 3], world units, negative inside."""
        return self.primitive.distance(self.to_local(xyz)) * self.scale

    def paint(self) -> tuple[Vector, float]:
        """The unlit colour as (fixed rgb, share of the caption's colour)."""
        if self.colour == "main":
            return (0.0, 0.0, 0.0), self.brightness
        r, g, b = self.colour
        return (r * self.brightness, g * self.brightness, b * self.brightness), 0.0


@dataclass(frozen=True)
class LitPoints:
    """Lit points on the surface of an object."""

    xyz: Tensor
    """[P, 3] positions, world units."""
    normal: Tensor
    """[P, 3] outward unit normals."""
    base_rgb: Tensor
    """[P, 3] lit colour that does not depend on the caption, in [0, 1]."""
    main_shade: Tensor
    """[P] factor on the caption's colour, in [0, 1]."""

    def colours(self, rgb: Tensor) -> Tensor:
        """Display colours [P, 3] in [0, 1] for the caption's colour rgb [3]."""
        return self.base_rgb + self.main_shade[:, None] * rgb.to(self.base_rgb)


def shade(normal: Tensor) -> Tensor:
    """Brightness [...] in [0.55, 1] of surfaces with unit normals [..., 3]: ambient + sky + diffuse."""
    diffuse = (normal @ _TO_LIGHT.to(normal)).clamp_min(0)
    return _AMBIENT + _SKY * (1 + normal[..., 2]) / 2 + _DIFFUSE * diffuse


def surface_points(parts: Sequence[Part], count: int, generator: torch.Generator) -> LitPoints:
    """Draw exactly `count` points, uniformly by area, on what shows of an object: nothing inside another part."""
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    found, tries = 0, math.ceil(count * 2.2) + 16
    while found < count:
        xyz, normal, owner = _sample(parts, tries, generator)
        shown = ~_buried(parts, xyz, owner)
        kept.append((xyz[shown], normal[shown], owner[shown]))
        share = max(int(shown.sum()) / tries, 0.05)
        found += int(shown.sum())
        tries = math.ceil((count - found) / share * 1.1) + 16
    # Points come part by part; a shuffle makes any prefix of them uniform as well.
    chosen = torch.randperm(found, generator=generator)[:count]
    xyz, normal, owner = (torch.cat(columns)[chosen] for columns in zip(*kept, strict=True))
    return _lit(parts, xyz, normal, owner)


def signed_distance(parts: Sequence[Part], xyz: Tensor) -> Tensor:
    """Signed distance [...] of world points [..., 3] to an object, world units, negative inside."""
    return torch.stack([part.distance(xyz) for part in parts]).amin(0)


def nearest_part_colour(parts: Sequence[Part], xyz: Tensor) -> tuple[Tensor, Tensor]:
    """Lit colour of the part nearest to each of the world points [..., 3], as `LitPoints` holds it.

    Returns:
        base_rgb [..., 3] and main_shade [...]; the light falls on the direction in which the part's distance grows.
    """
    flat = xyz.reshape(-1, 3)
    owner = torch.stack([part.distance(flat) for part in parts]).argmin(0)
    normal = torch.zeros_like(flat)
    for index, part in enumerate(parts):
        rows = (owner == index).nonzero().squeeze(-1)
        if len(rows):
            normal[rows] = _gradient(part, flat[rows])
    lit = _lit(parts, flat, normal, owner)
    return lit.base_rgb.reshape(xyz.shape), lit.main_shade.reshape(xyz.shape[:-1])


def fitted(parts: Sequence[Part], radius: float = 0.92) -> tuple[Part, ...]:
    """The same object, its bounding box centred on the origin and its farthest point `radius` away."""
    hull = torch.cat([part.to_world(part.primitive.hull()) for part in parts])
    centre = (hull.amin(0) + hull.amax(0)) / 2
    factor = radius / float((hull - centre).norm(dim=-1).max())
    x0, y0, z0 = centre.tolist()

    def moved(part: Part) -> Part:
        x, y, z = part.translation
        place = ((x - x0) * factor, (y - y0) * factor, (z - z0) * factor)
        return replace(part, translation=place, scale=part.scale * factor)

    return tuple(moved(part) for part in parts)


def _sample(parts: Sequence[Part], count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Points [P, 3], normals [P, 3] and part indices [P], in proportion to area; P is `count`, part by part."""
    upto = torch.tensor([part.area() for part in parts]).cumsum(0)
    # Systematic sampling: one random offset, so that small parts get their fair number on average and none is lost.
    ticks = (upto / upto[-1] * count + torch.rand(1, generator=generator)).floor().clamp_max(count).long()
    ticks[-1] = count
    counts = ticks.diff(prepend=ticks.new_zeros(1)).tolist()
    columns = [part.primitive.surface(n, generator) for part, n in zip(parts, counts, strict=True)]
    xyz = torch.cat([part.to_world(points) for part, (points, _) in zip(parts, columns, strict=True)])
    normal = torch.cat([normals @ part.rotation.T for part, (_, normals) in zip(parts, columns, strict=True)])
    return xyz, normal, torch.repeat_interleave(torch.tensor(counts))


def _buried(parts: Sequence[Part], xyz: Tensor, owner: Tensor) -> Tensor:
    """Whether each of the points [P, 3] lies inside a part other than its owner [P]."""
    bounds = torch.stack([part.bounds for part in parts])
    near = ((xyz > bounds[:, :1]) & (xyz < bounds[:, 1:])).all(-1)  # [parts, P]
    near[owner, torch.arange(len(xyz))] = False
    buried = torch.zeros(len(xyz), dtype=torch.bool)
    for part, candidates in zip(parts, near, strict=True):
        rows = candidates.nonzero().squeeze(-1)
        if len(rows):
            buried[rows] |= part.distance(xyz[rows]) < -_BURIED
    return buried


def _gradient(part: Part, xyz: Tensor, step: float = 1e-3) -> Tensor:
    """Unit direction [P, 3] in which the distance of a part grows at the points [P, 3], by central differences."""
    shifts = step * torch.eye(3, dtype=xyz.dtype, device=xyz.device)
    change = part.distance(xyz[:, None] + shifts) - part.distance(xyz[:, None] - shifts)
    return torch.nn.functional.normalize(change, dim=-1)


def _lit(parts: Sequence[Part], xyz: Tensor, normal: Tensor, owner: Tensor) -> LitPoints:
    """Points [P, 3] with normals [P, 3] that belong to parts [P], coloured and lit."""
    paints = [part.paint() for part in parts]
    fixed = xyz.new_tensor([rgb for rgb, _ in paints])[owner]
    main = xyz.new_tensor([share for _, share in paints])[owner]
    light = shade(normal)
    return LitPoints(xyz=xyz, normal=normal, base_rgb=light[:, None] * fixed, main_shade=light * main)
