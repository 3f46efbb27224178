"""How much each Gaussian counts in pictures from all around, and how much two assets differ there.

A Gaussian's importance is the sum of its blend weights alpha T (Kerbl et al. 2023, eq. 3) over all pixels of all views,
as in Mini-Splatting (Fang and Wang 2024, section 4.1): how many pixels' worth of colour come from it. For Gaussians
hidden inside an object it is 0. It is measured exactly, by the gradient of the pictures with respect to colour.
"""

import dataclasses
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dreamsplat.assets.gaussians import rows
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.harmonics import DC
from dreamsplat.method.cameras import make_views
from dreamsplat.render import render
from dreamsplat.types import Cameras, Gaussians

ELEVATIONS_DEG = (-30.0, 0.0, 30.0, 60.0)
"""Elevations of the rings of cameras; each ring is rotated relative to the one below it."""
AZIMUTHS = 8
"""Cameras in a ring."""
SIZE = 256
"""Width and height of the pictures, px."""
FOV_Y_DEG = 40.0
"""Field of view of the cameras, into which the ball around the object just fits."""

_INSIDE = 0.99  # Share of the Gaussians inside the ball: a few outliers must not make the object tiny.


def prune(gaussians: Gaussians, count: int) -> Gaussians:
    """Keep the `count` most important Gaussians, in their old order, or all if there are no more. Deterministic.

    Raises:
        InvalidInput: if `count` is below 1, or a value cannot be rendered.
    """
    if count < 1:
        raise InvalidInput(f"{count}, expected at least 1.", setting="count")
    if count >= len(gaussians):
        return gaussians
    return rows(gaussians, visibility(gaussians).argsort(descending=True, stable=True)[:count].sort().values)


def importance(
    gaussians: Gaussians,  # N
    cameras: Cameras,  # C
) -> Tensor:
    """Sums [N] of blend weights alpha T over all pixels of all cameras, >= 0. No gradient."""
    # All colours are grey, far from 0 where they are clamped, so that the pictures are linear in the coefficient.
    grey = torch.zeros_like(gaussians.sh[:, :1]).requires_grad_()
    plain = dataclasses.replace(gaussians.detach(), sh=grey)
    total = torch.zeros_like(gaussians.opacities, requires_grad=False)
    for camera in _one_by_one(cameras):
        red = render(plain, camera).rgb[..., 0].sum()
        total += torch.autograd.grad(red, grey)[0][:, 0, 0] / DC
    return total.clamp_min(0)


def picture_psnr(before: Gaussians, after: Gaussians) -> float:
    """Peak signal-to-noise ratio, dB, between pictures of two assets from all around the first, over black and white.

    Both are drawn by the same cameras; colours are clamped to [0, 1], and errors are averaged over all pixels, those
    of the background included. Infinite if the pictures are equal.

    Raises:
        InvalidInput: if the first is empty, or a value cannot be rendered.
    """
    centre, radius = ball_around(before)
    before, after = _in_unitball_around(before, centre, radius), _in_unitball_around(after, centre, radius)
    squares = []
    with torch.no_grad():
        for camera in _one_by_one(_cameras(before.means)):
            difference = _over_black_and_white(before, camera) - _over_black_and_white(after, camera)
            squares.append(float(difference.square().mean(dtype=torch.float64)))
    error = sum(squares) / len(squares)
    return -10 * math.log10(error) if error else math.inf


def visibility(gaussians: Gaussians) -> Tensor:
    """The `importance` [N] of each Gaussian in pictures from all around: 0 for one that nobody sees."""
    whole = _in_unitball_around(gaussians, *ball_around(gaussians))
    return importance(whole, _cameras(whole.means))


def ball_around(gaussians: Gaussians) -> tuple[Tensor, float]:
    """Centre [3], float64, and radius of a ball that holds nearly all of the Gaussians, out to two deviations.

    Raises:
        InvalidInput: if there are none.
    """
    if len(gaussians) == 0:
        raise InvalidInput("there are no Gaussians, expected at least one.")
    means, scales = gaussians.means.detach().double(), gaussians.scales.detach().double()
    ends = torch.stack([quantile(means, 1 - _INSIDE), quantile(means, _INSIDE)])  # [2, 3]
    centre = ends.mean(dim=0)
    reach = (means - centre).norm(dim=-1) + 2 * scales.amax(dim=-1)
    return centre, float(quantile(reach, _INSIDE))


def quantile(
    values: Tensor,  # [N, ...]
    share: float,
) -> Tensor:
    """The least value [...] with at least this share of all values at or below it."""
    return values.sort(dim=0).values[math.ceil(share * len(values)) - 1]


def _in_unitball_around(
    gaussians: Gaussians,
    centre: Tensor,  # [3] float64
    radius: float,
) -> Gaussians:
    """The object moved and scaled into the unit ball, around which the cameras stand."""
    like = gaussians.means
    # Beyond a million radii nothing changes in the pictures, and this stays within float32.
    means = ((like.detach().double() - centre) / radius).clamp(-1e6, 1e6).to(like)
    scales = (gaussians.scales.detach().double() / radius).clamp(1e-9, 1e6).to(like)
    return dataclasses.replace(gaussians.detach(), means=means, scales=scales)


def _cameras(like: Tensor) -> Cameras:
    """The cameras around the unit ball, with the dtype and device of `like`."""
    rings = torch.arange(len(ELEVATIONS_DEG)).repeat_interleave(AZIMUTHS)
    azimuth_deg = (torch.arange(AZIMUTHS).repeat(len(ELEVATIONS_DEG)) + rings / len(ELEVATIONS_DEG)) * (360 / AZIMUTHS)
    same = torch.ones(len(rings))
    distance = same / math.sin(math.radians(FOV_Y_DEG / 2))
    views = make_views(azimuth_deg, torch.tensor(ELEVATIONS_DEG)[rings], distance, FOV_Y_DEG * same, SIZE, SIZE)
    return views.cameras.to(device=like.device, dtype=like.dtype)


def _one_by_one(cameras: Cameras) -> Iterator[Cameras]:
    """Cameras one at a time, so that memory does not grow with their number."""
    return (cameras.rows(index) for index in torch.arange(len(cameras))[:, None])


def _over_black_and_white(gaussians: Gaussians, cameras: Cameras) -> Tensor:
    """Pictures [2, C, H, W, 3] in [0, 1]."""
    drawn = render(gaussians, cameras)
    return torch.stack([drawn.rgb, drawn.rgb + (1 - drawn.alpha)[..., None]]).clamp(0, 1)
