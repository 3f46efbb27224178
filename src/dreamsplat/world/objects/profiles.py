"""The solids that follow a drawn outline: turned round an axis, swept between two discs, or extruded.

They answer the questions of `primitives.Primitive`; their distances come from one signed distance to a polygon
(Quilez, "2D distance functions").
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dreamsplat.world.objects.primitives import Vector, pick, until

Outline = tuple[tuple[float, float], ...]
"""The corners of a polygon, counter-clockwise, each once."""


@dataclass(frozen=True)
class Lathe:
    """A closed profile turned round the z axis: cups, caps, bowls, rings."""

    profile: Outline
    """Corners (r, z), r >= 0, counter-clockwise with r to the right and z up; edges on the axis are no surface."""

    def _areas(self) -> list[float]:
        return [math.pi * (r0 + r1) * math.hypot(r1 - r0, z1 - z0) for (r0, z0), (r1, z1) in _edges(self.profile)]

    def surface(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uniform points on the turned edges."""
        drawn = pick(self._areas(), count, generator)
        edges = torch.tensor(_edges(self.profile), dtype=torch.float32)[drawn]  # [count, 2, 2]
        (r0, z0), (r1, z1) = (end.unbind(-1) for end in edges.unbind(1))
        step_r, step_z = r1 - r0, z1 - z0
        along = _along_trapezoid(r0, r1, torch.rand(count, generator=generator))
        radius, z = r0 + along * step_r, z0 + along * step_z
        turn = torch.rand(count, generator=generator) * 2 * math.pi
        length = torch.hypot(step_r, step_z)
        out_r, out_z = step_z / length, -step_r / length
        cos, sin = turn.cos(), turn.sin()
        return torch.stack([radius * cos, radius * sin, z], -1), torch.stack([out_r * cos, out_r * sin, out_z], -1)

    def area(self) -> float:
        """Surface area, exact."""
        return sum(self._areas())

    def distance(self, xyz: Tensor) -> Tensor:
        """Signed distance [...] of [..., 3], exact."""
        on_axis = [max(r0, r1) < 1e-9 for (r0, _), (r1, _) in _edges(self.profile)]
        # A hair off the axis, where the test for inside would be undecided.
        radius = xyz[..., :2].norm(dim=-1).clamp_min(1e-6)
        return _polygon_distance(self.profile, radius, xyz[..., 2], ignored=on_axis)

    def hull(self) -> Tensor:
        """The corners of the profile at 24 turns [K, 3]."""
        radius, z = torch.tensor(self.profile, dtype=torch.float32)[:, None].expand(-1, 24, -1).unbind(-1)
        turn = torch.arange(24) * (2 * math.pi / 24)
        return torch.stack([radius * turn.cos(), radius * turn.sin(), z], -1).reshape(-1, 3)


@dataclass(frozen=True)
class CappedCone:
    """A cylinder, cone or frustum between two points."""

    a: Vector
    """Centre of the first end."""
    b: Vector
    """Centre of the second end."""
    ra: float
    """Radius at `a`, > 0."""
    rb: float
    """Radius at `b`, >= 0; 0 makes a pointed cone."""

    @cached_property
    def _upright(self) -> Lathe:
        length = math.dist(self.a, self.b)
        rest = ((self.rb, length), (0.0, length)) if self.rb > 0 else ((0.0, length),)
        return Lathe(((0.0, 0.0), (self.ra, 0.0), *rest))

    @cached_property
    def _axes(self) -> Tensor:
        """Rows: two directions across the cone, and the one from a to b [3, 3]."""
        axis = torch.tensor([self.a, self.b], dtype=torch.float32).diff(dim=0)[0]
        axis = torch.nn.functional.normalize(axis, dim=0)
        helper = torch.tensor([1.0, 0.0, 0.0] if abs(float(axis[0])) < 0.7 else [0.0, 1.0, 0.0])
        across = torch.nn.functional.normalize(torch.linalg.cross(axis, helper), dim=0)
        return torch.stack([across, torch.linalg.cross(axis, across), axis])

    def surface(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uniform points on the side and the ends."""
        xyz, normal = self._upright.surface(count, generator)
        axes = self._axes
        return xyz @ axes + torch.tensor(self.a, dtype=torch.float32), normal @ axes

    def area(self) -> float:
        """Surface area, exact."""
        return self._upright.area()

    def distance(self, xyz: Tensor) -> Tensor:
        """Signed distance [...] of [..., 3], exact."""
        return self._upright.distance((xyz - xyz.new_tensor(self.a)) @ self._axes.to(xyz).T)

    def hull(self) -> Tensor:
        """Points [K, 3] on the two rims."""
        return self._upright.hull() @ self._axes + torch.tensor(self.a, dtype=torch.float32)


@dataclass(frozen=True)
class Extrusion:
    """A polygon in the xy plane, extruded along z from -half_depth to +half_depth."""

    outline: Outline
    """Corners (x, y), counter-clockwise; may be concave."""
    half_depth: float
    taper: float = 1.0
    """Size of the polygon at +half_depth relative to -half_depth, > 0."""

    def _polygon_area(self) -> float:
        return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in _edges(self.outline)) / 2

    def _areas(self) -> list[float]:
        """Areas of the sides, then of the caps at -half_depth and +half_depth."""
        sides = []
        for (x0, y0), (x1, y1) in _edges(self.outline):
            length = math.hypot(x1 - x0, y1 - y0)
            lean = (x0 * y1 - x1 * y0) / length * (1 - self.taper)
            sides.append(length * (1 + self.taper) / 2 * math.hypot(2 * self.half_depth, lean))
        return [*sides, self._polygon_area(), self._polygon_area() * self.taper**2]

    def surface(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uniform points on the sides and the two caps."""
        piece = pick(self._areas(), count, generator)
        sides = len(self.outline)
        edges = torch.tensor(_edges(self.outline), dtype=torch.float32)[piece.clamp_max(sides - 1)]
        start, step = edges[:, 0], edges[:, 1] - edges[:, 0]
        outward = torch.nn.functional.normalize(torch.stack([step[:, 1], -step[:, 0]], -1), dim=-1)
        lean = (start * outward).sum(-1) * (1 - self.taper)
        uniform = torch.rand(count, generator=generator)
        height = _along_trapezoid(torch.ones(count), torch.full((count,), self.taper), uniform)
        depth = 2 * self.half_depth
        flat = start + step * torch.rand(count, 1, generator=generator)
        normal = torch.nn.functional.normalize(torch.cat([outward * depth, lean[:, None]], -1), dim=-1)
        cap = piece >= sides
        height = torch.where(cap, (piece > sides).float(), height)
        flat[cap] = self._inside(int(cap.sum()), generator)
        normal[cap] = torch.stack([torch.zeros_like(height), torch.zeros_like(height), 2 * height - 1], -1)[cap]
        size = 1 + (self.taper - 1) * height
        return torch.cat([flat * size[:, None], ((height - 0.5) * depth)[:, None]], -1), normal

    def _inside(self, count: int, generator: torch.Generator) -> Tensor:
        """Uniform points [count, 2] in the polygon."""
        corners = torch.tensor(self.outline, dtype=torch.float32)
        low, span = corners.amin(0), corners.amax(0) - corners.amin(0)

        def draw(tries: int) -> Tensor:
            flat = low + span * torch.rand(tries, 2, generator=generator)
            return flat[_polygon_distance(self.outline, flat[:, 0], flat[:, 1]) <= 0]

        return until(count, self._polygon_area() / float(span.prod()), draw)

    def area(self) -> float:
        """Surface area, exact."""
        return sum(self._areas())

    def distance(self, xyz: Tensor) -> Tensor:
        """Signed distance [...] of [..., 3], exact without taper."""
        size = 1 + (self.taper - 1) * (xyz[..., 2] / (2 * self.half_depth) + 0.5).clamp(0, 1)
        flat = xyz[..., :2] / size[..., None]
        reach = max(math.hypot(x, y) for x, y in self.outline) * (1 - self.taper)
        steepness = 2 * self.half_depth / math.hypot(2 * self.half_depth, reach)
        across = _polygon_distance(self.outline, flat[..., 0], flat[..., 1]) * size * steepness
        beyond = torch.stack([across, xyz[..., 2].abs() - self.half_depth], -1)
        return beyond.clamp_min(0).norm(dim=-1) + beyond.amax(dim=-1).clamp_max(0)

    def hull(self) -> Tensor:
        """The corners of both caps [K, 3]."""
        corners = torch.tensor(self.outline, dtype=torch.float32)
        depth = torch.full((len(corners), 1), self.half_depth)
        return torch.cat([torch.cat([corners, -depth], -1), torch.cat([corners * self.taper, depth], -1)])


def _edges(outline: Outline) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return list(zip(outline, outline[1:] + outline[:1], strict=True))


def _along_trapezoid(
    start: Tensor,  # [P] width where the result is 0
    end: Tensor,  # [P] width where it is 1
    uniform: Tensor,  # [P] in [0, 1)
) -> Tensor:
    """Heights [P] in [0, 1], distributed in proportion to the width, which changes linearly from start to end."""
    width = (start**2 + uniform * (end**2 - start**2)).sqrt()
    change = end - start
    even = change.abs() < 1e-4
    return torch.where(even, uniform, (width - start) / torch.where(even, 1.0, change)).clamp(0, 1)


def _polygon_distance(outline: Outline, x: Tensor, y: Tensor, ignored: list[bool] | None = None) -> Tensor:
    """Signed distance [...] of the points (x, y), [...] each, to a polygon; ignored edges only close it."""
    corners = x.new_tensor(outline)
    (ax, ay), (ex, ey) = corners.unbind(-1), (corners.roll(-1, 0) - corners).unbind(-1)
    wx, wy = x[..., None] - ax, y[..., None] - ay
    along = ((wx * ex + wy * ey) / (ex * ex + ey * ey)).clamp(0, 1)
    squared = (wx - along * ex) ** 2 + (wy - along * ey) ** 2
    if ignored is not None:
        squared = squared.masked_fill(torch.tensor(ignored, device=x.device), torch.inf)
    # A ray to the right is crossed by an edge where the three tests agree; an odd number of crossings is inside.
    below, ends_above = wy >= 0, wy < ey
    crossed = (below == ends_above) & (below == (ex * wy > ey * wx))
    inside = crossed.sum(-1) % 2 == 1
    distance = squared.amin(-1).sqrt()
    return torch.where(inside, -distance, distance)
