"""Fewer Gaussians that look the same: neighbours are merged, pair by pair.

A merged Gaussian has the mean and covariance of its two parents together, as in mixture reduction (Runnalls 2007), each
with the weight that it has in pictures from all around: what nobody sees does not change what everybody sees.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dreamsplat.assets.gaussians import join, rows
from dreamsplat.assets.pruning import visibility
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.harmonics import DC
from dreamsplat.maths.neighbours import nearest_neighbours
from dreamsplat.maths.rotations import covariances, quats_from_rotation
from dreamsplat.types import Gaussians

_NEIGHBOURS = 6
"""Candidates per Gaussian in a round."""
_COLOUR = 10.0
"""What a difference of 1 in colour costs, compared with a shape that grows e-fold."""
_NEAR_ENOUGH = 0.995
"""A file that fills this share of its limit is good enough."""
_MOST_PER_ROUND = 0.25
"""Share of the Gaussians that a round may remove: the best pairs change as others merge."""


def merge(gaussians: Gaussians, count: int) -> Gaussians:
    """At most `count` Gaussians that look like all N: pairs that change the pictures least become one.

    With half of the Gaussians of an object, pictures are closer to the original than with the most important half. The
    same Gaussians give the same result.

    Raises:
        InvalidInput: if `count` is below 1.
    """
    if count < 1:
        raise InvalidInput(f"{count}, expected at least 1.", setting="count")
    if len(gaussians) <= count:
        return gaussians
    seen = visibility(gaussians)
    while (excess := len(gaussians) - count) > 0:
        pairs = _best_pairs(gaussians, seen, min(excess, max(1, int(_MOST_PER_ROUND * len(gaussians)))))
        left = torch.ones(len(gaussians), dtype=torch.bool, device=pairs.device)
        left[pairs.flatten()] = False
        both = _merged(gaussians, seen, pairs)
        gaussians, seen = join(rows(gaussians, left), both), torch.cat([seen[left], seen[pairs].sum(dim=1)])
    return gaussians


def merge_to_size(gaussians: Gaussians, limit_bytes: int, size_of: Callable[[Gaussians], int]) -> Gaussians:
    """As many Gaussians as fit into a file, to within half a percent; see `merge`.

    Args:
        gaussians: what to merge.
        limit_bytes: the file's greatest size.
        size_of: the size in bytes of a file with the given Gaussians; grows with their number.

    Raises:
        InvalidInput: if not even one Gaussian fits, or a value cannot be rendered.
    """
    over, over_bytes = gaussians, size_of(gaussians)
    if over_bytes <= limit_bytes:
        return gaussians
    fits, fits_bytes = rows(gaussians, slice(0)), 0
    aim = (1 + _NEAR_ENOUGH) / 2 * limit_bytes
    for step in itertools.count():
        if len(over) - len(fits) <= 1 or fits_bytes >= _NEAR_ENOUGH * limit_bytes:
            break
        # Proportional guesses are exact if all take the same bytes; halving in between narrows it down otherwise.
        share = 0.5 if step % 2 else (aim - fits_bytes) / (over_bytes - fits_bytes)
        guess = len(fits) + int((len(over) - len(fits)) * share)
        fewer = merge(over, min(max(guess, len(fits) + 1), len(over) - 1))
        if (size := size_of(fewer)) <= limit_bytes:
            fits, fits_bytes = fewer, size
        else:
            over, over_bytes = fewer, size
    if len(fits) == 0:
        raise InvalidInput(
            f"a file of one Gaussian takes {over_bytes} bytes, expected at most {limit_bytes}.", advice="Allow more."
        )
    return fits


def _best_pairs(gaussians: Gaussians, seen: Tensor, most: int) -> Tensor:
    """At most `most` pairs [P, 2] of neighbours, cheapest first, in which no Gaussian occurs twice; at least one."""
    _, found = nearest_neighbours(gaussians.means, gaussians.means, min(_NEIGHBOURS + 1, len(gaussians)))
    first = torch.arange(len(found), device=found.device)[:, None].expand_as(found)
    numbered = (torch.minimum(first, found) * len(found) + torch.maximum(first, found))[first != found].unique()
    pairs = torch.stack([numbered // len(found), numbered % len(found)], dim=-1)
    order = _cost(gaussians, seen, pairs).argsort(stable=True)
    pairs = pairs[order]
    rank = torch.arange(len(pairs), device=pairs.device)
    chosen = torch.zeros(0, 2, dtype=pairs.dtype, device=pairs.device)
    while len(pairs) and len(chosen) < most:
        # A pair that is the cheapest one of both its members is taken; what they take part in otherwise is dropped.
        cheapest = rank.new_full((len(gaussians),), len(rank)).scatter_reduce(
            0, pairs.flatten(), rank[: len(pairs)].repeat_interleave(2), "amin"
        )
        mutual = (cheapest[pairs] == rank[: len(pairs), None]).all(dim=1)
        chosen = torch.cat([chosen, pairs[mutual]])
        taken = torch.zeros(len(gaussians), dtype=torch.bool, device=pairs.device)
        taken[chosen.flatten()] = True
        pairs = pairs[~taken[pairs].any(dim=1)]
    return chosen[:most]


def _cost(gaussians: Gaussians, seen: Tensor, pairs: Tensor) -> Tensor:
    """How much merging each pair [P, 2] would change the pictures [P].

    Of the shapes: Runnalls' bound of the Kullback-Leibler divergence (2007, eq. 16). Of the colours: their difference.
    """
    both = _merged(gaussians, seen, pairs)
    cost = torch.zeros_like(both.opacities)
    for column in pairs.T:
        part, weight = rows(gaussians, column), seen[column]
        larger = (_log_volume(both) - _log_volume(part)).clamp_min(0)
        colour = DC * (part.sh[:, 0] - both.sh[:, 0]).abs().mean(dim=1)
        cost = cost + weight * (larger + _COLOUR * colour)
    return cost


def _log_volume(gaussians: Gaussians) -> Tensor:
    """The logarithm of each volume [N]; a flat one counts as a hundredth as thick as it is long."""
    scales = gaussians.scales
    return torch.maximum(scales, 0.01 * scales.amax(dim=1, keepdim=True)).log().sum(dim=1)


def _merged(gaussians: Gaussians, seen: Tensor, pairs: Tensor) -> Gaussians:
    """The Gaussians [P] that stand for pairs [P, 2], weighted by what is seen [N], or could be if both are hidden."""
    one, other = (rows(gaussians, column) for column in pairs.T)
    blocked = (gaussians.opacities * _area(gaussians))[pairs]  # [P, 2]
    weights = torch.where(seen[pairs].sum(dim=1, keepdim=True) > 0, seen[pairs], blocked)
    share = (weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-30)).T[..., None]  # [2, P, 1]
    means = share[0] * one.means + share[1] * other.means
    spread = torch.zeros_like(covariances(one.scales, one.quats))
    for part, weight in ((one, share[0]), (other, share[1])):
        away = part.means - means
        spread = spread + weight[..., None] * (covariances(part.scales, part.quats) + away[:, :, None] * away[:, None])
    scales, quats = _axes(spread)
    sh = share[0][..., None] * one.sh + share[1][..., None] * other.sh
    both = Gaussians(means, scales, quats, one.opacities, sh)
    covered = blocked.sum(dim=1) / _area(both)
    return replace(both, opacities=torch.minimum(covered, 1 - (1 - one.opacities) * (1 - other.opacities)))


def _axes(spread: Tensor) -> tuple[Tensor, Tensor]:
    """The standard deviations [P, 3] and the rotations [P, 4] of covariances [P, 3, 3]."""
    variances, axes = torch.linalg.eigh(spread.double())
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]
    least = variances[:, -1:] * 1e-8
    return variances.clamp_min(least).sqrt().to(spread), quats_from_rotation(axes).to(spread)


def _area(gaussians: Gaussians) -> Tensor:
    """The area of each Gaussian [N] as seen on average from all around, world units squared, up to a factor."""
    a, b, c = gaussians.scales.unbind(dim=1)
    return (a * a * b * b + b * b * c * c + c * c * a * a).div(3).sqrt().clamp_min(1e-30)
