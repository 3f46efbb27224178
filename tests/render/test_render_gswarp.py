"""The adapter to gswarp, with its rasteriser written again in torch (there is no GPU here).

The stand-in takes what the official rasteriser of 3D Gaussian splatting takes: transposed matrices, an input for
gradients on screen in half images, no offsets. It draws by the specification, from those matrices alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from rendering import exact_cameras as cameras
from rendering import exact_scene as scene
from rendering import outputs_and_gradients as run
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.render import BACKENDS, gswarp, reference
from dreamsplat.types import Cameras, Gaussians


class Settings(NamedTuple):
    """As the package declares them."""

    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: Tensor
    scale_modifier: float
    viewmatrix: Tensor
    projmatrix: Tensor
    sh_degree: int
    campos: Tensor
    prefiltered: bool
    debug: bool = False
    antialiasing: bool = False
    backward_mode: str | None = None
    binning_sort_mode: str | None = None
    auto_tune: bool = True
    auto_tune_verbose: bool = True


@dataclass
class Rasterizer:
    """One view by the specification."""

    settings: Settings

    def __call__(
        self,
        means3D: Tensor,
        means2D: Tensor,
        opacities: Tensor,
        colors_precomp: Tensor,
        scales: Tensor,
        rotations: Tensor,
    ) -> tuple[Tensor, Tensor, Any]:
        s, count = self.settings, len(means3D)
        assert means2D.shape == (count, 3) and opacities.shape == (count, 1) and colors_precomp.shape == (count, 3)
        assert {each.dtype for each in (means3D, means2D, opacities, scales, rotations, s.bg)} == {torch.float32}
        pose = s.viewmatrix.T
        torch.testing.assert_close(s.campos, -pose[:3, :3].T @ pose[:3, 3])
        # Normalised device coordinates of the centres, by the full matrix, must be where the pinhole sees them.
        focal = torch.tensor([s.image_width / (2 * s.tanfovx), s.image_height / (2 * s.tanfovy)])
        clip = torch.cat([means3D, torch.ones(count, 1)], dim=1) @ s.projmatrix
        seen = means3D @ pose[:3, :3].T + pose[:3, 3]
        in_front = seen[:, 2] > 0.2
        size = torch.tensor([s.image_width, s.image_height])
        expected = seen[:, :2] / seen[:, 2:] * focal / (size / 2)
        torch.testing.assert_close((clip[:, :2] / clip[:, 3:])[in_front], expected[in_front], atol=1e-4, rtol=1e-4)
        pinhole = torch.tensor([[focal[0], 0, size[0] / 2], [0, focal[1], size[1] / 2], [0, 0, 1]])
        view = Cameras(pose[None], pinhole[None], s.image_width, s.image_height)
        # Gradients on screen come through means2D, in half images; its values do not count.
        on_screen = (means2D - means2D.detach())[None, :, :2] * (size / 2)
        plain = Gaussians(means3D, scales, rotations, opacities[:, 0], torch.zeros(count, 1, 3))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference, "view_colours", lambda means, sh, pose: colors_precomp[: len(means)])
            patch.setattr(reference, "NEAR", -1e9)  # so that no colour is left out
            image = reference.render(plain, view, s.bg[None], on_screen)
        meta = SimpleNamespace(alpha=image.alpha, depth=image.depth)
        return image.rgb[0].permute(2, 0, 1), image.radii_px[0].ceil().int(), meta


@pytest.fixture(autouse=True)
def stand_in(monkeypatch) -> Iterator[None]:
    package = SimpleNamespace(GaussianRasterizationSettings=Settings, GaussianRasterizer=Rasterizer)
    monkeypatch.setattr(gswarp, "_package", lambda: package)
    yield


def test_images_and_gradients_are_those_of_the_specification():
    gaussians, views = scene(40, 1, scale=(0.05, 0.3)), cameras(2, size=(33, 20))
    expected = run(reference.render, gaussians, views)
    received = run(gswarp.render, gaussians.to(torch.float32), views.to(torch.float32))
    for name, value in expected.items():
        if name == "radii_px":
            assert torch.equal(received[name] > 0, value > 0)
            continue
        # Offsets are a step sideways here, which turns a Gaussian's outline a little.
        error = (received[name].double() - value).norm() / value.norm()
        assert float(error) < (0.03 if "offsets" in name or name in ("means", "scales", "quats") else 0.02), name


def test_without_offsets_it_is_exact():
    gaussians, views = scene(40, 2).to(torch.float32), cameras(2).to(torch.float32)
    behind = torch.rand(2, 3)
    expected = reference.render(gaussians, views, behind, None)
    received = gswarp.render(gaussians, views, behind, None)
    for name in ("rgb", "alpha", "depth"):
        torch.testing.assert_close(getattr(received, name), getattr(expected, name), atol=1e-5, rtol=1e-4)


def test_no_gaussians_leave_the_background():
    image = gswarp.render(
        scene(0).to(torch.float32), cameras(1).to(torch.float32), torch.tensor([[0.1, 0.2, 0.3]]), None
    )
    assert torch.equal(image.rgb, torch.tensor([0.1, 0.2, 0.3]).expand_as(image.rgb)) and not image.alpha.any()


def test_a_camera_that_is_off_its_middle_is_refused():
    views = cameras(1).to(torch.float32)
    pinhole = views.intrinsics.clone()
    pinhole[:, 0, 2] += 3
    with pytest.raises(InvalidInput, match="principal point"):
        gswarp.render(scene(3).to(torch.float32), replace(views, intrinsics=pinhole), torch.zeros(1, 3), None)


def test_it_comes_after_gsplat_and_before_plain_torch():
    names = list(BACKENDS)
    assert names.index("gsplat") < names.index("gswarp") < names.index("tiled")
    assert BACKENDS["gswarp"].devices == ("cuda",)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_the_real_package_passes_its_self_test():
    assert gswarp.available()[0], gswarp.available()[1]
