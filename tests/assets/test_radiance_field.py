"""Radiance fields as assets: axes, interpolation, refinement, files of Gaussians."""

import dataclasses
import math

import pytest
import torch
from torch.nn.functional import softplus

from dreamsplat.assets import draw, render_asset
from dreamsplat.assets.field_splats import fitted_gaussians
from dreamsplat.assets.radiance_field import RadianceField, raw_density
from dreamsplat.errors import InvalidInput
from dreamsplat.method.cameras import orbit
from dreamsplat.render import render

BLACK = (0.0, 0.0, 0.0)


def grid(cells, depth, rgb):
    """The raw grid of an optical depth per voxel and a colour, both functions of x, y and z."""
    at = torch.linspace(-1, 1, cells)
    z, y, x = torch.meshgrid(at, at, at, indexing="ij")
    colours = torch.stack(torch.broadcast_tensors(*rgb(x, y, z))).clamp(1e-3, 1 - 1e-3)
    return torch.cat([raw_density(depth(x, y, z).expand_as(x).clamp_min(1e-4))[None], colours.logit()])


def ball(cells=32, radius=0.6):
    """A ball that is red where x > 0 and blue elsewhere, with a green top."""
    return RadianceField(
        grid(
            cells,
            lambda x, y, z: 3.0 * ((x**2 + y**2 + z**2).sqrt() < radius),
            lambda x, y, z: ((x > 0).float(), (z > 0.3).float(), (x <= 0).float()),
        ),
        1.0,
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("azimuth", [0, 1, 2])
def test_a_ramp_along_each_axis_grows_where_the_camera_sees_that_axis_point(axis, azimuth):
    def ramp(x, y, z):
        return ((0.5 + 0.4 * (x, y, z)[axis]),) * 3

    field = RadianceField(grid(16, lambda x, y, z: torch.tensor(2.0), ramp), 0.5)
    camera = orbit(3, elevation_deg=20.0, size=32).cameras.rows(torch.tensor([azimuth]))
    image = render_asset(field, camera, BLACK).rgb[0, :, :, 0]
    right, down = camera.world_to_camera[0, 0, axis], camera.world_to_camera[0, 1, axis]
    middle = image[12:20, 12:20]
    for slope, expected in ((middle.diff(dim=1).mean(), right), (middle.diff(dim=0).mean(), down)):
        if abs(float(expected)) > 0.2:
            assert float(slope) * float(expected) > 0


def test_the_depth_of_a_thin_slab_is_its_camera_z():
    field = RadianceField(grid(64, lambda x, y, z: 9.0 * (y.abs() < 0.02), lambda x, y, z: (x * 0, x * 0, x * 0)), 1.0)
    image = render_asset(field, orbit(1, elevation_deg=0.0, distance=3.0, size=33).cameras, BLACK)
    seen = image.depth[0] / image.alpha[0]
    # The slab y = 0 faces the camera at distance 3, so z is the same in every pixel.
    torch.testing.assert_close(seen[8:25, 8:25], torch.full((17, 17), 3.0), rtol=0, atol=0.04)


def test_what_is_behind_shows_as_much_as_the_field_lets_through():
    cameras = orbit(2, size=20).cameras
    field = ball()
    black, white = (render_asset(field, cameras, (v, v, v)) for v in (0.0, 1.0))
    torch.testing.assert_close(white.rgb - black.rgb, (1 - black.alpha)[..., None].expand_as(black.rgb))
    assert float(black.alpha[:, 0, 0].max()) == 0.0 and float(white.rgb[:, 0, 0].min()) == 1.0
    assert float(black.alpha[:, 10, 10].min()) > 0.99


def test_a_finer_grid_looks_the_same():
    field = ball()
    cameras = orbit(3, size=32).cameras
    finer = field.refined()
    assert finer.grid.shape == (4, 63, 63, 63)
    before, after = (render_asset(f, cameras, BLACK) for f in (field, finer))
    assert float((before.rgb - after.rgb).abs().mean()) < 0.01


@pytest.mark.parametrize("depth", [1e-4, 0.02, 1.0, 30.0])
def test_raw_density_inverts_softplus(depth):
    value = torch.tensor(depth, dtype=torch.float64)
    assert float(softplus(raw_density(value))) == pytest.approx(depth, rel=1e-9)


def test_its_own_gaussians_show_it_to_30_db():
    field = ball(24)
    gaussians = fitted_gaussians(field)
    assert 500 < len(gaussians) <= 20_000
    cameras = orbit(5, elevation_deg=33.0, size=128).cameras  # None of those that they were fitted to.
    off = (render(gaussians, cameras).rgb - render_asset(field, cameras, BLACK).rgb).square().mean()
    assert -10 * math.log10(float(off)) > 30
    assert torch.equal(gaussians.means, fitted_gaussians(field).means)


def test_an_empty_field_has_no_gaussians_and_shows_the_background():
    empty = dataclasses.replace(ball(16), grid=torch.full((4, 16, 16, 16), -9.0))
    assert len(empty.gaussians()) == 0 and empty.reach == 0
    torch.testing.assert_close(
        draw(empty, orbit(1, size=8).cameras, (0.2, 0.4, 0.6)), torch.tensor([0.2, 0.4, 0.6]).expand(1, 8, 8, 3)
    )


def test_a_grid_that_is_no_cube_is_refused():
    with pytest.raises(InvalidInput, match=r"grid: shape \[4, 8, 8, 9\]"):
        RadianceField(torch.zeros(4, 8, 8, 9), 1.0)
    with pytest.raises(InvalidInput, match="at least 2"):
        RadianceField(torch.zeros(4, 1, 1, 1), 1.0)
