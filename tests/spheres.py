"""Opaque balls of Gaussians, for tests of what is done with assets."""

from __future__ import annotations

import math

import torch

from dreamsplat.maths.harmonics import rgb_to_sh
from dreamsplat.types import Gaussians


def ball(
    count: int, radius: float, rgb: tuple[float, float, float] = (0.8, 0.2, 0.1), opacity: float = 0.98
) -> Gaussians:
    """Gaussians evenly on a sphere, close enough to hide what is inside."""
    index = torch.arange(count) + 0.5
    z, angle = 1 - 2 * index / count, index * math.pi * (1 + math.sqrt(5))
    across = (1 - z * z).sqrt()
    return Gaussians(
        means=radius * torch.stack([across * angle.cos(), across * angle.sin(), z], dim=-1),
        scales=torch.full((count, 3), 2 * radius / math.sqrt(count)),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        opacities=torch.full((count,), opacity),
        sh=rgb_to_sh(torch.tensor(rgb)).repeat(count, 1, 1),
    )
