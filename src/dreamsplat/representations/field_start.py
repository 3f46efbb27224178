"""Point cloud -> the first radiance field: points blurred over voxels, so that it has their outline and colours."""

from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import conv3d, grid_sample

from dreamsplat.assets.radiance_field import RadianceField, raw_density
from dreamsplat.errors import InvalidInput
from dreamsplat.representations.voxel_field import VoxelField
from dreamsplat.types import PointCloud

_BLUR, _FAR = 0.8, 3.0  # Standard deviations, voxels.
_EMPTY = 5e-3  # Optical depth across a voxel that no point is near: far below what counts as empty.


def field_from_cloud(spec: VoxelField, cloud: PointCloud) -> RadianceField:
    """A field that looks like the cloud, in world units; points outside its cube or of no finite colour are left out.

    Raises:
        InvalidInput: if none is inside.
    """
    cloud = cloud.to(torch.float32)
    inside = (cloud.xyz.abs() <= spec.extent).all(dim=1) & cloud.rgb.isfinite().all(dim=1)
    if not bool(inside.any()):
        raise InvalidInput(
            f"{spec.extent:g}, but none of {len(cloud):,} points lies within that of the origin.",
            setting="representation.extent", advice="Use a larger one, or a smaller `representation.world_scale`.",
        )  # fmt: skip
    places, rgb = cloud.xyz[inside] / spec.extent, cloud.rgb[inside].clamp(0.02, 0.98)
    points = _splatted(places, torch.cat([torch.ones_like(rgb[:, :1]), rgb], dim=1), spec.first_cells)
    near, far = _blurred(points, _BLUR), _blurred(points, _FAR)
    everywhere = points.sum(dim=(1, 2, 3), keepdim=True)
    # Where there is no point, the colour of those that are nearest.
    mixed = near + 1e-3 * far + 1e-9 * everywhere
    colour = (mixed[1:] / mixed[:1]).clamp(0.02, 0.98).logit()
    dense = grid_sample(near[None, :1], places[None, None, None], align_corners=True).median()
    alpha = spec.start_alpha * (near[:1] / dense).clamp_max(1)
    density = raw_density((-torch.log1p(-alpha)).clamp_min(_EMPTY))
    return RadianceField(torch.cat([density, colour]), spec.extent)


def _splatted(
    places: Tensor,  # [P, 3] within the cube from -1 to 1
    values: Tensor,  # [P, K]
    cells: int,
) -> Tensor:
    """The sums [K, R, R, R] over z, y, x of values shared out among the eight nearest voxels."""
    at = (0.5 * (places + 1) * (cells - 1)).clamp(0, cells - 1.001)
    corner, part = at.long(), at.frac()
    total = values.new_zeros(values.shape[1], cells**3)
    for offset in product((0, 1), repeat=3):
        step = torch.tensor(offset, device=at.device)
        x, y, z = (corner + step).unbind(dim=1)
        share = torch.where(step.bool(), part, 1 - part).prod(dim=1)
        total.index_add_(1, (z * cells + y) * cells + x, (share[:, None] * values).T.contiguous())
    return total.view(-1, cells, cells, cells)


def _blurred(
    grid: Tensor,  # [K, Z, Y, X]
    sigma: float,  # voxels
) -> Tensor:
    """The grid, blurred along each axis by a Gaussian; zero outside."""
    reach = round(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=grid.device) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(kernel)
        padding = [reach if other == axis else 0 for other in range(3)]
        grid = conv3d(grid[:, None], kernel.view(shape), padding=padding)[:, 0]
    return grid
