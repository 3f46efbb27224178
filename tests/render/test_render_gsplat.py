"""The adapter to gsplat: against the specification, with gsplat's four functions written again in torch (no GPU here).

The stand-ins take and return what gsplat 1.5's documentation says, check shapes as it does, and leave rows of culled
Gaussians without values, as its kernels do. Tests marked `gpu` compare the real kernels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from math import nan
from types import ModuleType
from typing import Any

import pytest
import torch
from rendering import INPUTS, OUTPUTS
from rendering import exact_cameras as cameras
from rendering import exact_scene as scene
from rendering import outputs_and_gradients as run
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.rotations import covariances
from dreamsplat.render import gsplat, reference, selftest
from dreamsplat.types import Cameras, Gaussians

RELATIVE_ERROR = 2e-5
"""Largest relative L2 error in float32 against float64."""


def fully_fused_projection(
    means: Tensor, covars: None, quats: Tensor, scales: Tensor, viewmats: Tensor, Ks: Tensor, width: int, height: int,
    eps2d: float, near_plane: float, far_plane: float, radius_clip: float, opacities: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:  # fmt: skip
    count, views = len(means), len(viewmats)
    assert count > 0, "gsplat divides by the number of Gaussians"
    assert (quats.shape, scales.shape, opacities.shape) == ((count, 4), (count, 3), (count,))
    assert viewmats.shape == (views, 4, 4) and Ks.shape == (views, 3, 3)
    rotations = viewmats[:, :3, :3]
    positions = means @ rotations.mT + viewmats[:, None, :3, 3]  # [C, N, 3]
    seen = (positions[..., 2] >= near_plane) & (positions[..., 2] <= far_plane) & (opacities >= 1 / 255)
    positions = torch.where(seen[..., None], positions, 1.0)
    focals = Ks.diagonal(dim1=-2, dim2=-1)[:, None, :2]
    centres = positions[..., :2] / positions[..., 2:] * focals + Ks[:, None, :2, 2]
    jacobians = torch.stack(
        [reference.projection_jacobian(p, k, width, height) for p, k in zip(positions, Ks, strict=True)]
    )
    to_screen = jacobians @ rotations[:, None]  # [C, N, 2, 3]
    covariance = to_screen @ covariances(scales, quats) @ to_screen.mT + eps2d * torch.eye(2)
    reach = (2 * (255 * opacities).log()).sqrt().clamp(max=3.33)[:, None]
    radii = torch.ceil(reach * covariance.diagonal(dim1=-2, dim2=-1).sqrt()).nan_to_num(0)
    seen = seen & (radii > radius_clip).any(-1)
    seen = seen & ((centres + radii > 0) & (centres - radii < torch.tensor([width, height]))).all(-1)
    inverse = torch.linalg.inv(covariance)
    conics = torch.stack([inverse[..., 0, 0], inverse[..., 0, 1], inverse[..., 1, 1]], dim=-1)
    unset = [torch.where(seen[..., None], value, nan) for value in (centres, positions, conics)]
    return (radii * seen[..., None]).int().detach(), unset[0], unset[1][..., 2], unset[2], None


def isect_tiles(
    means2d: Tensor, radii: Tensor, depths: Tensor, tile_size: int, tile_width: int, tile_height: int
) -> tuple[Tensor, Tensor, Tensor]:
    assert radii.dtype == torch.int32 and not means2d.requires_grad
    views, count, _ = means2d.shape
    assert radii.shape == (views, count, 2) and depths.shape == (views, count)
    bits = (tile_width * tile_height).bit_length()
    found: list[tuple[int, int]] = []
    for row, (centre, radius, depth) in enumerate(
        zip(means2d.reshape(-1, 2), radii.reshape(-1, 2), depths.reshape(-1, 1), strict=True)
    ):
        if int(radius.min()) > 0:
            first, last = ((centre - radius) / tile_size).floor(), ((centre + radius) / tile_size).ceil()
            for y in range(max(0, int(first[1])), min(tile_height, int(last[1]))):
                for x in range(max(0, int(first[0])), min(tile_width, int(last[0]))):
                    tile = (row // count << bits) | (y * tile_width + x)
                    found.append(((tile << 32) | int(depth.view(torch.int32)), row))
    found.sort(key=lambda pair: pair[0])
    keys, rows = torch.tensor([k for k, _ in found]).long(), torch.tensor([r for _, r in found]).int()
    return torch.empty(views, count, dtype=torch.int32), keys, rows


def isect_offset_encode(isect_ids: Tensor, n_images: int, tile_width: int, tile_height: int) -> Tensor:
    tiles, bits = tile_width * tile_height, (tile_width * tile_height).bit_length()
    keys = [((c << bits) | tile) << 32 for c in range(n_images) for tile in range(tiles)]
    return torch.searchsorted(isect_ids, torch.tensor(keys)).int().reshape(n_images, tile_height, tile_width)


def rasterize_to_pixels(
    means2d: Tensor, conics: Tensor, colors: Tensor, opacities: Tensor, image_width: int, image_height: int,
    tile_size: int, isect_offsets: Tensor, flatten_ids: Tensor, backgrounds: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    views, count, channels = colors.shape
    assert means2d.shape == (views, count, 2) and conics.shape == (views, count, 3)
    assert opacities.shape == (views, count) and backgrounds.shape == (views, channels)
    assert {t.dtype for t in (means2d, conics, colors, opacities, backgrounds)} == {torch.float32}
    rows, columns = isect_offsets.shape[1:]
    assert rows * tile_size >= image_height and columns * tile_size >= image_width
    ends = torch.cat([isect_offsets.flatten()[1:], torch.tensor([len(flatten_ids)])]).tolist()
    image = torch.zeros(views, rows * tile_size, columns * tile_size, channels)
    left = torch.ones(views, rows * tile_size, columns * tile_size)
    for tile, (begin, end) in enumerate(zip(isect_offsets.flatten().tolist(), ends, strict=True)):
        c, y, x = tile // (rows * columns), tile // columns % rows * tile_size, tile % columns * tile_size
        ys, xs = torch.meshgrid(torch.arange(tile_size) + y + 0.5, torch.arange(tile_size) + x + 0.5, indexing="ij")
        colour, remaining = torch.zeros(tile_size, tile_size, channels), torch.ones(tile_size, tile_size)
        done = torch.zeros(tile_size, tile_size, dtype=torch.bool)
        for row in flatten_ids[begin:end].tolist():
            g = row % count
            dx, dy = means2d[c, g, 0] - xs, means2d[c, g, 1] - ys
            a, b, d = conics[c, g]
            sigma = 0.5 * (a * dx * dx + d * dy * dy) + b * dx * dy
            alpha = (opacities[c, g] * torch.exp(-sigma)).clamp(max=0.999)
            alpha = torch.where((sigma < 0) | (alpha < 1 / 255) | done, 0, alpha)
            done = done | ((remaining * (1 - alpha) <= 1e-4) & (alpha > 0))
            alpha = torch.where(done, 0, alpha)
            colour = colour + (alpha * remaining)[..., None] * colors[c, g]
            remaining = remaining * (1 - alpha)
        place = torch.zeros_like(left, dtype=torch.bool)
        place[c, y : y + tile_size, x : x + tile_size] = True
        image = image.masked_scatter(place[..., None], colour + remaining[..., None] * backgrounds[c])
        left = left.masked_scatter(place, remaining)
    return image[:, :image_height, :image_width], 1 - left[:, :image_height, :image_width, None]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module `gsplat` that runs on the CPU."""
    module: Any = ModuleType("gsplat")
    for function in (fully_fused_projection, isect_tiles, isect_offset_encode, rasterize_to_pixels):
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, "gsplat", module)
    return module


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with CUDA and gsplat, as far as anyone asks; its CUDA device is the CPU."""
    errors = selftest.errors
    monkeypatch.setattr(selftest, "errors", lambda renderer, device: errors(renderer, torch.device("cpu")))
    gsplat.available.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(selftest, "version", lambda name: "1.5.3")
    yield
    gsplat.available.cache_clear()


def assert_near(received: dict[str, Tensor], expected: dict[str, Tensor], allowed: float = RELATIVE_ERROR) -> None:
    for name, value in expected.items():
        error = (received[name].double() - value).norm() / value.norm().clamp(min=1e-12)
        assert error <= allowed, f"{name}: {error:.1e}"


CASES: dict[str, tuple[Gaussians, Cameras]] = {
    "sizes that are no multiple of a tile": (scene(25), cameras()),
    "one pixel": (scene(25), cameras(size=(1, 1))),
    "degree 0": (scene(12, 0), cameras(1, size=(16, 16))),
    "degree 3": (scene(12, 3), cameras(1)),
    "some behind the camera and some beside the image": (scene(40, spread=1.5), cameras(distance=0.8)),
    "all behind the camera": (replace(scene(5), means=scene(5).means * 0.1 + 50), cameras(1, distance=0.3)),
    "pixels that end early": (scene(30, 0, spread=0.2, scale=(0.2, 0.4), opacity=(0.7, 0.95)), cameras()),
}


# The adapter


@pytest.mark.parametrize("case", CASES)
def test_images_radii_and_gradients_are_those_of_the_specification(stand_in: ModuleType, case: str) -> None:
    gaussians, views = CASES[case]
    # Offsets are drawn in [-0.5, 0.5] px: culling before them is not seen, since gsplat's boxes are whole pixels.
    expected = run(reference.render, gaussians, views)
    received = run(gsplat.render, gaussians.to(torch.float32), views.to(torch.float32))
    assert received.keys() == expected.keys() and len(received) == len(INPUTS) + len(OUTPUTS) + 1
    assert ((received["radii_px"] > 0) == (expected["radii_px"] > 0)).all()
    assert_near(received, expected)


def test_no_gaussians_leave_the_background_and_its_gradient(stand_in: ModuleType) -> None:
    expected = run(reference.render, scene(0), cameras())
    received = run(gsplat.render, scene(0).to(torch.float32), cameras().to(torch.float32))
    assert all(received[name].shape == value.shape for name, value in expected.items())
    assert_near(received, expected)


def test_float64_comes_back_as_float64_computed_in_float32(stand_in: ModuleType) -> None:
    gaussians, views = scene(10), cameras(1)
    double = gsplat.render(gaussians, views, torch.zeros(1, 3).double(), None)
    single = gsplat.render(gaussians.to(torch.float32), views.to(torch.float32), torch.zeros(1, 3), None)
    for name in (*OUTPUTS, "radii_px"):
        assert getattr(double, name).dtype == torch.float64
        assert torch.equal(getattr(double, name), getattr(single, name).double())
    assert {value.dtype for value in run(gsplat.render, gaussians, views).values()} == {torch.float64}


def test_autocast_around_it_changes_nothing(stand_in: ModuleType) -> None:
    gaussians, views = scene(10).to(torch.float32), cameras(1).to(torch.float32)
    plain = run(gsplat.render, gaussians, views)
    cast = run(torch.autocast("cpu", dtype=torch.bfloat16)(gsplat.render), gaussians, views)
    assert all(torch.equal(plain[name], cast[name]) for name in plain)


def test_without_offsets_nothing_moves(stand_in: ModuleType) -> None:
    gaussians, views = scene(10).to(torch.float32), cameras(1).to(torch.float32)
    background = torch.zeros(1, 3)
    still, zero = (gsplat.render(gaussians, views, background, offsets) for offsets in (None, torch.zeros(1, 10, 2)))
    assert all(torch.equal(getattr(still, name), getattr(zero, name)) for name in (*OUTPUTS, "radii_px"))


def test_opacities_above_the_cap_differ_by_what_the_docstring_says(stand_in: ModuleType) -> None:
    gaussians, views = scene(1, 0, spread=0.0, scale=(0.3, 0.4), opacity=(1, 1)), cameras(1)
    expected = reference.render(gaussians, views, torch.zeros(1, 3).double(), None).alpha
    more = gsplat.render(gaussians, views, torch.zeros(1, 3).double(), None).alpha - expected
    assert 0.005 < more.max() <= 0.009 + 1e-6 and more.min() > -1e-6


def test_cameras_get_no_gradient(stand_in: ModuleType) -> None:
    views = cameras(1)
    views.intrinsics.requires_grad_()
    assert not gsplat.render(scene(3), views, torch.zeros(1, 3).double(), None).rgb.requires_grad


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("means", nan, "means: row 2 holds a value that is not finite"), ("sh", -torch.inf, "sh: row 2"),
        ("scales", 0.0, "scales: a value of 0"), ("scales", -1.0, "scales: values from -1"),
        ("opacities", 1.5, "opacities: values from"), ("opacities", -0.5, "opacities: values from"),
        ("means", 1e200, "exceeds float32"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_rendered_are_refused(name: str, value: float, message: str) -> None:
    gaussians = scene(3)
    getattr(gaussians, name).view(-1)[-1] = value
    with pytest.raises(InvalidInput, match=message):
        gsplat.render(gaussians, cameras(1), torch.zeros(1, 3).double(), None)


# Whether it can be used


def test_missing_cuda_and_missing_package_are_told(monkeypatch: pytest.MonkeyPatch, installed: None) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(selftest, "version", missing)
    assert gsplat.available() == (False, 'gsplat is not installed: pip install "dreamsplat[gsplat]"')
    gsplat.available.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gsplat.available() == (False, "torch finds no CUDA device")


def test_right_kernels_pass_the_self_test(stand_in: ModuleType) -> None:
    with torch.inference_mode():
        assert selftest.worst(selftest.errors(gsplat.render, torch.device("cpu")))[1] < RELATIVE_ERROR


@pytest.mark.parametrize("fault", [1.01, 0.0, nan])
def test_kernels_that_render_wrongly_are_not_used(
    stand_in: ModuleType, installed: None, monkeypatch: pytest.MonkeyPatch, fault: float
) -> None:
    def wrong(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        image, alpha = rasterize_to_pixels(*args, **kwargs)
        return fault * image, alpha

    monkeypatch.setattr(stand_in, "rasterize_to_pixels", wrong)
    usable, reason = gsplat.available()
    assert not usable and reason.startswith("gsplat 1.5.3 fails the self-test, off by ")


def test_kernels_that_do_not_build_are_tried_once_and_told_in_one_line(
    stand_in: ModuleType, installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[torch.device] = []

    def broken(renderer: selftest.Renderer, device: torch.device) -> dict[str, float]:
        tries.append(device)
        raise RuntimeError("\nError building extension 'gsplat_cuda': [1/5] nvcc\nfatal error: glm.hpp\n" + 900 * "x")

    monkeypatch.setattr(selftest, "errors", broken)
    for _ in range(3):
        usable, reason = gsplat.available()
        assert not usable and "\n" not in reason and len(reason) < 400
        assert reason.startswith("gsplat 1.5.3 does not run: RuntimeError: Error building extension 'gsplat_cuda'")
    assert tries == [torch.device("cuda")]


def test_a_gsplat_that_does_not_import_is_not_used(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)  # makes its import fail
    usable, reason = gsplat.available()
    assert not usable and reason.startswith("gsplat 1.5.3 does not run: ModuleNotFoundError: ")


def test_right_kernels_are_used(stand_in: ModuleType, installed: None) -> None:
    assert gsplat.available() == (True, "gsplat 1.5.3, CUDA")


# The real one


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_real_kernels_agree_with_the_specification(case: str) -> None:
    usable, reason = gsplat.available()
    if not usable:
        pytest.skip(reason)
    gaussians, views = CASES[case]
    expected = run(reference.render, gaussians, views)
    received = run(
        lambda *inputs: gsplat.render(*(i.to("cuda") for i in inputs)).to("cpu"),
        gaussians.to(torch.float32), views.to(torch.float32),
    )  # fmt: skip
    assert ((received["radii_px"] > 0) == (expected["radii_px"] > 0)).all()
    assert_near(received, expected, gsplat.TOLERANCE)


@pytest.mark.gpu
def test_real_kernels_pass_the_self_test() -> None:
    usable, reason = gsplat.available()
    assert usable or "not installed" in reason or "no CUDA device" in reason, reason
