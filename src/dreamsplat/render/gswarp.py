"""The CUDA backend without a compiler: gswarp >= 1.1 (Apache-2.0), a rasteriser in NVIDIA Warp, one camera at a time.

It has the interface of the official rasteriser of 3D Gaussian splatting (Kerbl et al. 2023) and its arithmetic, which
is that of the specification but for

- the footprint: it ends three standard deviations from the centre, rounded up to whole tiles, where alpha may still be
  0.011 of the peak, and not at 1/255;
- the near plane, at 0.2 instead of 0.01 world units;
- gradients, which are summed with atomics and vary in the last bits from run to run.

Colours come from reference.py. Screen offsets move the centres, and get the gradient of the projected centres alone.
"""

import functools
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.render import reference, selftest
from dreamsplat.render.checks import check_values
from dreamsplat.types import Cameras, Gaussians, Rendering

TOLERANCE = 2e-2
"""Largest relative L2 error of images and gradients against the specification that the footprint explains."""
_NEAR, _FAR = 0.01, 1000.0  # Of the projection matrix; only its first two rows decide anything.


@functools.cache
def available() -> tuple[bool, str]:
    """Whether gswarp passes the self-test on this machine's CUDA device, or why not. Tried once.

    Its kernels are translated when first used on a machine, which takes a minute and no compiler.
    """
    return selftest.cuda_package("gswarp", render, TOLERANCE)


def render(
    gaussians: Gaussians,  # N
    cameras: Cameras,  # C
    background: Tensor,  # [C, 3] display colours
    screen_offsets: Tensor | None,  # [C, N, 2] px, added to the projected centres
) -> Rendering:
    """Render N Gaussians from C cameras, with gradients to the Gaussians, background and offsets; cameras get none.

    Raises:
        InvalidInput: for values that cannot be rendered, or a camera whose principal point is not in the middle.
    """
    check_values(gaussians, cameras, background, screen_offsets)
    _check_pinhole(cameras)
    dtype, single, cameras = gaussians.means.dtype, gaussians.to(torch.float32), cameras.detach().to(torch.float32)
    offsets = single.means.new_zeros(len(cameras), len(single), 2)
    offsets = offsets if screen_offsets is None else screen_offsets.to(torch.float32)
    with torch.autocast(background.device.type, enabled=False):
        views = [_view(single, cameras, c, background[c].to(torch.float32), offsets[c]) for c in range(len(cameras))]
    rgb, alpha, depth, radii = (torch.stack(each) for each in zip(*views, strict=True))
    return Rendering(rgb=rgb, alpha=alpha, depth=depth, radii_px=radii).to(dtype)


def _view(
    gaussians: Gaussians, cameras: Cameras, c: int, background: Tensor, offsets_px: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colour [H, W, 3], alpha and depth [H, W] and radii [N] from one camera."""
    pose, pinhole = cameras.world_to_camera[c], cameras.intrinsics[c]
    if len(gaussians) == 0:
        shape = (cameras.height, cameras.width)
        nothing = background.new_zeros(shape)
        return background.expand(*shape, 3), nothing, nothing, background.new_zeros(0)
    package = _package()
    focal = pinhole.diagonal()[:2]
    size_px = focal.new_tensor([cameras.width, cameras.height])
    rotation = pose[:3, :3]
    z = gaussians.means.detach() @ rotation[2] + pose[2, 3]
    # The package has no offsets: a step sideways moves the projected centre as far.
    aside = torch.cat([offsets_px.detach() * z[:, None] / focal, torch.zeros_like(z)[:, None]], dim=1) @ rotation
    # Its input for gradients on screen counts half images, and carries no position.
    on_screen = torch.cat([offsets_px * (2 / size_px), torch.zeros_like(z)[:, None]], dim=1)
    tangents = (size_px / (2 * focal)).tolist()
    settings = package.GaussianRasterizationSettings(
        image_height=cameras.height, image_width=cameras.width, tanfovx=tangents[0], tanfovy=tangents[1],
        bg=torch.zeros_like(background), scale_modifier=1.0, viewmatrix=pose.T.contiguous(),
        projmatrix=(_projection(tangents, like=pose) @ pose).T.contiguous(), sh_degree=0,
        campos=-rotation.T @ pose[:3, 3], prefiltered=False, auto_tune_verbose=False,
    )  # fmt: skip
    colour, radii, meta = package.GaussianRasterizer(settings)(
        means3D=gaussians.means + aside, means2D=on_screen, opacities=gaussians.opacities[:, None],
        colors_precomp=reference.view_colours(gaussians.means, gaussians.sh, pose), scales=gaussians.scales,
        rotations=torch.nn.functional.normalize(gaussians.quats, dim=-1),
    )  # fmt: skip
    alpha = meta.alpha.reshape(cameras.height, cameras.width)
    rgb = colour.permute(1, 2, 0) + (1 - alpha)[..., None] * background
    return rgb, alpha, meta.depth.reshape(cameras.height, cameras.width), radii.to(rgb.dtype)


def _projection(tangents: list[float], like: Tensor) -> Tensor:
    """The projection matrix [4, 4] of a camera that looks along +z, to normalised device coordinates."""
    x, y = (1 / tangent for tangent in tangents)
    depth = _FAR / (_FAR - _NEAR)
    return like.new_tensor([[x, 0, 0, 0], [0, y, 0, 0], [0, 0, depth, -depth * _NEAR], [0, 0, 1, 0]])


def _check_pinhole(cameras: Cameras) -> None:
    middle = cameras.intrinsics[:, :2, 2] - cameras.intrinsics.new_tensor([cameras.width, cameras.height]) / 2
    if bool((middle.abs() > 1e-3).any()):
        raise InvalidInput("intrinsics: gswarp needs the principal point in the middle of the image.")


@functools.cache
def _package() -> Any:
    return import_module("gswarp")
