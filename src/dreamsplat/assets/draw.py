"""Pictures of assets from any number of cameras."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamsplat.method.lift import to_gaussians
from dreamsplat.render import render
from dreamsplat.types import Cameras, Gaussians, PointCloud

BACKDROP = (0.86, 0.86, 0.86)
"""Background of preview and turntable: light, and still darker than a white object."""

_CHUNK = 8  # Cameras rendered at a time, so that a long film does not need memory for all of its intermediate results.


def draw(gaussians: Gaussians, cameras: Cameras, background: tuple[float, float, float] = BACKDROP) -> Tensor:
    """Images [C, H, W, 3] on the CPU, without gradients, whatever the number of cameras."""
    device, dtype = gaussians.means.device, gaussians.means.dtype
    images = []
    with torch.no_grad():
        for start in range(0, len(cameras), _CHUNK):
            part = Cameras(
                cameras.world_to_camera[start : start + _CHUNK].to(device, dtype),
                cameras.intrinsics[start : start + _CHUNK].to(device, dtype),
                cameras.width,
                cameras.height,
            )
            images.append(render(gaussians, part, background=background).rgb.cpu())
    return torch.cat(images)


def draw_points(cloud: PointCloud, cameras: Cameras) -> Tensor:
    """Images [C, H, W, 3] of a point cloud: each point is a small opaque ball."""
    balls = to_gaussians(cloud, opacity=0.99)
    return draw(Gaussians(balls.means, 0.5 * balls.scales, balls.quats, balls.opacities, balls.sh), cameras)
