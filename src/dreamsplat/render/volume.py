"""Volume rendering in plain torch: where to sample rays through a grid, and how samples add up to a picture.

NeRF (Mildenhall et al. 2020), section 4. Samples of all rays are packed into one list, ray after ray, front to back.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsplat.render.rays import Rays, box_span

_DARK = math.log(1e3)
"""Optical depth behind which nothing is sampled: a thousandth of the light is left."""

_PAIRS = 1 << 22
"""Bins looked up at a time, which bounds memory."""


@dataclass(frozen=True)
class Samples:
    """S places on rays."""

    ray: Tensor
    """[S] int64, ascending: which ray each is on."""
    distance: Tensor
    """[S] from the camera, world units; ascending on each ray."""
    points: Tensor
    """[S, 3] world."""

    def __len__(self) -> int:
        """The number of samples S."""
        return len(self.ray)


@torch.no_grad()
def march(
    rays: Rays,  # M
    depth_of_voxel: Tensor,  # [Z, Y, X] optical depth across each voxel, below 0 where it is skipped
    extent: float,
    step: float,
    generator: torch.Generator | None = None,
) -> Samples:
    """Samples in the voxels that are not skipped, as far as light gets.

    Each ray is cut into bins of equal length; a bin whose middle lies in a skipped voxel has no sample, nor has one
    behind an optical depth of 6.9.

    Args:
        rays: Where to look.
        depth_of_voxel: The centres of its first and last voxels are at -extent and extent.
        extent: Half the side of the cube, world units.
        step: Length of a bin, world units.
        generator: Draws a place in each bin (stratified sampling, eq. 2 of NeRF); None takes the middles.
    """
    size, device = depth_of_voxel.shape[0], depth_of_voxel.device
    voxel = 2 * extent / (size - 1)
    shown = (depth_of_voxel >= 0).nonzero().flip(1)  # x y z
    if len(shown) == 0:
        return _nothing(rays)
    low, high = (shown.amin(dim=0) - 0.5) * voxel - extent, (shown.amax(dim=0) + 0.5) * voxel - extent
    enter, leave = box_span(rays, low, high)
    hit = (leave > enter).nonzero()[:, 0]
    if len(hit) == 0:
        return _nothing(rays)
    few, enter, count = rays.rows(hit), enter[hit], (leave - enter)[hit] / step
    bins = torch.arange(int(count.max().ceil()), device=device) + 0.5
    first = (few.origins + few.directions * enter[:, None] + extent) / voxel + 0.5  # [R, 3] voxels
    along = few.directions * (step / voxel)
    taken = []
    for part in torch.arange(len(hit), device=device).split(max(1, _PAIRS // len(bins))):
        x, y, z = (
            torch.addcmul(first[part, axis, None], bins, along[part, axis, None]).int().clamp_(0, size - 1)
            for axis in range(3)
        )
        index = z.mul_(size).add_(y).mul_(size).add_(x)
        depth = depth_of_voxel.flatten().index_select(0, index.flatten()).view_as(index)  # [R, bins]
        thick = depth.clamp(min=0).mul_(step / voxel)
        taken.append((depth >= 0) & (thick.cumsum(dim=1) - thick < _DARK) & (bins < count[part, None]))
    which, index = torch.cat(taken).nonzero(as_tuple=True)
    place = bins[index]
    if generator is not None:
        place = index + torch.rand(len(index), generator=generator).to(device)
    distance = enter[which] + place * step
    points = few.origins[which] + distance[:, None] * few.directions[which]
    return Samples(hit[which], distance, points)


def _nothing(rays: Rays) -> Samples:
    some = rays.origins[:0]
    return Samples(torch.zeros(0, dtype=torch.int64, device=some.device), some[:, 0], some)


def composite(
    samples: Samples,  # S
    optical_depth: Tensor,  # [S] of the stretch that each sample stands for, >= 0
    rgb: Tensor,  # [S, 3]
    rays: Rays,  # M
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What rays see: eq. 3 of NeRF, with alpha and depth as our renderers give them.

    Returns:
        Colour [M, 3] over black, alpha [M], camera-space z times alpha [M], and the weights [S] of the samples.
    """
    weights = _light_before(samples.ray, optical_depth, len(rays)) * -torch.expm1(-optical_depth)
    z = samples.distance * rays.z_per_length[samples.ray]
    rows = torch.cat([weights[:, None] * rgb, weights[:, None], (weights * z)[:, None]], dim=1)
    total = rows.new_zeros(len(rays), 5).index_add(0, samples.ray, rows)
    return total[:, :3], total[:, 3].clamp_max(1), total[:, 4], weights


def _light_before(
    ray: Tensor,  # [S] ascending
    optical_depth: Tensor,  # [S]
    rays: int,
) -> Tensor:
    """The share [S] of light that reaches each sample."""
    # In float64: over 300,000 samples a float32 sum would be off by 0.004.
    depth = optical_depth.double()
    per_ray = depth.new_zeros(rays).index_add(0, ray, depth)
    before_ray = per_ray.cumsum(dim=0) - per_ray
    before = depth.cumsum(dim=0) - depth - before_ray.index_select(0, ray)
    return torch.exp(-before).to(optical_depth.dtype)
