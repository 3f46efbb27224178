"""How the exact camera reaches the bundled 2D model: a learned feature grid per category, seen from that camera.

From the azimuth as a number, a network would have to learn by example what turning an object does to its picture. Here
geometry does the turning. Each category owns a small grid of features over the cube
[-1, 1]^3, learned with the rest; the grid is sampled along the camera's rays, and convolutions read the samples, near
to far, as a coarse picture that already stands in the right pose (the idea of HoloGAN, Nguyen-Phuoc et al. 2019).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dreamsplat.world.camera_range import WORLD_DISTANCE, WORLD_FOV_Y_DEG
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES

CHANNELS = 12
"""Features per cell of a grid."""
CELLS = 16
"""Cells along an edge of a grid, and samples along a ray."""
HIDDEN = 128
"""Width of the layer that reads a ray's samples."""


class PosedFeatures(nn.Module):
    """Packed conditions [B, 8] -> features [B, out, G, G] of the category's grid as the camera sees it."""

    def __init__(self, out: int, grid: int) -> None:
        """Create the module; `out` are its channels, `grid` is G; its output starts at 0."""
        super().__init__()
        self.grid = grid
        self.volumes = nn.Embedding(len(CATEGORY_NAMES) + 1, CHANNELS * CELLS**3)
        self.read = nn.Conv2d(CHANNELS * CELLS, HIDDEN, 1)
        self.out = nn.Conv2d(HIDDEN, out, 3, padding=1)
        nn.init.normal_(self.volumes.weight, std=0.3)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, packed: Tensor) -> Tensor:
        """See the class; without a camera (or a category) the output does not depend on it."""
        n, count = CELLS, len(packed)
        grids = self.volumes(packed[:, 1].round().long()).reshape(count, CHANNELS, n, n, n)
        with torch.autocast(packed.device.type, enabled=False):
            seen = F.grid_sample(grids.float(), ray_points(packed, self.grid, n), align_corners=False)
        seen = seen * packed[:, 3, None, None, None, None]
        rays = seen.reshape(count, CHANNELS * n, self.grid, self.grid)
        return self.out(F.silu(self.read(rays.contiguous(memory_format=torch.channels_last))))


def ray_points(packed: Tensor, grid: int, samples: int) -> Tensor:
    """World points [B, samples, grid, grid, 3] along the rays of the conditions' cameras, near to far.

    Samples lie at equal steps of the camera's z, over the 2 units around the origin; the frame is that of
    `cameras.make_views`.
    """
    _, sin_az, cos_az, elevation, relative = packed[:, 3:].unbind(1)
    near, far = WORLD_DISTANCE
    distance = (near + far) / 2 + relative * (far - near) / 2
    sin_el, cos_el = (elevation * math.pi / 2).sin(), (elevation * math.pi / 2).cos()
    outward = torch.stack([-cos_el * sin_az, -cos_el * cos_az, sin_el], dim=1)
    right = torch.stack([cos_az, -sin_az, torch.zeros_like(sin_az)], dim=1)
    up = torch.stack([sin_el * sin_az, sin_el * cos_az, cos_el], dim=1)
    axis = (torch.arange(grid, device=packed.device) + 0.5) * (2 / grid) - 1
    slope = axis * math.tan(math.radians(WORLD_FOV_Y_DEG) / 2)
    depth = (torch.arange(samples, device=packed.device) + 0.5) * (2 / samples) - 1

    def place(vector: Tensor) -> Tensor:
        return vector[:, None, None, None, :]

    z = (distance[:, None] + depth)[:, :, None, None, None]
    across = slope[None, None, None, :, None] * place(right)
    down = -slope[None, None, :, None, None] * place(up)
    return place(outward * distance[:, None]) + z * (across + down - place(outward))
