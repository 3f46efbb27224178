"""How dense an object of Gaussians is at the points of a grid.

The density at a point is the sum of opacity times Gaussian, each cut off where a renderer cuts it (alpha 1/255). A
renderer blurs by a fraction of a pixel; likewise, the density is blurred by half a voxel, so that a Gaussian thinner
than the grid does not fall between its points.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsplat.maths.rotations import covariances
from dreamsplat.types import Gaussians

MIN_ALPHA = 1 / 255
"""Where a Gaussian is cut off, and the opacity below which it is invisible; as in the renderers."""

BLUR_VOXELS2 = 0.25
"""Added to the variances, voxels^2, so that nothing is thinner than the grid."""

_PAIRS = 1 << 21  # (Gaussian, voxel) pairs evaluated at a time: about 300 MB.


@dataclass(frozen=True)
class Grid:
    """A box of cubic voxels; voxel (i, j, k) has its centre at `origin` + `voxel` * (i, j, k)."""

    origin: Tensor
    """[3] centre of the first voxel, world units."""
    voxel: float
    """Side of a voxel, world units."""
    shape: tuple[int, int, int]
    """Voxels along x, y, z."""


def grid_over(
    low: Tensor,  # [3] world
    high: Tensor,  # [3] world
    resolution: int,
) -> Grid:
    """The grid that covers a box with `resolution` voxels along its longest side."""
    size = high - low
    # Finer voxels would share their coordinates in float32.
    finest = 1e-6 * float(torch.maximum(low.abs(), high.abs()).max().clamp(min=1e-30))
    voxel = max(float(size.max()) / resolution, finest)
    x, y, z = (size / voxel).ceil().clamp(min=1).int().tolist()
    centre = (low + high) / 2
    return Grid(centre - voxel * (torch.tensor([x, y, z]) - 1) / 2, voxel, (x, y, z))


def bounds(gaussians: Gaussians) -> tuple[Tensor, Tensor]:
    """The corners [3] of the box around everything that a renderer draws of Gaussians with opacity >= 1/255."""
    variances = covariances(gaussians.scales, gaussians.quats).diagonal(dim1=1, dim2=2)  # [N, 3]
    half = _reach(gaussians.opacities)[:, None] * variances.sqrt()
    return (gaussians.means - half).amin(dim=0), (gaussians.means + half).amax(dim=0)


def density_on(grid: Grid, gaussians: Gaussians) -> Tensor:
    """The density [x, y, z] at the centres of the voxels; float32, on the CPU, the same on every run.

    Args:
        grid: where to evaluate.
        gaussians: all with opacity >= 1/255; float32, on the CPU.
    """
    means = (gaussians.means - grid.origin) / grid.voxel  # [N, 3] voxels
    scales = torch.sqrt((gaussians.scales / grid.voxel) ** 2 + BLUR_VOXELS2)  # [N, 3] voxels
    reach = _reach(gaussians.opacities)
    half = reach[:, None] * covariances(scales, gaussians.quats).diagonal(dim1=1, dim2=2).sqrt()
    low, high = _inside(means - half, means + half, torch.tensor(grid.shape))
    sides = (high - low + 1).clamp(min=0)  # [N, 3] voxels that a Gaussian may reach along x, y, z
    precisions = covariances(1 / scales, gaussians.quats)  # [N, 3, 3] inverses, 1 / voxels^2
    density = torch.zeros(grid.shape).flatten()
    for rows in _runs(sides.prod(dim=1)):
        place, alpha = _contributions(
            grid, means[rows], precisions[rows], gaussians.opacities[rows], reach[rows], low[rows], sides[rows]
        )
        density.index_add_(0, place, alpha)
    return density.reshape(grid.shape)


def _contributions(
    grid: Grid,
    means: Tensor,  # [M, 3] voxels
    precisions: Tensor,  # [M, 3, 3] 1 / voxels^2
    opacities: Tensor,  # [M]
    reach: Tensor,  # [M] standard deviations
    low: Tensor,  # [M, 3] first voxel of the box around each
    sides: Tensor,  # [M, 3] voxels of that box
) -> tuple[Tensor, Tensor]:
    """Which voxels [pairs] (index in the flat grid) some Gaussians reach, and their alpha [pairs] there.

    Computed by columns along z, in each of which a Gaussian is a Gaussian of z with its own peak and ends.
    """
    owner, place = _expand(sides[:, 0] * sides[:, 1])
    x = low[owner, 0] + place // sides[owner, 1]
    y = low[owner, 1] + place % sides[owner, 1]
    mean, precision = means[owner], precisions[owner]
    dx, dy, zz = x - mean[:, 0], y - mean[:, 1], precision[:, 2, 2]
    slope = precision[:, 2, 0] * dx + precision[:, 2, 1] * dy
    least = precision[:, 0, 0] * dx**2 + 2 * precision[:, 0, 1] * dx * dy + precision[:, 1, 1] * dy**2 - slope**2 / zz
    peak = mean[:, 2] - slope / zz
    half = ((reach[owner] ** 2 - least).clamp(min=0) / zz).sqrt()
    first, last = _inside(peak - half, peak + half, torch.tensor(grid.shape[2]))
    columns = torch.stack([first - peak, opacities[owner] * torch.exp(-least / 2), zz / 2], dim=1)
    column, step = _expand((last - first + 1).clamp(min=0) * (least < reach[owner] ** 2))
    from_peak, alpha, sharpness = columns[column].unbind(dim=1)
    start = (x * grid.shape[1] + y) * grid.shape[2] + first
    return start[column] + step, alpha * torch.exp(-sharpness * (from_peak + step) ** 2)


def _inside(low: Tensor, high: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
    """First and last voxel between two places, within the grid; the last precedes the first if there is none."""
    return low.ceil().clamp(min=0).minimum(shape).long(), high.floor().clamp(min=-1).minimum(shape - 1).long()


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For rows of `counts` [M] items: the row of each item, and its number within the row."""
    owner = torch.repeat_interleave(counts)
    return owner, torch.arange(len(owner)) - (counts.cumsum(dim=0) - counts)[owner]


def _reach(opacities: Tensor) -> Tensor:
    """At how many standard deviations [N] alpha falls below 1/255."""
    return torch.sqrt(2 * torch.log(opacities / MIN_ALPHA))


def _runs(counts: Tensor) -> list[slice]:
    """Rows [N] in runs of at most `_PAIRS` pairs, or of a single row."""
    ends = counts.cumsum(dim=0)
    runs: list[slice] = []
    start = 0
    while start < len(counts):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(ends, done + _PAIRS, right=True)))
        runs.append(slice(start, stop))
        start = stop
    return runs
