"""Rays: through the pixels that cameras see points in, and through boxes."""

import pytest
import torch

from dreamsplat.method.cameras import make_views, orbit
from dreamsplat.render.rays import Rays, box_span, pixel_rays


@pytest.mark.parametrize("shape", [(5, 7), (8, 8)])
def test_a_point_on_a_ray_is_seen_in_the_middle_of_its_pixel(shape):
    height, width = shape
    turn = torch.tensor([0.0, 130.0])
    cameras = make_views(turn, turn / 4, 3 + turn / 100, 40 + turn / 9, width=width, height=height).cameras
    rays = pixel_rays(cameras)
    assert len(rays) == 2 * height * width
    for view in range(2):
        rows = slice(view * height * width, (view + 1) * height * width)
        points = rays.origins[rows] + 2.5 * rays.directions[rows]
        pose = cameras.world_to_camera[view]
        seen = points @ pose[:3, :3].T + pose[:3, 3]
        torch.testing.assert_close(seen[:, 2], 2.5 * rays.z_per_length[rows], rtol=1e-5, atol=1e-5)
        pixels = seen @ cameras.intrinsics[view].T
        pixels = (pixels[:, :2] / pixels[:, 2:]).reshape(height, width, 2)
        row, column = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        torch.testing.assert_close(pixels, torch.stack([column, row], dim=-1), rtol=0, atol=1e-4)


def test_directions_have_length_one_and_start_at_the_camera():
    views = orbit(3, distance=2.5, size=6)
    rays = pixel_rays(views.cameras)
    torch.testing.assert_close(rays.directions.norm(dim=1), torch.ones(len(rays)))
    torch.testing.assert_close(rays.origins.norm(dim=1), torch.full((len(rays),), 2.5))


def test_a_box_is_entered_and_left_where_its_faces_are():
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor([-0.5, -0.2, 0.1]), torch.tensor([0.3, 0.6, 0.9])
    origins = 4 * torch.randn(500, 3, generator=generator)
    towards = low + (high - low) * torch.rand(500, 3, generator=generator)
    directions = torch.nn.functional.normalize(towards - origins, dim=1)
    enter, leave = box_span(Rays(origins, directions, torch.ones(500)), low, high)
    assert bool((enter < leave).all())
    for distance in (enter, leave):
        at = origins + distance[:, None] * directions
        off = torch.minimum((at - low).abs().amin(dim=1), (at - high).abs().amin(dim=1))
        from_outside = (distance > 0) & ((origins < low) | (origins > high)).any(dim=1)
        assert float(off[from_outside].max()) < 1e-5
        assert bool(((at[from_outside] > low - 1e-5) & (at[from_outside] < high + 1e-5)).all())


@pytest.mark.parametrize(
    ("origin", "direction", "hit"),
    [
        ((0.0, 0, -3), (0.0, 0, 1), (2.0, 4.0)),  # along an axis
        ((1.0, 0, -3), (0.0, 0, 1), None),  # in the plane of a face is as good as any
        ((2.0, 0, -3), (0.0, 0, 1), None),  # beside it
        ((0.0, 0, 0), (1.0, 0, 0), (0.0, 1.0)),  # from inside
        ((0.0, 0, 3), (0.0, 0, 1), None),  # behind the camera
    ],
)
def test_rays_along_axes_from_inside_and_past_a_box(origin, direction, hit):
    rays = Rays(torch.tensor([origin]), torch.tensor([direction]), torch.ones(1))
    enter, leave = box_span(rays, torch.tensor([-1.0] * 3), torch.tensor([1.0] * 3))
    if hit is None:
        assert not float(enter) < float(leave) or origin[0] == 1.0
    else:
        assert (float(enter), float(leave)) == pytest.approx(hit, abs=1e-5)
