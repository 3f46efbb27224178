"""What the tests of the renderers share: cameras, and all outputs and gradients of a renderer as numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from dreamsplat.method.cameras import make_views
from dreamsplat.render import selftest
from dreamsplat.types import Cameras, Gaussians, Rendering

INPUTS = ("means", "scales", "quats", "opacities", "sh", "background", "screen_offsets")
OUTPUTS = ("rgb", "alpha", "depth")
RELATIVE_ERROR = 1e-5
"""Largest relative L2 error of the compiled renderer against float64: all cases stay under 7e-6, most under 3e-6."""

Case = tuple[Gaussians, Cameras]

exact_scene = partial(selftest.scene, dtype=torch.float64)


def exact_cameras(count: int = 2, size: tuple[int, int] = (37, 21), distance: float = 3.0) -> Cameras:
    """Cameras around the origin, above the horizon, in float64."""
    step, same = torch.arange(count, dtype=torch.float64), torch.ones(count, dtype=torch.float64)
    return make_views(20 + 70 * step, 10 + 25 * step, distance * same, 50 * same, width=size[0], height=size[1]).cameras


def orbit(count: int = 2, size: tuple[int, int] = (37, 23), distance: float = 3.0, fov_deg: float = 50.0) -> Cameras:
    """Cameras around the origin, from below to above."""
    step, same = torch.arange(count), torch.ones(count)
    width, height = size
    return make_views(140.0 * step - 100, 15.0 * step - 20, distance * same, fov_deg * same, width, height).cameras


def outputs_and_gradients(
    render: Callable[..., Rendering],
    gaussians: Gaussians,
    cameras: Cameras,
    use: tuple[str, ...] = OUTPUTS,
) -> dict[str, Tensor]:
    """All outputs by name, and the gradients of a random weighted sum of those in `use` by the name of the input."""
    generator, like = torch.Generator().manual_seed(1), gaussians.means
    shape = (len(cameras), cameras.height, cameras.width)
    rgb, alpha, depth = torch.randn(*shape, 5, generator=generator).to(like).split([3, 1, 1], dim=-1)
    weights = {"rgb": rgb, "alpha": alpha[..., 0], "depth": depth[..., 0]}
    background = torch.rand(len(cameras), 3, generator=generator).to(like)
    offsets = torch.rand(len(cameras), len(gaussians), 2, generator=generator).to(like) - 0.5
    leaves = [value.detach().requires_grad_() for value in (*gaussians.tensors().values(), background, offsets)]
    rendering = render(Gaussians(*leaves[:5]), cameras, *leaves[5:])
    total = torch.stack([(getattr(rendering, name) * weights[name]).sum() for name in use]).sum()
    gradients = torch.autograd.grad(total, leaves, materialize_grads=True)
    outputs = {name: value.detach() for name, value in rendering.tensors().items()}
    return outputs | dict(zip(INPUTS, gradients, strict=True))


def relative_error(found: Tensor, right: Tensor) -> float:
    """In the L2 norm; where `right` is 0 everywhere, the error itself."""
    assert found.shape == right.shape
    error, norm = (found.double() - right).norm(), right.norm()
    return float(error / norm) if norm > 0 else float(error)
