"""Cameras all around a mesh."""

from math import pi, sqrt, tan

import torch
from torch import Tensor

from dreamsplat.maths.rotations import look_at
from dreamsplat.types import Cameras

_FOV_Y = pi / 6


def cameras_around(
    vertices: Tensor,  # [V, 3]
    count: int,
    size: int,  # px
) -> Cameras:
    """Cameras on a sphere that each see all vertices, ordered from the top to the bottom."""
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    centre = (low + high) / 2
    radius = float((vertices - centre).norm(dim=1).max())
    # A Fibonacci lattice: equal steps in height, each turned by the golden angle.
    i = torch.arange(count, dtype=vertices.dtype)
    height = 1 - (2 * i + 1) / count
    turn = i * (pi * (3 - sqrt(5)))
    around = (1 - height**2).sqrt()
    outward = torch.stack([around * turn.cos(), around * turn.sin(), height], dim=1)
    distance = 1.05 * radius / torch.sin(torch.tensor(_FOV_Y / 2))
    focal_px = 0.5 * size / tan(_FOV_Y / 2)
    intrinsics = vertices.new_tensor([[focal_px, 0, size / 2], [0, focal_px, size / 2], [0, 0, 1]])
    return Cameras(look_at(centre + distance * outward, centre), intrinsics.expand(count, 3, 3), size, size)
