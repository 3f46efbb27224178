"""The specification's arithmetic in large batches, for devices without a kernel: many tiles and Gaussians at a time.

Projection and blending follow reference.py; only the order of work differs. The reference processes one tile after
another, which on a GPU means thousands of small launches. Here the tiles of all cameras are sorted by their number of
Gaussians, and groups of similar tiles are blended together, front to back, a few Gaussians at a time. Each such slice
is checkpointed: the backward pass recomputes its products, so that memory is bounded by the products of one slice plus
one transmittance per pixel and slice, whatever the number of Gaussians.

Sums are taken in a different order than in the reference, so images differ by rounding. On a GPU, gradients are summed
with atomics and vary in the last bits from run to run. Like the reference, this file needs torch's full float32 matrix
products (its default): in TF32 a centre would be off by a thousandth of its distance.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dreamsplat.render import reference
from dreamsplat.render.checks import check_values
from dreamsplat.render.reference import MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE, TILE_PX, Splats
from dreamsplat.types import Cameras, Gaussians, Rendering

SLICE = 64
"""Gaussians of a tile that are blended at once."""
CPU_PRODUCTS, GPU_PRODUCTS = 2**17, 2**22
"""Pairs of a pixel and a Gaussian computed at once, a dozen numbers each: few enough for a core's cache, or enough to
fill a GPU."""


@dataclass(frozen=True)
class TileLists:
    """Which splats each tile blends, for T tiles and I pairs of a tile and a splat whose box touches it."""

    splats: Tensor
    """[I] rows of splats, tile after tile, front to back within a tile."""
    starts: Tensor
    """[T] where a tile's part of `splats` begins."""
    counts: Tensor
    """[T] how long it is."""


def available() -> tuple[bool, str]:
    """Whether this backend can run, and why: always, since it only needs torch."""
    return True, "plain torch in large batches"


def render(
    gaussians: Gaussians,  # N
    cameras: Cameras,  # C
    background: Tensor,  # [C, 3] display colours
    screen_offsets: Tensor | None,  # [C, N, 2] px, added to the projected centres
) -> Rendering:
    """Render N Gaussians from C cameras. Gradients reach all five tensors of `gaussians` and the last two arguments.

    Raises:
        InvalidInput: for values that cannot be rendered.
    """
    check_values(gaussians, cameras, background, screen_offsets)
    with torch.autocast(gaussians.means.device.type, enabled=False):
        views = [*reference.seen_by_each(gaussians, cameras, screen_offsets)]
        blended = _composite(views, cameras.width, cameras.height)  # [C, H, W, 5]
        colour, depth, remaining = blended.split([3, 1, 1], dim=-1)
        return Rendering(
            rgb=colour + remaining * background[:, None, None, :],
            alpha=1 - remaining[..., 0],
            depth=depth[..., 0],
            radii_px=torch.stack([view.radii_of_all(len(gaussians)) for view in views]),
        )


def tile_lists(
    views: list[Splats],  # one per camera, each sorted front to back
    columns: int,  # tiles across an image
    rows: int,  # tiles down an image
) -> TileLists:
    """The lists of all tiles, [camera][row][column]; splats are numbered across all cameras."""
    corners = torch.cat([torch.stack([v.centres_px - v.half_box_px, v.centres_px + v.half_box_px], 1) for v in views])
    cameras = torch.cat([torch.full_like(view.index, c) for c, view in enumerate(views)])  # [S]
    last = corners.new_tensor([columns - 1, rows - 1])
    # Clamped as floats, because a box may extend beyond the range of integers.
    first = torch.minimum((corners[:, 0] / TILE_PX).floor().clamp(min=0), last).long()  # [S, 2] column, row
    final = torch.minimum((corners[:, 1] / TILE_PX).ceil().sub(1).clamp(min=0), last).long()
    spans = final - first + 1  # [S, 2]

    # Each splat once per tile that its box touches, and the index of that tile within its box, row by row.
    touched = spans.prod(dim=1)  # [S]
    splats = torch.repeat_interleave(touched)  # [I]
    within = torch.arange(len(splats), device=splats.device) - (touched.cumsum(0) - touched)[splats]
    row = first[splats, 1] + within // spans[splats, 0]
    column = first[splats, 0] + within % spans[splats, 0]
    tiles, order = torch.sort((cameras[splats] * rows + row) * columns + column, stable=True)

    counts = torch.bincount(tiles, minlength=len(views) * rows * columns)  # [T]
    return TileLists(splats[order], counts.cumsum(0) - counts, counts)


def _composite(views: list[Splats], width: int, height: int) -> Tensor:
    """Blend all images: [C, H, W, 5] colour without background, depth, remaining transmittance."""
    columns, rows = -(-width // TILE_PX), -(-height // TILE_PX)
    with torch.no_grad():
        lists = tile_lists(views, columns, rows)
        longest_first = torch.argsort(lists.counts, descending=True, stable=True)
    features = torch.cat([_features(view) for view in views])
    features = torch.cat([features, torch.zeros_like(features[:1])])  # The last is transparent and pads lists.
    products = CPU_PRODUCTS if features.device.type == "cpu" else GPU_PRODUCTS
    at_once = max(1, products // (SLICE * TILE_PX**2))
    groups = [_blend_group(features, lists, group, columns, rows) for group in longest_first.split(at_once)]
    tiles = torch.cat(groups)[torch.argsort(longest_first)]  # [T, 16, 16, 5]
    images = tiles.reshape(len(views), rows, columns, TILE_PX, TILE_PX, 5).transpose(2, 3)
    return images.reshape(len(views), rows * TILE_PX, columns * TILE_PX, 5)[:, :height, :width]


def _features(splats: Splats) -> Tensor:
    """[M, 10]: centre, whitening, opacity, colour, depth."""
    columns = (splats.centres_px, splats.whitening, splats.opacities[:, None], splats.colours, splats.depths[:, None])
    return torch.cat(columns, dim=1)


def _blend_group(
    features: Tensor,  # [S + 1, 10]; the last row is transparent
    lists: TileLists,
    group: Tensor,  # [G] tiles, the longest list first
    columns: int,
    rows: int,
) -> Tensor:
    """[G, 16, 16, 5] colour, depth and transmittance of tiles, slice by slice until they end."""
    corner = torch.stack([group % columns, group // columns % rows], dim=1) * TILE_PX  # [G, 2] (x, y) px
    steps = torch.arange(TILE_PX, device=group.device) + 0.5
    pixels = (corner[:, :, None] + steps).to(features.dtype)  # [G, 2, 16] x of the columns, y of the rows
    starts, counts = lists.starts[group, None], lists.counts[group, None]
    offsets = torch.arange(SLICE, device=group.device)

    totals = features.new_zeros(len(group), TILE_PX**2, 4)
    transmittance = features.new_ones(len(group), TILE_PX, TILE_PX)
    live = torch.ones_like(transmittance, dtype=torch.bool)
    for begin in range(0, int(counts[0]), SLICE):
        places = begin + offsets  # [L]
        inside = places < counts  # [G, L]
        splats = lists.splats[torch.where(inside, starts + places, 0)]
        result = checkpoint(
            _blend_slice, features, torch.where(inside, splats, len(features) - 1), pixels, transmittance, live,
            use_reentrant=False, preserve_rng_state=False,
        )  # fmt: skip
        assert isinstance(result, tuple)
        added, transmittance, live = result
        totals = totals + added
        if not bool(live.any()):
            break
    return torch.cat([totals.unflatten(1, (TILE_PX, TILE_PX)), transmittance[..., None]], dim=-1)


def _blend_slice(
    features: Tensor,  # [S + 1, 10]
    splats: Tensor,  # [G, L] rows of features, front to back
    pixels: Tensor,  # [G, 2, 16] centres, px
    transmittance: Tensor,  # [G, 16, 16] in front of the slice
    live: Tensor,  # [G, 16, 16] whether a pixel still blends
) -> tuple[Tensor, Tensor, Tensor]:
    """What L Gaussians add [G, 256, 4], and transmittance and live behind them. Kerbl et al. 2023, eq. 3."""
    near = features.index_select(0, splats.flatten()).unflatten(0, splats.shape)  # [G, L, 10]
    x, y, a, b, c, opacities = near[:, None, None, :, :6].unbind(-1)  # [G, 1, 1, L] each
    dx, dy = pixels[:, 0, None, :, None] - x, pixels[:, 1, :, None, None] - y  # [G, 1, 16, L], [G, 16, 1, L]
    power = 0.5 * ((a * dx + b * dy).square() + (c * dy).square())  # [G, 16, 16, L]
    alpha = (opacities * torch.exp(-power)).clamp(max=MAX_ALPHA)
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0)

    # Transmittance in front of each Gaussian and, in the last column, behind all of them: reference.composite_pixels.
    after = transmittance[..., None] * torch.cumprod(1 - alpha, dim=-1)
    before = torch.cat([transmittance[..., None], after], dim=-1)  # [G, 16, 16, L + 1]
    blended = (torch.cumsum(after <= MIN_TRANSMITTANCE, dim=-1) == 0) & live[..., None]
    weights = (alpha * before[..., :-1] * blended).flatten(1, 2)  # [G, 256, L]
    remaining = before.gather(-1, blended.sum(dim=-1, keepdim=True))[..., 0]
    return weights @ near[..., 6:], remaining, blended[..., -1]
