"""Spheres as splat objects are: hollow skins of Gaussians."""

import math

import torch

from dreamsplat.maths.harmonics import rgb_to_sh
from dreamsplat.mesh import BakeSettings, MeshSettings, SurfaceSettings
from dreamsplat.types import Gaussians

RADIUS = 0.6
COARSE = MeshSettings(None, surface=SurfaceSettings(resolution=64), bake=BakeSettings(views=16, size=160))
RED, BLUE = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.8])


def skin(centre=(0.0, 0.0, 0.0), radius=RADIUS, count=2000, rgb=RED) -> Gaussians:
    """A sphere as splat objects are: a thin opaque skin of Gaussians, hollow inside."""
    i = torch.arange(count) + 0.5
    height, turn = 1 - 2 * i / count, i * (math.pi * (3 - math.sqrt(5)))
    around = (1 - height**2).sqrt()
    outward = torch.stack([around * turn.cos(), around * turn.sin(), height], dim=1)
    return Gaussians(
        means=torch.tensor(centre) + radius * outward,
        scales=torch.full((count, 3), 0.6 * radius * math.sqrt(4 * math.pi / count)),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        opacities=torch.full((count,), 0.95),
        sh=rgb_to_sh(rgb).expand(count, 1, 3),
    )
