"""Scenes that nobody thought of, compiled rasteriser against specification, and gradients against differences."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rendering import INPUTS, RELATIVE_ERROR, Case, orbit, outputs_and_gradients, relative_error
from torch import Tensor

from dreamsplat.render import cpu, reference
from dreamsplat.render.selftest import scene
from dreamsplat.types import Gaussians


@dataclass(frozen=True)
class Drawn:
    """What a scene is made from."""

    count: int
    sh_degree: int
    spread: float
    log10_scale: float
    scale_ratio: float
    opacity: tuple[float, float]
    cameras: int
    size: tuple[int, int]
    distance: float
    fov_deg: float

    def case(self) -> Case:
        smallest = 10**self.log10_scale
        scales = (smallest, smallest * self.scale_ratio)
        gaussians = scene(self.count, self.sh_degree, spread=self.spread, scale=scales, opacity=self.opacity)
        return gaussians, orbit(self.cameras, self.size, self.distance, self.fov_deg)


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


SCENES = st.builds(
    Drawn,
    count=st.integers(0, 150),
    sh_degree=st.integers(0, 3),
    spread=st.sampled_from([0.1, 0.6, 3.0]),
    log10_scale=between(-4, 0.5),
    scale_ratio=between(1, 30),
    opacity=st.tuples(between(0, 0.5), between(0.5, 1)),
    cameras=st.integers(1, 3),
    size=st.tuples(st.integers(1, 48), st.integers(1, 48)),
    distance=between(0.25, 5),
    fov_deg=between(10, 100),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(drawn=SCENES)
def test_random_scenes_agree_with_the_specification(drawn: Drawn) -> None:
    """Where a cut falls between two roundings (alpha at 1/255, equal depths), the specification in float32 errs too."""
    right, rounded, found = (
        outputs_and_gradients(render, *(part.to(dtype) for part in drawn.case()))
        for render, dtype in (
            (reference.render, torch.float64),
            (reference.render, torch.float32),
            (cpu.render, torch.float32),
        )
    )
    for name in right:
        allowed = max(RELATIVE_ERROR, 3 * relative_error(rounded[name], right[name]))
        if name == "opacities":  # Few numbers may be what is left where terms as large as alpha cancel.
            allowed *= max(1.0, float(right["alpha"].norm() / right[name].norm().clamp_min(1e-30)))
        assert relative_error(found[name], right[name]) <= allowed, name


def smooth_scene() -> Case:
    """Few overlapping Gaussians that no cut decides on: soft, opaque enough everywhere, and no pixel ends early."""
    gaussians = scene(5, 2, spread=0.2, scale=(0.8, 1.2), opacity=(0.2, 0.4))
    sh = gaussians.sh * 0.1
    sh[:, 0] += 1  # far from the cut at 0
    return replace(gaussians, sh=sh), orbit(2, size=(9, 7))


@pytest.mark.parametrize("name", INPUTS)
def test_gradients_are_those_of_central_differences_in_float64(name: str) -> None:
    """The compiled gradients in float32 against differences of the specification in float64."""
    gaussians, cameras = smooth_scene()
    cameras = cameras.to(torch.float64)
    generator = torch.Generator().manual_seed(1)  # the draws of `outputs_and_gradients`, in its order
    weights = torch.randn(2, 7, 9, 5, generator=generator).double()
    background = torch.rand(2, 3, generator=generator).double()
    offsets = (torch.rand(2, 5, 2, generator=generator) - 0.5).double()
    values = dict(zip(INPUTS, [*(v.double() for v in vars(gaussians).values()), background, offsets], strict=True))

    def loss(changed: Tensor) -> Tensor:
        all_values = list((values | {name: changed}).values())
        image = reference.render(Gaussians(*all_values[:5]), cameras, *all_values[5:])
        planes = [image.rgb, image.alpha[..., None], image.depth[..., None]]
        return (torch.cat(planes, dim=-1) * weights).sum()

    found = outputs_and_gradients(cpu.render, *smooth_scene())[name].double()
    value, step = values[name], 1e-5
    differences = torch.zeros_like(value)
    for i in range(value.numel()):
        change = torch.zeros(value.numel(), dtype=torch.float64)
        change[i] = step
        change = change.reshape(value.shape)
        differences.view(-1)[i] = (loss(value + change) - loss(value - change)) / (2 * step)
    assert relative_error(found, differences) < 2e-5
