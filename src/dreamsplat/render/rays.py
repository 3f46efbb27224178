"""Rays of pinhole cameras through the centres of their pixels, and where they pass through a box."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dreamsplat.types import Cameras


@dataclass(frozen=True)
class Rays:
    """M rays in world units."""

    origins: Tensor
    """[M, 3] camera centres."""
    directions: Tensor
    """[M, 3] of length 1."""
    z_per_length: Tensor
    """[M] camera-space z gained by a unit of length along the ray."""

    def __len__(self) -> int:
        """The number of rays M."""
        return len(self.origins)

    def rows(self, index: Tensor) -> "Rays":
        """The rays that a tensor of indices selects."""
        return Rays(self.origins[index], self.directions[index], self.z_per_length[index])


def pixel_rays(cameras: Cameras) -> Rays:
    """One ray for each pixel, [C * H * W] of them in the order of `Rendering.rgb`."""
    pose, intrinsics = cameras.world_to_camera, cameras.intrinsics
    column = torch.arange(cameras.width, device=pose.device) + 0.5
    row = torch.arange(cameras.height, device=pose.device) + 0.5
    y, x = torch.meshgrid(row, column, indexing="ij")
    pixel = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3).to(pose.dtype)
    through = pixel @ torch.linalg.inv(intrinsics).transpose(1, 2)  # [C, H W, 3], at z = 1
    directions = normalize(through @ pose[:, :3, :3], dim=-1)
    centres = -(pose[:, :3, :3].transpose(1, 2) @ pose[:, :3, 3:])[..., 0]
    return Rays(
        origins=centres.repeat_interleave(len(pixel), dim=0),
        directions=directions.flatten(0, 1),
        z_per_length=1 / through.norm(dim=-1).flatten(),
    )


def box_span(
    rays: Rays,  # M
    low: Tensor,  # [3] world
    high: Tensor,  # [3] world
) -> tuple[Tensor, Tensor]:
    """Distances [M] at which rays enter and leave a box, the first at least 0; where they miss it, enter > leave.

    Kay and Kajiya 1986, the slabs method.
    """
    tiny = torch.finfo(rays.directions.dtype).tiny
    direction = torch.where(rays.directions.abs() < tiny, tiny, rays.directions)
    one, other = (low - rays.origins) / direction, (high - rays.origins) / direction
    enter = torch.minimum(one, other).amax(dim=1).clamp_min(0)
    return enter, torch.maximum(one, other).amin(dim=1)
