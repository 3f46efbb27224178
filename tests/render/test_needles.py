"""Long thin Gaussians: float32 agrees with float64, in pictures and gradients, however long and thin they are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dreamsplat.method.cameras import orbit
from dreamsplat.render import render
from dreamsplat.types import Cameras, Gaussians, Rendering

CAMERAS = orbit(2, size=32).cameras


def needles(length: float, width: float, seed: int, count: int = 30) -> Gaussians:
    """Needles that cross the picture in all directions."""
    generator = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=0.4 * torch.randn(count, 3, generator=generator),
        scales=torch.tensor([[length, width, width]]).repeat(count, 1),
        quats=torch.randn(count, 4, generator=generator),
        opacities=0.2 + 0.7 * torch.rand(count, generator=generator),
        sh=torch.rand(count, 1, 3, generator=generator),
    )


def rendered(gaussians: Gaussians, cameras: Cameras, backend: str) -> tuple[Rendering, dict[str, Tensor]]:
    """The pictures, and the gradients of a weighted sum of them."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in gaussians.tensors().items()}
    image = render(Gaussians(**leaves), cameras, backend=backend)
    weights = torch.randn(image.rgb.shape, generator=torch.Generator().manual_seed(0)).to(image.rgb)
    ((image.rgb * weights).sum() + image.alpha.sum() + 0.1 * image.depth.sum()).backward()
    return image.detach(), {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@settings(max_examples=12, deadline=None)
@given(
    length=st.floats(-1.0, 3.0).map(lambda power: 10**power),
    width=st.floats(-6.0, -2.0).map(lambda power: 10**power),
    seed=st.integers(0, 1000),
)
def test_needles_of_any_length_and_width_are_drawn_in_float32_as_in_float64(backend, length, width, seed):
    gaussians = needles(length, width, seed)
    image, gradients = rendered(gaussians, CAMERAS, backend)
    exact, true_gradients = rendered(gaussians.to(torch.float64), CAMERAS.to(torch.float64), "reference")
    assert float((image.rgb - exact.rgb).abs().max()) <= 1e-4
    assert float((image.alpha - exact.alpha).abs().max()) <= 1e-4
    for name, true in true_gradients.items():
        assert float((gradients[name] - true).abs().max()) <= 1e-4 * float(true.abs().max()), name


@pytest.mark.parametrize("backend", ["reference", "tiled", "cpu"])
def test_a_gaussian_that_overflows_on_screen_is_culled_and_leaves_the_others_alone(backend):
    gaussians = needles(0.3, 0.1, 0)
    scales = gaussians.scales.clone()
    scales[0] = 1e15
    huge = Gaussians(**(gaussians.tensors() | {"scales": scales}))
    without = gaussians.map(lambda tensor: tensor[1:])
    image, gradients = rendered(huge, CAMERAS, backend)
    torch.testing.assert_close(image.rgb, rendered(without, CAMERAS, backend)[0].rgb)
    for gradient in gradients.values():
        assert bool(gradient.isfinite().all()) and float(gradient[0].abs().max()) == 0
