"""What in a set of Gaussians is not part of the object: masks for `rows`, and where the object stands."""

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from dreamsplat.assets.gaussians import FAINT, moved, rows
from dreamsplat.assets.pruning import quantile, visibility
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.neighbours import nearest_neighbours
from dreamsplat.maths.rotations import covariances
from dreamsplat.types import Gaussians

_REACH = 3.0
"""Gaussians within so many usual distances of neighbours belong together."""
_USUAL = 0.9
"""Share of the Gaussians whose neighbour is within the usual distance: an object has sparse parts too."""
_MOST_CELLS = 512
"""Cells along an axis, so that one far outlier does not fill the memory."""


def is_floater(gaussians: Gaussians, min_share: float = 0.02) -> Tensor:
    """Whether each Gaussian lies apart from the object [N]: in a clump of little opacity, or too faint for any.

    Solid Gaussians are gathered into cells some neighbours wide; cells that touch form a clump.

    Args:
        gaussians: N of them.
        min_share: clumps with less than this share of the opacity of the largest one are floaters, 0 to 1.
    """
    solid = gaussians.opacities >= FAINT
    kept = torch.zeros_like(solid)
    if int(solid.sum()) < 2:
        return ~solid
    clump = _clumps(rows(gaussians, solid))
    weight = torch.zeros(int(clump.max()) + 1, dtype=torch.float64)
    weight.index_add_(0, clump, gaussians.opacities[solid].double().cpu())
    kept[solid] = (weight >= min_share * weight.max())[clump].to(solid.device)
    return ~kept


def is_hidden(gaussians: Gaussians, share: float = 1e-3) -> Tensor:
    """Whether each Gaussian [N] adds next to nothing to pictures from all around: it is inside, or transparent.

    Args:
        gaussians: N of them, at least one.
        share: what all hidden ones together may add, as a share of what is seen, 0 to 1.
    """
    seen = visibility(gaussians)
    ordered, index = seen.double().sort()
    hidden = torch.zeros_like(seen, dtype=torch.bool)
    hidden[index[ordered.cumsum(dim=0) <= share * ordered.sum()]] = True
    return hidden


def is_oversized(gaussians: Gaussians, share: float = 0.2) -> Tensor:
    """Whether each Gaussian [N] is longer than a share of the object.

    Args:
        gaussians: N of them.
        share: the longest standard deviation allowed, as a share of the object's radius, > 0.
    """
    if len(gaussians) == 0:
        return torch.zeros_like(gaussians.opacities, dtype=torch.bool)
    centre = gaussians.means.median(dim=0).values
    radius = quantile((gaussians.means - centre).norm(dim=1), _USUAL)
    return gaussians.scales.amax(dim=1) > share * radius


def extent(gaussians: Gaussians) -> tuple[Tensor, Tensor]:
    """The lower and upper corner [3] of the box around what is seen of the object: solid Gaussians, one deviation wide.

    Raises:
        InvalidInput: if no Gaussian is solid.
    """
    solid = rows(gaussians, gaussians.opacities >= FAINT)
    if len(solid) == 0:
        raise InvalidInput(f"no Gaussian has an opacity of {FAINT} or more, so the object has no extent.")
    reach = covariances(solid.scales, solid.quats).diagonal(dim1=1, dim2=2).sqrt()
    return (solid.means - reach).amin(dim=0), (solid.means + reach).amax(dim=0)


def centred(gaussians: Gaussians) -> Gaussians:
    """The same with the middle of its `extent` at the origin."""
    low, high = extent(gaussians)
    return moved(gaussians, -(low + high) / 2)


def _clumps(solid: Gaussians) -> Tensor:
    """The number of the clump that each Gaussian belongs to [N], int64, on the CPU."""
    places = solid.means.detach().double().cpu().numpy()
    nearest = nearest_neighbours(solid.means, solid.means, 2)[0][:, 1]
    low, high = places.min(axis=0), places.max(axis=0)
    smallest = max(float((high - low).max()) / _MOST_CELLS, np.finfo(float).tiny)
    cells = np.floor((places - low) / max(_REACH * float(quantile(nearest, _USUAL)), smallest)).astype(int)
    filled = np.zeros(cells.max(axis=0) + 1, dtype=bool)
    filled[tuple(cells.T)] = True
    numbered = np.asarray(label(filled, structure=np.ones((3, 3, 3)))[0])  # type: ignore[index]
    return torch.from_numpy(numbered[tuple(cells.T)].astype(np.int64) - 1)
