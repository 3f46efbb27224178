"""What the makers of categories share: random proportions, turns and outlines."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsplat.world.objects.primitives import Vector
from dreamsplat.world.objects.profiles import Outline

# None of these is the colour of a caption, so a part never vanishes into the body it sits on.
WOOD: Vector = (0.50, 0.31, 0.17)
DARK_WOOD: Vector = (0.36, 0.21, 0.12)
CREAM: Vector = (0.94, 0.89, 0.78)
PALE_GREY: Vector = (0.84, 0.86, 0.88)
COAL: Vector = (0.14, 0.14, 0.16)
RUBBER: Vector = (0.17, 0.17, 0.19)
BRICK: Vector = (0.62, 0.33, 0.25)
GLASS: Vector = (0.27, 0.38, 0.50)
WINDOW: Vector = (0.62, 0.83, 0.96)
BEAK: Vector = (0.93, 0.36, 0.05)
GOLD: Vector = (0.98, 0.78, 0.20)
SNOW: Vector = (0.98, 0.98, 0.96)

X_UP_Y = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""Rotation that stands an outline drawn in (y, z) upright and extrudes it along x."""
FACING_FRONT = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""Rotation that stands an outline drawn in (x, z) upright and extrudes it along -y, towards the front."""


@dataclass(frozen=True)
class Draw:
    """The random proportions of one object."""

    generator: torch.Generator

    def between(self, low: float, high: float) -> float:
        """A uniform number from low to high."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def around(self, value: float, spread: float = 0.1) -> float:
        """A number within a relative `spread` of value."""
        return value * self.between(1 - spread, 1 + spread)


def turned(axis: str, degrees: float) -> Tensor:
    """Right-handed rotation [3, 3] by `degrees` about "x", "y" or "z"."""
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = torch.eye(3)
    rotation[first, first] = rotation[second, second] = cos
    rotation[second, first], rotation[first, second] = sin, -sin
    return rotation


def towards(direction: Vector) -> Tensor:
    """A rotation [3, 3] that takes +z to a direction of any length."""
    z = torch.nn.functional.normalize(torch.tensor(direction), dim=0)
    helper = torch.tensor([1.0, 0.0, 0.0] if abs(float(z[0])) < 0.7 else [0.0, 1.0, 0.0])
    x = torch.nn.functional.normalize(torch.linalg.cross(helper, z), dim=0)
    return torch.stack([x, torch.linalg.cross(z, x), z], dim=1)


def arc(radius: float, height: float, base: float, start_deg: float, end_deg: float, steps: int = 10) -> Outline:
    """Points (r, z) of an elliptical arc around (0, base); 0 degrees is outward, 90 is up."""
    angles = [math.radians(start_deg + (end_deg - start_deg) * i / steps) for i in range(steps + 1)]
    return tuple((max(radius * math.cos(a), 0.0), base + height * math.sin(a)) for a in angles)


def star(points: int, outer: float, inner: float) -> Outline:
    """A star with its first point up."""
    angles = [math.pi / 2 + math.pi * i / points for i in range(2 * points)]
    return tuple((r * math.cos(a), r * math.sin(a)) for a, r in zip(angles, [outer, inner] * points, strict=True))


def on_dome(radius: float, height: float, azimuth_deg: float, rise_deg: float) -> tuple[Vector, Vector]:
    """A point on the dome x^2/radius^2 + z^2/height^2 = 1 and the outward direction there; azimuth 0 is +x."""
    azimuth, rise = math.radians(azimuth_deg), math.radians(rise_deg)
    x, y, z = math.cos(azimuth) * math.cos(rise), math.sin(azimuth) * math.cos(rise), math.sin(rise)
    return (radius * x, radius * y, height * z), (x / radius, y / radius, z / height)
