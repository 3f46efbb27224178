"""What empty space around an object cameras see: the rest is filled, so that a mesh has no inner walls.

Splat objects are hollow skins with thin spots, through which flooding from outside would enter. So space is carved by
what renderings show (Kutulakos and Seitz 2000). A rendered depth is a mean over a soft surface and what shines through
from behind it, hence too deep here and there, so a few cameras alone do not carve.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.mesh.cameras import cameras_around
from dreamsplat.mesh.density import Grid
from dreamsplat.render import render
from dreamsplat.types import Gaussians

_VIEWS, _SIZE = 64, 256
_WITNESSES = 8  # Cameras that must see a voxel before it counts as seen.
_MARGIN = 1  # Voxels by which the surface must lie behind it.


def seen_space(gaussians: Gaussians, grid: Grid) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Voxels [x, y, z] that cameras see in front of a surface, and voxels that one sees in front of the background.

    Args:
        gaussians: The object, on the CPU.
        grid: Where to look.
    """
    points = grid.origin + grid.voxel * torch.cartesian_prod(*(torch.arange(n) for n in grid.shape)).float()
    corners = torch.stack([points[0] - grid.voxel, points[-1] + grid.voxel])
    cameras = cameras_around(corners, _VIEWS, _SIZE)
    witnesses = torch.zeros(len(points), dtype=torch.uint8)
    open_space = torch.zeros(len(points), dtype=torch.bool)
    for view in range(_VIEWS):
        camera = cameras.rows(torch.tensor([view]))
        with torch.no_grad():
            image = render(gaussians, camera)
        opaque = image.alpha[0] >= 0.5
        depth = torch.where(opaque, image.depth[0] / image.alpha[0].clamp_min(0.5), torch.inf)
        pose, focal_px = camera.world_to_camera[0], camera.intrinsics[0, 0, 0]
        positions = points @ pose[:3, :3].T + pose[:3, 3]
        x, y = (positions[:, :2] / positions[:, 2:] * focal_px + _SIZE / 2).long().clamp(0, _SIZE - 1).T
        behind = depth[y, x] - positions[:, 2]
        witnesses += behind > _MARGIN * grid.voxel
        open_space |= behind.isinf()
    return (witnesses >= _WITNESSES).reshape(grid.shape).numpy(), open_space.reshape(grid.shape).numpy()
