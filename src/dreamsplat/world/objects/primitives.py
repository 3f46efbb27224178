"""The solids that objects of the bundled world are composed of: sampled on their surface, measured by distance.

Every primitive lives in its own axes, is a value of plain numbers, and answers four questions (`Primitive`). Points and
normals are float32 on the CPU, where generators live; distances follow the dtype and device of the points asked about.
The distance formulas follow Quilez, "3D signed distance functions", which are exact but for `Ellipsoid` and tapered
`Extrusion`s, where they are first-order right at the surface.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

Vector = tuple[float, float, float]
"""Three coordinates, or a colour."""


class Primitive(Protocol):
    """A closed solid in its own axes."""

    def surface(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points drawn uniformly by area: positions [count, 3] and outward unit normals [count, 3]."""
        ...

    def area(self) -> float:
        """Surface area, squared units."""
        ...

    def distance(self, xyz: Tensor) -> Tensor:
        """Signed distance [...] of the points [..., 3], negative inside."""
        ...

    def hull(self) -> Tensor:
        """Points [K, 3] on the surface that reach (nearly) as far as the solid does in every direction."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid around the origin, along the axes."""

    radii: Vector

    def surface(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uniform points: directions of the unit sphere, kept in proportion to how much the area stretches there."""
        radii = torch.tensor(self.radii, dtype=torch.float32)
        stretch_max = math.prod(self.radii) / min(self.radii)

        def draw(tries: int) -> Tensor:
            directions = _directions(tries, generator)
            stretch = math.prod(self.radii) * (directions / radii).norm(dim=-1)
            return directions[torch.rand(tries, generator=generator) * stretch_max <= stretch]

        directions = until(count, self.area() / (4 * math.pi * stretch_max), draw)
        return directions * radii, torch.nn.functional.normalize(directions / radii, dim=-1)

    def area(self) -> float:
        """Surface area by Thomsen's formula, right to 1.1 %."""
        a, b, c = (r**1.6075 for r in self.radii)
        return 4 * math.pi * ((a * b + a * c + b * c) / 3) ** (1 / 1.6075)

    def distance(self, xyz: Tensor) -> Tensor:
        """Signed distance [...] of [..., 3], exact for spheres."""
        radii = xyz.new_tensor(self.radii)
        scaled = xyz / radii
        length = scaled.norm(dim=-1)
        return length * (length - 1) / (scaled / radii).norm(dim=-1).clamp_min(1e-9) - (length < 1e-9) * min(self.radii)

    def hull(self) -> Tensor:
        """A spiral of points [K, 3] over the surface."""
        return _spiral() * torch.tensor(self.radii, dtype=torch.float32)


@dataclass(frozen=True)
class Box:
    """A box around the origin, along the axes, its edges optionally rounded."""

    half: Vector
    rounding: float = 0.0
    """Radius of edges and corners, at most the smallest half-width."""

    def _inner(self) -> Vector:
        x, y, z = self.half
        return x - self.rounding, y - self.rounding, z - self.rounding

    def _pieces(self) -> list[tuple[tuple[int, int, int], float]]:
        """(axes along which the normal leans, total area) of the six faces, twelve edges and eight corners."""
        (x, y, z), r = self._inner(), self.rounding
        faces = [((1, 0, 0), 8 * y * z), ((0, 1, 0), 8 * x * z), ((0, 0, 1), 8 * x * y)]
        edges = [((0, 1, 1), 4 * math.pi * r * x), ((1, 0, 1), 4 * math.pi * r * y), ((1, 1, 0), 4 * math.pi * r * z)]
        return faces + edges + [((1, 1, 1), 4 * math.pi * r * r)]

    def surface(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uniform points: a sphere is swept over the inner box, so a point is inner point + rounding * normal."""
        pieces = self._pieces()
        piece = pick([area for _, area in pieces], count, generator)
        leaning = torch.tensor([axes for axes, _ in pieces], dtype=torch.float32)[piece]
        normal = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator) * leaning, dim=-1)
        along = torch.where(leaning > 0, normal.sign(), torch.rand(count, 3, generator=generator) * 2 - 1)
        return along * torch.tensor(self._inner(), dtype=torch.float32) + self.rounding * normal, normal

    def area(self) -> float:
        """Surface area, exact."""
        return sum(area for _, area in self._pieces())

    def distance(self, xyz: Tensor) -> Tensor:
        """Signed distance [...] of [..., 3], exact."""
        beyond = xyz.abs() - xyz.new_tensor(self._inner())
        return beyond.clamp_min(0).norm(dim=-1) + beyond.amax(dim=-1).clamp_max(0) - self.rounding

    def hull(self) -> Tensor:
        """The eight rounded corners and the six faces' centres [14, 3]."""
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
        centres = torch.diag(torch.tensor(self.half, dtype=torch.float32))
        corners = signs * (torch.tensor(self._inner(), dtype=torch.float32) + self.rounding / math.sqrt(3))
        return torch.cat([corners, centres, -centres])


@dataclass(frozen=True)
class Torus:
    """A ring around z in the xy plane, or an arc of one with round ends, symmetric about +x."""

    major: float
    minor: float
    half_arc: float = math.pi
    """Half the angle that the arc spans, radians; pi closes the ring."""

    def _areas(self) -> tuple[float, float]:
        tube = 4 * math.pi * self.minor * self.major * self.half_arc
        return tube, 0.0 if self.half_arc >= math.pi else 4 * math.pi * self.minor**2

    def surface(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uniform points on the tube and its two end caps."""
        turn = (torch.rand(count, generator=generator) * 2 - 1) * self.half_arc
        tube_angle = torch.rand(count, generator=generator) * 2 * math.pi
        # The outer half of a tube is larger: an inner point is mirrored outwards with exactly the missing probability.
        outer = (1 + self.minor / self.major * tube_angle.cos()) / 2
        tube_angle = torch.where(torch.rand(count, generator=generator) < outer, tube_angle, math.pi - tube_angle)
        radial, up = tube_angle.cos(), tube_angle.sin()
        normal = torch.stack([radial * turn.cos(), radial * turn.sin(), up], dim=-1)
        at_end = pick(list(self._areas()), count, generator) == 1
        ball = _directions(count, generator)
        side = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
        # The outward half of a ball at either end: turn directions that point back into the tube around.
        onward = side * (ball[:, 1] * math.cos(self.half_arc) - side * ball[:, 0] * math.sin(self.half_arc))
        ball = torch.where((onward < 0)[:, None], -ball, ball)
        normal = torch.where(at_end[:, None], ball, normal)
        turn = torch.where(at_end, side * self.half_arc, turn)
        centre = torch.stack([turn.cos(), turn.sin(), torch.zeros(count)], dim=-1) * self.major
        return centre + self.minor * normal, normal

    def area(self) -> float:
        """Surface area, exact."""
        return sum(self._areas())

    def distance(self, xyz: Tensor) -> Tensor:
        """Signed distance [...] of [..., 3], exact."""
        turn = torch.atan2(xyz[..., 1], xyz[..., 0]).clamp(-self.half_arc, self.half_arc)
        centre = torch.stack([turn.cos(), turn.sin(), torch.zeros_like(turn)], dim=-1) * self.major
        return (xyz - centre).norm(dim=-1) - self.minor

    def hull(self) -> Tensor:
        """Points [K, 3] on the outer rim, the top and the bottom of the tube, and around its ends."""
        turn = torch.linspace(-self.half_arc, self.half_arc, 33)
        rim = torch.stack([turn.cos(), turn.sin(), torch.zeros_like(turn)], dim=-1)
        up = torch.tensor([0.0, 0.0, self.minor])
        around = torch.cat([torch.eye(3), -torch.eye(3)]) * self.minor
        ends = (rim[[0, -1], None] * self.major + around).reshape(-1, 3)
        return torch.cat([rim * (self.major + self.minor), rim * self.major + up, rim * self.major - up, ends])


def pick(weights: list[float], count: int, generator: torch.Generator) -> Tensor:
    """Indices [count], drawn in proportion to weights >= 0."""
    upto = torch.tensor(weights).cumsum(0)
    drawn = torch.rand(count, generator=generator) * upto[-1]
    return torch.searchsorted(upto, drawn, right=True).clamp_max(len(weights) - 1)


def _directions(count: int, generator: torch.Generator) -> Tensor:
    """Uniform unit vectors [count, 3]."""
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)


def until(count: int, accepted_share: float, draw: Callable[[int], Tensor]) -> Tensor:
    """Exactly `count` rows from a rejection sampler: draw(tries) returns those of `tries` rows that were accepted."""
    rows = draw(math.ceil(count / accepted_share * 1.1) + 16)
    while len(rows) < count:
        rows = torch.cat([rows, draw(count)])
    return rows[:count]


@cache
def _spiral(count: int = 200) -> Tensor:
    """A golden spiral of directions [count, 3] that covers the unit sphere evenly."""
    index = torch.arange(count) + 0.5
    z, turn = 1 - 2 * index / count, index * math.pi * (1 + math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * turn.cos(), radius * turn.sin(), z], -1)
