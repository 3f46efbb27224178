"""The CUDA backend: the projection and rasterisation kernels of gsplat >= 1.5 (Ye et al. 2024), stage by stage.

Colours come from reference.py, because gsplat defines spherical harmonics in the same way. gsplat's stages are called
one by one rather than through `gsplat.rasterization`, which does not support screen offsets. Everything is computed in
float32, whatever the dtype of the inputs or autocast.

Differences from the specification that cannot be changed (from the sources of 1.5.0 to 1.5.3 and 1.6):

- A Gaussian's alpha is capped at 0.999 up to 1.5.3, not 0.99. This only affects opacities above 0.99: at most 0.009
  more alpha at their centres, where they also still get a gradient.
- Culling precedes the screen offsets: a Gaussian that is in the image only because of its offset is not drawn.
- exp is the fast one of the hardware, about 1e-6 off. A pixel at the edge of a footprint may therefore cross the 1/255
  threshold, which changes its alpha by that much.
- The backward pass recovers transmittance by division from the back, starting at 1 - alpha in float32: off by 6e-8 / T,
  or 6e-4 in a nearly opaque pixel.
- Gradients are summed with atomics and vary in the last bits from run to run.
- Radii come from the inverse covariance: those of needles of 100 px are accurate to about 1e-3.
"""

import functools
import shutil

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.render import reference, selftest
from dreamsplat.render.checks import check_values
from dreamsplat.types import Cameras, Gaussians, Rendering

TILE_PX = 16
"""Side of the squares of pixels that share a list of Gaussians in gsplat."""
TOLERANCE = 1e-3
"""Largest relative L2 error of images and gradients against the specification in float64 that the above explains. About
1e-6 is usual; a pixel that crosses 1/255 is 1e-4 of a small image."""


@functools.cache
def available() -> tuple[bool, str]:
    """Whether gsplat passes the self-test on this machine's CUDA device, or why not. Tried once.

    When first used on a machine, gsplat compiles its kernels, which takes minutes and is reported by gsplat.
    """
    hint = "" if shutil.which("nvcc") else "; it needs nvcc to compile, which is not on the PATH"
    return selftest.cuda_package("gsplat", render, TOLERANCE, hint)


def render(
    gaussians: Gaussians,  # N
    cameras: Cameras,  # C
    background: Tensor,  # [C, 3] display colours
    screen_offsets: Tensor | None,  # [C, N, 2] px, added to the projected centres
) -> Rendering:
    """Render N Gaussians from C cameras, with gradients to the Gaussians, background and offsets; cameras get none.

    Raises:
        InvalidInput: for values that cannot be rendered.
    """
    single = gaussians.to(torch.float32), cameras.detach().to(torch.float32), background.to(torch.float32)
    offsets = None if screen_offsets is None else screen_offsets.to(torch.float32)
    if not _can_be_rendered(*single, offsets):
        check_values(gaussians, cameras, background, screen_offsets)  # Says which one.
        raise InvalidInput("a value exceeds float32, in which gsplat computes.", advice="Scale the object.")
    with torch.autocast(background.device.type, enabled=False):
        rendering = _rasterise(*single, offsets) if len(gaussians) else _empty(cameras, single[2])
    return rendering.to(gaussians.means.dtype)


def _can_be_rendered(gaussians: Gaussians, cameras: Cameras, background: Tensor, screen_offsets: Tensor | None) -> bool:
    """What `check_values` checks, with a single wait for the device."""
    tensors = [*vars(gaussians).values(), cameras.world_to_camera, cameras.intrinsics, background]
    tensors += [] if screen_offsets is None else [screen_offsets]
    focals_px = cameras.intrinsics.diagonal(dim1=-2, dim2=-1)[:, :2]
    holds = [tensor.isfinite().all() for tensor in tensors]
    holds += [(gaussians.scales > 0).all(), gaussians.quats.any(dim=-1).all(), (focals_px > 0).all()]
    holds += [(gaussians.opacities >= 0).all(), (gaussians.opacities <= 1).all()]
    return bool(torch.stack(holds).all())


def _rasterise(gaussians: Gaussians, cameras: Cameras, background: Tensor, screen_offsets: Tensor | None) -> Rendering:
    from gsplat import fully_fused_projection, isect_offset_encode, isect_tiles, rasterize_to_pixels  # pyright: ignore

    count, width, height = len(cameras), cameras.width, cameras.height
    # Stage 1: project. Rows of culled Gaussians are undefined, except that their radius is 0; they get no gradient.
    half_boxes_px, centres_px, depths, conics, _ = fully_fused_projection(
        gaussians.means, None, gaussians.quats, gaussians.scales, cameras.world_to_camera, cameras.intrinsics,
        width, height, eps2d=reference.BLUR_PX2, near_plane=reference.NEAR, far_plane=torch.finfo(torch.float32).max,
        radius_clip=0.0, opacities=gaussians.opacities.detach(),
    )  # fmt: skip
    if screen_offsets is not None:
        centres_px = centres_px + screen_offsets
    colours = torch.stack([reference.view_colours(gaussians.means, gaussians.sh, w) for w in cameras.world_to_camera])

    # Stage 2: sort, by tile and then by depth.
    columns, rows = -(-width // TILE_PX), -(-height // TILE_PX)
    _, keys, order = isect_tiles(centres_px.detach(), half_boxes_px, depths.detach(), TILE_PX, columns, rows)
    begins = isect_offset_encode(keys, count, columns, rows)

    # Stage 3: blend. Depth is a fourth colour over a background of 0.
    opacities = gaussians.opacities.expand(count, -1)
    image, alpha = rasterize_to_pixels(
        centres_px, conics, torch.cat([colours, depths[..., None]], dim=-1), opacities,
        width, height, TILE_PX, begins, order,
        backgrounds=torch.cat([background, torch.zeros_like(background[:, :1])], dim=-1),
    )  # fmt: skip
    radii_px = _radii_px(centres_px.detach(), conics.detach(), opacities.detach(), half_boxes_px, width, height)
    return Rendering(rgb=image[..., :3], alpha=alpha[..., 0], depth=image[..., 3], radii_px=radii_px)


def _radii_px(
    centres_px: Tensor,  # [C, N, 2]
    conics: Tensor,  # [C, N, 3] inverse covariance: xx, xy, yy
    opacities: Tensor,  # [C, N]
    half_boxes_px: Tensor,  # [C, N, 2] gsplat's, whole px; 0 where it culls
    width: int,
    height: int,
) -> Tensor:
    """Half of the longest visible extent [C, N], 0 where culled: reference.project, from what gsplat returns."""
    xx, xy, yy = conics.unbind(-1)
    determinant = xx * yy - xy * xy
    reach = torch.sqrt(2 * torch.log(opacities / reference.MIN_ALPHA))  # [C, N] standard deviations
    boxes_px = half_boxes_px.to(conics.dtype)
    # gsplat's box bounds ours. fmin also selects it where rounding gives NaN, as in needles and in culled rows.
    half_box_px = torch.fmin(reach[..., None] * torch.sqrt(conics[..., [2, 0]] / determinant[..., None]), boxes_px)
    largest_variance = ((xx + yy) / 2 + torch.sqrt(((xx - yy) / 2) ** 2 + xy**2)) / determinant
    radii_px = torch.fmin(reach * torch.sqrt(largest_variance), boxes_px.norm(dim=-1))
    size_px = centres_px.new_tensor([width, height])
    in_image = ((centres_px + half_box_px > 0) & (centres_px - half_box_px < size_px)).all(dim=-1)
    return torch.where(in_image & (half_boxes_px > 0).all(dim=-1), radii_px, 0)


def _empty(cameras: Cameras, background: Tensor) -> Rendering:
    """Only the background, because gsplat's kernels divide by the number of Gaussians."""
    nothing = background.new_zeros(len(cameras), cameras.height, cameras.width)
    rgb = nothing[..., None] + background[:, None, None, :]
    return Rendering(rgb=rgb, alpha=nothing, depth=nothing, radii_px=background.new_zeros(len(cameras), 0))
