"""Textures: where each triangle lies on the picture, and what colour it has there."""

from dataclasses import replace

import pytest
import torch
from skins import BLUE, COARSE, RED
from torch.nn.functional import grid_sample

from dreamsplat.errors import InvalidInput
from dreamsplat.mesh import Mesh, MeshSettings, mesh_of
from dreamsplat.mesh.raster import covered_pixels

pytest.importorskip("xatlas", reason="xatlas is not installed")


@pytest.fixture(scope="module")
def painted(halves) -> Mesh:
    return mesh_of(halves, replace(COARSE, triangles=1000, texture=256))


def test_every_corner_lies_on_the_picture(painted):
    texture = painted.texture
    assert texture.rgb.shape == (256, 256, 3) and texture.rgb.dtype == torch.uint8
    assert texture.faces.shape == painted.faces.shape
    assert float(texture.uv.min()) >= 0 and float(texture.uv.max()) <= 1


def test_no_texel_belongs_to_two_triangles(painted):
    corners = painted.texture.uv[painted.texture.faces] * 256
    texels, _, _ = covered_pixels(corners, 256, 256)
    assert len(texels) > 0.4 * 256**2
    assert len(texels) - len(texels.unique()) < 0.001 * len(texels)  # Those exactly on an edge between two.


def test_a_point_on_the_surface_has_the_colour_of_its_half_filtered_or_not(painted):
    texture = painted.texture
    weights = torch.rand(len(painted), 3, generator=torch.Generator().manual_seed(0))
    weights = weights / weights.sum(dim=1, keepdim=True)
    points = (painted.vertices[painted.faces] * weights[..., None]).sum(dim=1)
    places = (texture.uv[texture.faces] * weights[..., None]).sum(dim=1) * torch.tensor([2.0, -2.0]) + torch.tensor(
        [-1.0, 1.0]
    )
    picture = texture.rgb.permute(2, 0, 1)[None] / 255
    for mode in ("nearest", "bilinear"):
        found = grid_sample(picture, places[None, None], mode=mode, padding_mode="border", align_corners=False)[
            0, :, 0
        ].T
        for side, colour in ((points[:, 0] < -0.15, RED), (points[:, 0] > 0.15, BLUE)):
            torch.testing.assert_close(found[side], colour.expand(int(side.sum()), 3), rtol=0, atol=0.04)


def test_no_texel_is_left_unpainted(painted):
    """Between the islands too: a viewer that shrinks the picture mixes them in."""
    away = torch.minimum(
        (painted.texture.rgb / 255 - RED).abs().amax(dim=2), (painted.texture.rgb / 255 - BLUE).abs().amax(dim=2)
    )
    assert float((away < 0.05).float().mean()) > 0.95
    assert float(painted.texture.rgb.float().sum(dim=2).min()) > 0


@pytest.mark.parametrize("change", [{"texture": 8}, {"texture": 10_000}, {"triangles": 3}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(InvalidInput, match="expected"):
        MeshSettings(**change)
