"""The specification of rendering: project, sort and composite Gaussians in plain torch, for one camera after another.

Every other backend must give the images and gradients of this file. It is written to be read: gradients come from
autograd, and any device, float32 and float64 work. The semantics are those of gsplat (Ye et al. 2024) after Kerbl et
al. 2023, except that footprints are not cut to a box: they end exactly where alpha falls below 1/255. Memory is bounded
by processing the image in tiles, each with the Gaussians whose ellipses may touch it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from dreamsplat.maths.harmonics import sh_basis
from dreamsplat.maths.rotations import rotation_from_quats
from dreamsplat.render.checks import check_values
from dreamsplat.types import Cameras, Gaussians, Rendering

NEAR = 0.01
"""Camera-space z at or below which a Gaussian is culled, world units."""
WIDENING = 0.3
"""Share of tan(fov / 2) by which the frustum is widened before the Jacobian is clamped to it."""
BLUR_PX2 = 0.3
"""Added to the variances on screen, px^2, so that nothing is thinner than a pixel."""
LARGEST_PX2 = 1e18
"""Variance on screen, px^2, from which on float32 would overflow: such a Gaussian is culled."""
MAX_ALPHA = 0.99
"""Largest alpha of one Gaussian at one pixel; keeps 1 / (1 - alpha) finite."""
MIN_ALPHA = 1 / 255
"""Alpha below which a Gaussian is skipped at a pixel."""
MIN_TRANSMITTANCE = 1e-4
"""A Gaussian that would reduce the transmittance to this or less ends its pixel, without being blended."""
TILE_PX = 16
"""Side of the square of pixels composited at once; affects memory and speed, never the image."""


@dataclass(frozen=True)
class Splats:
    """The M Gaussians that one camera sees, as ellipses on its screen."""

    index: Tensor
    """[M] which of the N Gaussians."""
    centres_px: Tensor
    """[M, 2] (x, y) on screen; the image spans (0, 0) to (W, H)."""
    depths: Tensor
    """[M] camera-space z, world units."""
    whitening: Tensor
    """[M, 3] a, b, c, 1 / px: a pixel at (dx, dy) from the centre is (a dx + b dy, c dy) standard deviations away from
    it. The Cholesky factor of the inverse covariance on screen, which itself would round away the width of a needle."""
    opacities: Tensor
    """[M] peak opacity."""
    colours: Tensor
    """[M, 3] display colours seen from this camera, >= 0."""
    half_box_px: Tensor
    """[M, 2] half-width and half-height of the box around the ellipse {alpha >= 1/255}. No gradient."""
    radii_px: Tensor
    """[M] half-width of that ellipse along its largest axis. No gradient."""

    def take(self, rows: Tensor) -> Splats:
        """The Splats of some rows: a mask [M], or indices in the order wanted."""
        return Splats(*(getattr(self, f.name)[rows] for f in dataclasses.fields(self)))

    def radii_of_all(self, count: int) -> Tensor:
        """The radii [N], px, of all N = `count` Gaussians; 0 for those that are not seen."""
        return self.radii_px.new_zeros(count).index_copy(0, self.index, self.radii_px)


def available() -> tuple[bool, str]:
    """Whether this backend can run, and why: always, since it only needs torch."""
    return True, "plain torch, always available"


def render(
    gaussians: Gaussians,  # N
    cameras: Cameras,  # C
    background: Tensor,  # [C, 3] display colours
    screen_offsets: Tensor | None,  # [C, N, 2] px, added to the projected centres
) -> Rendering:
    """Render N Gaussians from C cameras. Gradients reach all five tensors of `gaussians` and the last two arguments."""
    check_values(gaussians, cameras, background, screen_offsets)
    images: list[Tensor] = []
    radii: list[Tensor] = []
    for c, splats in enumerate(seen_by_each(gaussians, cameras, screen_offsets)):
        images.append(composite(splats, background[c], cameras.width, cameras.height))
        radii.append(splats.radii_of_all(len(gaussians)))
    rgb, alpha, depth = torch.stack(images).split([3, 1, 1], dim=-1)
    return Rendering(rgb=rgb, alpha=alpha[..., 0], depth=depth[..., 0], radii_px=torch.stack(radii))


def seen_by_each(gaussians: Gaussians, cameras: Cameras, screen_offsets: Tensor | None) -> Iterator[Splats]:
    """What each camera sees, front to back: stages 1 and 2 of `render`, whose arguments these are."""
    nowhere = torch.zeros_like(gaussians.means[:, :2])
    for c in range(len(cameras)):
        offsets_px = nowhere if screen_offsets is None else screen_offsets[c]
        pose, intrinsics = cameras.world_to_camera[c], cameras.intrinsics[c]
        yield sort(project(gaussians, pose, intrinsics, cameras.width, cameras.height, offsets_px))


def project(
    gaussians: Gaussians,
    world_to_camera: Tensor,  # [4, 4]
    intrinsics: Tensor,  # [3, 3] px; no skew
    width: int,
    height: int,
    offsets_px: Tensor,  # [N, 2]
) -> Splats:
    """Stage 1: Gaussians to coloured ellipses on screen, without those that are invisible; in order of index."""
    rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    positions = gaussians.means @ rotation.T + translation  # [N, 3] camera frame
    index = ((positions[:, 2] > NEAR) & (gaussians.opacities >= MIN_ALPHA)).nonzero()[:, 0]  # [M]
    positions, opacities = positions[index], gaussians.opacities[index]
    axes = rotation @ rotation_from_quats(gaussians.quats[index]) * gaussians.scales[index, None]  # [M, 3, 3]

    centres_px = positions[:, :2] / positions[:, 2:] * _focal(intrinsics) + intrinsics[:2, 2] + offsets_px[index]
    jacobian = projection_jacobian(positions, intrinsics, width, height)
    x, y = (jacobian @ axes).unbind(1)  # [M, 3] each: the covariance on screen is (x, y) (x, y)^T + blur
    finite = x.square().sum(dim=-1) + y.square().sum(dim=-1) < LARGEST_PX2
    x, y = torch.where(finite[:, None], x, 0), torch.where(finite[:, None], y, 0)
    squares = x.square().sum(dim=-1) + y.square().sum(dim=-1)
    xx, xy, yy = x.square().sum(dim=-1) + BLUR_PX2, (x * y).sum(dim=-1), y.square().sum(dim=-1) + BLUR_PX2
    # xx yy - xy^2 would cancel for needles; by the identity of Cauchy and Binet it is a sum of squares.
    determinant = torch.linalg.cross(x, y).square().sum(dim=-1) + BLUR_PX2 * squares + BLUR_PX2**2
    a = (yy / determinant).sqrt()
    whitening = torch.stack([a, -xy / yy * a, yy.rsqrt()], dim=-1)

    with torch.no_grad():
        # alpha = o exp(-power) >= 1/255 where power <= ln(255 o), an ellipse of this many standard deviations.
        reach = torch.sqrt(2 * torch.log(opacities / MIN_ALPHA))  # [M]
        half_box_px = reach[:, None] * torch.stack([xx, yy], dim=-1).sqrt()
        largest_variance = (xx + yy) / 2 + torch.sqrt(((xx - yy) / 2) ** 2 + xy**2)
        size_px = centres_px.new_tensor([width, height])
        shows = finite & ((centres_px + half_box_px > 0) & (centres_px - half_box_px < size_px)).all(dim=-1)
    colours = view_colours(gaussians.means[index], gaussians.sh[index], world_to_camera)
    splats = Splats(
        index, centres_px, positions[:, 2], whitening, opacities, colours, half_box_px, reach * largest_variance.sqrt()
    )
    return splats.take(shows)


def projection_jacobian(
    positions: Tensor,  # [M, 3] camera frame
    intrinsics: Tensor,  # [3, 3] px
    width: int,
    height: int,
) -> Tensor:
    """Derivative [M, 2, 3] of the pixel by the camera-space position. Zwicker et al. 2002, eq. 29.

    x/z and y/z are clamped to a widened frustum: far outside it, linearising would smear Gaussians over the image.
    """
    focal = _focal(intrinsics)  # [2]
    size_px = focal.new_tensor([width, height])
    margin = WIDENING * 0.5 * size_px / focal
    lowest = -intrinsics[:2, 2] / focal - margin
    highest = (size_px - intrinsics[:2, 2]) / focal + margin
    slopes = (positions[:, :2] / positions[:, 2:]).clamp(lowest, highest)  # [M, 2]
    scale = focal / positions[:, 2:]  # [M, 2] px per world unit
    return torch.cat([torch.diag_embed(scale), -(scale * slopes)[:, :, None]], dim=-1)


def view_colours(
    means: Tensor,  # [M, 3] world
    sh: Tensor,  # [M, K, 3]
    world_to_camera: Tensor,  # [4, 4]
) -> Tensor:
    """Colours [M, 3] as seen from the camera; at least 0, may exceed 1."""
    camera_centre = -world_to_camera[:3, :3].T @ world_to_camera[:3, 3]
    basis = sh_basis(normalize(means - camera_centre, dim=-1), degree=isqrt(sh.shape[1]) - 1)  # [M, K]
    return (0.5 + (basis[:, :, None] * sh).sum(dim=1)).clamp(min=0)


def sort(splats: Splats) -> Splats:
    """Stage 2: front to back by camera-space z; equal depths stay in order of index."""
    return splats.take(torch.argsort(splats.depths, stable=True))


def composite(
    splats: Splats,  # sorted front to back
    background: Tensor,  # [3]
    width: int,
    height: int,
) -> Tensor:
    """Stage 3: blend front to back into [H, W, 5]: colour over the background, alpha, depth."""
    centres_px = splats.centres_px.detach()
    low, high = centres_px - splats.half_box_px, centres_px + splats.half_box_px  # [M, 2]
    rows: list[Tensor] = []
    for top in range(0, height, TILE_PX):
        tiles: list[Tensor] = []
        for left in range(0, width, TILE_PX):
            bottom, right = min(top + TILE_PX, height), min(left + TILE_PX, width)
            corners = low.new_tensor([[left, top], [right, bottom]])
            # Pixel centres lie half a pixel inside the corners, so rounding of the box cannot miss any.
            touches = (high > corners[0]) & (low < corners[1])  # [M, 2]
            pixels = _pixel_centres(left, right, top, bottom, like=low)
            # Checkpointed, because the [pixels, M] products of all tiles are too large to keep for the backward pass.
            tile = checkpoint(
                composite_pixels, splats.take(touches.all(dim=-1)), background, pixels,
                use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
            assert isinstance(tile, Tensor)
            tiles.append(tile.reshape(bottom - top, right - left, 5))
        rows.append(torch.cat(tiles, dim=1))
    return torch.cat(rows, dim=0)


def composite_pixels(
    splats: Splats,  # M, sorted front to back
    background: Tensor,  # [3]
    pixels: Tensor,  # [B, 2] centres (x, y), px
) -> Tensor:
    """Colour over the background, alpha and depth [B, 5] at B pixels. Kerbl et al. 2023, eq. 3."""
    dx, dy = (pixels[:, None, :] - splats.centres_px).unbind(-1)  # [B, M] each
    a, b, c = splats.whitening.unbind(-1)
    power = 0.5 * ((a * dx + b * dy).square() + (c * dy).square())
    alpha = (splats.opacities * torch.exp(-power)).clamp(max=MAX_ALPHA)
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0)

    # Transmittance before each Gaussian and, in the last column, behind all of them.
    transmittance = torch.cat([dx.new_ones(len(dx), 1), torch.cumprod(1 - alpha, dim=1)], dim=1)  # [B, M + 1]
    # Counting, rather than comparing each, ends a pixel for good even if a parallel product is not quite monotone.
    blended = torch.cumsum(transmittance[:, 1:] <= MIN_TRANSMITTANCE, dim=1) == 0  # [B, M]
    remaining = transmittance.gather(1, blended.sum(dim=1, keepdim=True))  # [B, 1]
    weights = alpha * transmittance[:, :-1] * blended

    rgb = weights @ splats.colours + remaining * background
    return torch.cat([rgb, 1 - remaining, weights @ splats.depths[:, None]], dim=1)


def _focal(intrinsics: Tensor) -> Tensor:
    return intrinsics.diagonal()[:2]  # [2] fx, fy


def _pixel_centres(left: int, right: int, top: int, bottom: int, like: Tensor) -> Tensor:
    x = torch.arange(left, right, dtype=like.dtype, device=like.device) + 0.5
    y = torch.arange(top, bottom, dtype=like.dtype, device=like.device) + 0.5
    return torch.cartesian_prod(y, x).flip(-1)  # [B, 2] row by row
