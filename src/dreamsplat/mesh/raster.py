"""Which points of a grid of pixels lie in which triangles of a plane."""

import torch
from torch import Tensor

_PAIRS = 1 << 22  # (triangle, pixel) pairs looked at together.


def covered_pixels(
    corners: Tensor,  # [F, 3, 2] (x, y), px
    width: int,
    height: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Every pair of a pixel and a triangle that holds its centre.

    Returns:
        Index of the pixel [M], y * width + x, of the triangle [M], and the weights of its three corners [M, 3].
    """
    low = (corners.amin(dim=1) - 0.5).ceil().clamp_min(0).long()
    high = torch.minimum((corners.amax(dim=1) - 0.5).floor().long(), torch.tensor([width - 1, height - 1]))
    sides = (high - low + 1).clamp_min(0)
    ends = sides.prod(dim=1).cumsum(dim=0)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    start = 0
    while start < len(corners):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(ends, done + _PAIRS, right=True)))
        found.append(_covered(corners[start:stop], low[start:stop], sides[start:stop], width, start))
        start = stop
    if not found:
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0, 3)
    pixel, triangle, weights = (torch.cat(parts) for parts in zip(*found, strict=True))
    return pixel, triangle, weights


def _covered(corners: Tensor, low: Tensor, sides: Tensor, width: int, first: int) -> tuple[Tensor, Tensor, Tensor]:
    counts = sides.prod(dim=1)
    owner = torch.repeat_interleave(counts)
    within = torch.arange(len(owner)) - (counts.cumsum(dim=0) - counts)[owner]
    x, y = low[owner, 0] + within % sides[owner, 0], low[owner, 1] + within // sides[owner, 0]
    a, b, c = corners[owner].unbind(dim=1)
    centre = torch.stack([x, y], dim=1) + 0.5
    area = _across(b - a, c - a)
    weights = torch.stack([_across(b - centre, c - centre), _across(c - centre, a - centre)], dim=1) / area[:, None]
    weights = torch.cat([weights, 1 - weights.sum(dim=1, keepdim=True)], dim=1)
    inside = (weights >= -1e-6).all(dim=1) & (area != 0)
    return (y * width + x)[inside], owner[inside] + first, weights[inside]


def _across(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
