"""The tiled renderer against the specification in float64: images, radii and all gradients, whatever the tiling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from rendering import exact_cameras as cameras
from rendering import exact_scene as scene
from rendering import outputs_and_gradients as run
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.render import reference, tiled
from dreamsplat.types import Cameras, Gaussians


def assert_same(gaussians: Gaussians, views: Cameras) -> None:
    expected, received = run(reference.render, gaussians, views), run(tiled.render, gaussians, views)
    for name, value in expected.items():
        assert received[name].dtype == value.dtype and received[name].shape == value.shape, name
        # Sums run in another order; the backward pass divides by 1 - alpha, down to 0.01, once per Gaussian.
        torch.testing.assert_close(received[name], value, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


CASES: dict[str, tuple[Gaussians, Cameras]] = {
    "none": (scene(0), cameras()),
    "one": (scene(1, 0), cameras(1)),
    "sizes that are no multiple of a tile": (scene(60), cameras()),
    "sizes that are": (scene(60), cameras(size=(32, 16))),
    "one pixel": (scene(60), cameras(size=(1, 1))),
    "one row": (scene(60), cameras(size=(50, 1))),
    "three cameras, degree 3": (scene(30, 3), cameras(3)),
    "lists of several slices": (scene(300, 0, spread=0.2, opacity=(0.005, 0.05)), cameras(1)),
    "pixels that end early, in the middle of a slice": (scene(200, 0, scale=(0.1, 0.4), opacity=(0.5, 1)), cameras()),
    "some behind the camera and some around it": (scene(80, spread=2.0, scale=(0.1, 0.5)), cameras(distance=0.5)),
    "all behind the camera": (replace(scene(5), means=scene(5).means * 0.1 + 50), cameras(1, distance=0.3)),
    "too faint to show": (scene(10, opacity=(0.0, 0.0039)), cameras()),
}


@pytest.mark.parametrize("case", CASES)
def test_images_radii_and_gradients_are_those_of_the_specification(case: str) -> None:
    assert_same(*CASES[case])


def test_cases_hold_what_their_names_say() -> None:
    slices, early = CASES["lists of several slices"], CASES["pixels that end early, in the middle of a slice"]
    assert (tiled.render(*slices, torch.zeros(1, 3).double(), None).radii_px > 0).sum() > 2 * tiled.SLICE
    assert tiled.render(*early, torch.zeros(2, 3).double(), None).alpha.max() > 0.99
    behind = CASES["all behind the camera"]
    assert tiled.render(*behind, torch.zeros(1, 3).double(), None).radii_px.max() == 0


@pytest.mark.parametrize(("per_slice", "products"), [(1, 1), (7, 5000), (500, 2**20)])
def test_the_work_can_be_cut_in_any_way(monkeypatch: pytest.MonkeyPatch, per_slice: int, products: int) -> None:
    monkeypatch.setattr(tiled, "SLICE", per_slice)
    monkeypatch.setattr(tiled, "CPU_PRODUCTS", products)
    assert_same(scene(40, 1, spread=0.3, scale=(0.05, 0.4), opacity=(0.3, 1)), cameras())


def test_lists_hold_each_splat_once_per_tile_that_its_box_touches_front_to_back() -> None:
    gaussians, views = scene(50), cameras(2)
    zeros = torch.zeros(50, 2, dtype=torch.float64)
    sides = [
        reference.sort(reference.project(gaussians, views.world_to_camera[c], views.intrinsics[c], 37, 21, zeros))
        for c in range(2)
    ]
    lists = tiled.tile_lists(sides, columns=3, rows=2)
    for tile in range(12):
        camera, row, column = tile // 6, tile // 3 % 2, tile % 3
        splats, before = sides[camera], sum(len(side.index) for side in sides[:camera])
        low, high = splats.centres_px - splats.half_box_px, splats.centres_px + splats.half_box_px
        corner = torch.tensor([16.0 * column, 16.0 * row], dtype=torch.float64)
        touching = ((high > corner) & (low < corner + 16)).all(dim=1).nonzero()[:, 0] + before
        begin = int(lists.starts[tile])
        assert lists.splats[begin : begin + int(lists.counts[tile])].tolist() == touching.tolist()


def test_products_of_pixels_and_gaussians_are_not_kept_for_the_backward_pass() -> None:
    gaussians, views = scene(300, 0, spread=0.2, opacity=(0.005, 0.05)), cameras(1, size=(64, 64))
    gaussians.means.requires_grad_()
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        tiled.render(gaussians, views, torch.zeros(1, 3).double(), None)
    assert 0 < max(sizes) < 64 * 64 * tiled.SLICE / 4


def test_autocast_around_it_changes_nothing() -> None:
    gaussians, views = scene(40).to(torch.float32), cameras().to(torch.float32)
    plain = run(tiled.render, gaussians, views)
    cast = run(torch.autocast("cpu", dtype=torch.bfloat16)(tiled.render), gaussians, views)
    assert all(torch.equal(plain[name], cast[name]) for name in plain)


def test_float32_stays_float32_and_near_the_specification() -> None:
    gaussians, views = scene(60), cameras()
    expected = run(reference.render, gaussians, views)
    received = run(tiled.render, gaussians.to(torch.float32), views.to(torch.float32))
    for name, value in expected.items():
        assert received[name].dtype == torch.float32
        assert (received[name] - value).norm() <= 1e-5 * value.norm(), name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    gaussians: Any = scene(4)
    gaussians.means[2, 1] = value
    with pytest.raises(InvalidInput, match="means: row 2"):
        tiled.render(gaussians, cameras(1), torch.zeros(1, 3).double(), None)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_cuda_agrees_with_the_specification(case: str) -> None:
    gaussians, views = CASES[case]
    expected = run(reference.render, gaussians, views)
    received = run(lambda *inputs: tiled.render(*(i.to("cuda") for i in inputs)).to("cpu"), gaussians, views)
    for name, value in expected.items():
        torch.testing.assert_close(received[name], value, rtol=1e-8, atol=1e-9)
