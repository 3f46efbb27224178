"""Operations on Gaussians and point clouds: pure, and what they promise to pictures and colours."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from dreamsplat import assets
from dreamsplat.assets import (
    Z_UP_TO_Y_UP,
    bounds,
    colours_towards,
    in_ball,
    in_box,
    join,
    moved,
    painted,
    positions,
    recoloured,
    rotated,
    rows,
    scaled,
    solid_points,
    turned,
    with_sh_degree,
)
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.harmonics import rgb_to_sh
from dreamsplat.method.cameras import orbit
from dreamsplat.render import render
from dreamsplat.types import Gaussians, PointCloud


@pytest.fixture
def cloud(generator) -> PointCloud:
    return PointCloud(torch.rand(50, 3, generator=generator) - 0.5, torch.rand(50, 3, generator=generator))


@pytest.fixture(params=["Gaussians", "PointCloud"])
def splats(request, random_gaussians, cloud) -> Gaussians | PointCloud:
    return random_gaussians(50, 2) if request.param == "Gaussians" else cloud


def same(one: Gaussians | PointCloud, other: Gaussians | PointCloud) -> bool:
    return type(one) is type(other) and all(
        torch.equal(value, other.tensors()[name]) for name, value in one.tensors().items()
    )


def test_the_public_names_are_these_and_each_is_documented():
    assert set(assets.__all__) == {
        "BACKDROP", "FAINT", "Z_UP_TO_Y_DOWN", "Z_UP_TO_Y_UP", "Frames", "bounds", "colours_towards",
        "contact_sheet", "draw", "draw_points", "extent", "importance", "in_ball", "in_box", "is_floater", "is_hidden",
        "is_oversized", "join", "merge", "merge_to_size", "moved", "painted", "picture_psnr", "positions", "prune",
        "recoloured", "render_asset", "rotated", "rows", "scaled", "solid_points", "turned", "visibility",
        "with_sh_degree",
    }  # fmt: skip
    values = [getattr(assets, name) for name in assets.__all__]
    assert all(value.__doc__ for value in values if callable(value))


def test_importing_the_package_does_not_import_torch():
    program = "import sys, dreamsplat.assets; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


def test_nothing_is_changed_in_place(splats):
    before = splats.map(torch.clone)
    changes = [
        moved(splats, (1.0, 2.0, 3.0)), scaled(splats, 2.0), turned(splats, 30), painted(splats, (1.0, 0.0, 0.0)),
        recoloured(splats, 0.5 * torch.eye(3)), in_ball(splats, 0.3), join(splats, splats),
    ]  # fmt: skip
    assert same(splats, before) and not any(same(change, before) for change in changes)


# --- rows and join ----------------------------------------------------------------------------------------------------


def test_masks_indices_and_slices_select_the_same_rows(splats):
    mask = torch.arange(50) % 3 == 0
    chosen = rows(splats, mask)
    assert len(chosen) == 17 and torch.equal(positions(chosen), positions(splats)[mask])
    assert same(rows(splats, mask.nonzero()[:, 0]), chosen) and same(rows(splats, slice(0, 50, 3)), chosen)
    assert torch.equal(positions(rows(splats, torch.tensor([4, 0, 4]))), positions(splats)[[4, 0, 4]])


def test_parts_joined_are_the_whole(splats):
    assert same(join(*(rows(splats, slice(i, i + 10)) for i in range(0, 50, 10))), splats)
    assert same(join(splats), splats)


def test_joined_harmonics_have_the_highest_degree_and_the_rest_is_zero(random_gaussians):
    plain, rich = random_gaussians(3, 0), random_gaussians(2, 3)
    both = join(plain, rich)
    assert both.sh_degree == 3 and not both.sh[:3, 1:].any()
    assert torch.equal(both.sh[:3, :1], plain.sh) and torch.equal(both.sh[3:], rich.sh)


def test_gaussians_are_not_joined_with_points(random_gaussians, cloud):
    with pytest.raises(InvalidInput, match="expected values of one kind"):
        join(random_gaussians(3), cloud)


# --- places -----------------------------------------------------------------------------------------------------------


def test_bounds_touch_the_outermost_centres(splats):
    low, high = bounds(moved(splats, (10.0, 0.0, 0.0)))
    assert torch.equal(low, positions(splats).amin(dim=0) + torch.tensor([10.0, 0, 0]))
    assert torch.equal(high, positions(splats).amax(dim=0) + torch.tensor([10.0, 0, 0]))
    with pytest.raises(InvalidInput, match="no Gaussians or points"):
        bounds(rows(splats, slice(0)))


def test_a_scaled_object_seen_from_farther_gives_the_same_picture(random_gaussians):
    gaussians = random_gaussians(60, 1).to(torch.float64)
    near, far = (orbit(2, size=24, distance=distance).cameras.to(torch.float64) for distance in (3.0, 6.0))
    before = render(gaussians, near, backend="reference").rgb
    after = render(scaled(gaussians, 2.0), far, backend="reference").rgb
    torch.testing.assert_close(after, before, rtol=0, atol=1e-9)
    assert before.std() > 0.05


def test_a_turn_about_the_vertical_brings_the_next_azimuth_to_the_front(random_gaussians):
    gaussians = random_gaussians(60, 2).to(torch.float64)
    front, side = (
        view.to(torch.float64) for view in (orbit(4, size=24).cameras.rows(torch.tensor([i])) for i in (0, 1))
    )
    before = render(gaussians, side, backend="reference").rgb
    after = render(turned(gaussians, 90), front, backend="reference").rgb
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)  # make_views computes in float32


@pytest.mark.parametrize("axis", [(1.0, 0, 0), (0, -2.0, 0), (1.0, 2, 3)])
def test_turns_about_one_axis_add_up_and_leave_the_axis_where_it_is(splats, axis):
    twice = turned(turned(splats, 20, axis), 40, axis)
    torch.testing.assert_close(positions(twice), positions(turned(splats, 60, axis)))
    along = torch.nn.functional.normalize(torch.tensor(axis), dim=0)
    torch.testing.assert_close(positions(twice) @ along, positions(splats) @ along)


def test_points_turn_as_centres_do(cloud):
    gaussians = painted(Gaussians(
        cloud.xyz, torch.ones(50, 3), torch.ones(50, 4), torch.ones(50), torch.zeros(50, 1, 3)), cloud.rgb
    )  # fmt: skip
    assert torch.equal(rotated(cloud, Z_UP_TO_Y_UP).xyz, rotated(gaussians, Z_UP_TO_Y_UP).means)
    assert torch.equal(rotated(cloud, Z_UP_TO_Y_UP).rgb, cloud.rgb)


def test_box_and_ball_keep_what_is_inside(splats):
    box = positions(in_box(splats, (-0.2, -math.inf, 0.0), (0.3, math.inf, 0.4)))
    xyz = positions(splats)
    expected = (xyz[:, 0] >= -0.2) & (xyz[:, 0] <= 0.3) & (xyz[:, 2] >= 0) & (xyz[:, 2] <= 0.4)
    assert torch.equal(box, xyz[expected]) and 0 < len(box) < 50
    centre = torch.tensor([0.1, 0.0, -0.1])
    ball = positions(in_ball(splats, 0.4, centre))
    assert torch.equal(ball, xyz[(xyz - centre).norm(dim=1) <= 0.4]) and 0 < len(ball) < 50


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_sizes_and_turns_that_cannot_be_are_refused(splats, factor):
    with pytest.raises(InvalidInput, match="above 0"):
        scaled(splats, factor)
    with pytest.raises(InvalidInput, match="turned"):
        turned(splats, 90 if math.isfinite(factor) else factor, (0.0, 0.0, 0.0))
    with pytest.raises(InvalidInput, match="offset: shape"):
        moved(splats, torch.zeros(2))


# --- colours ----------------------------------------------------------------------------------------------------------

DIRECTIONS = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(5)), dim=1)


def bright(gaussians: Gaussians) -> Gaussians:
    """With colours that are nowhere clamped at 0."""
    return replace(gaussians, sh=0.1 * gaussians.sh + torch.eye(9, 1)[None])


def test_a_linear_change_of_colours_holds_from_every_direction(random_gaussians):
    gaussians = bright(random_gaussians(50, 2))
    matrix, offset = torch.tensor([[0.5, 0.2, 0], [0, 0.7, 0.1], [0.3, 0, 0.6]]), torch.tensor([0.1, 0.0, 0.2])
    before = colours_towards(gaussians, DIRECTIONS)
    after = colours_towards(recoloured(gaussians, matrix, offset), DIRECTIONS)
    torch.testing.assert_close(after, before @ matrix.mT + offset)


def test_points_change_their_colours_likewise(cloud):
    matrix = torch.tensor([[0.3, 0.6, 0.1]] * 3)
    assert torch.equal(recoloured(cloud, matrix).rgb, cloud.rgb @ matrix.mT)


def test_a_painted_object_shows_its_colour_from_every_direction(random_gaussians, cloud):
    red = torch.tensor([0.9, 0.1, 0.0])
    torch.testing.assert_close(colours_towards(painted(random_gaussians(50, 3), red), DIRECTIONS), red.expand(50, 3))
    assert torch.equal(painted(cloud, (0.5, 0.25, 0.125)).rgb, torch.tensor([0.5, 0.25, 0.125]).expand(50, 3))


def test_the_colour_towards_a_direction_is_the_one_that_the_renderer_shows():
    """One Gaussian that covers the picture: its middle has the colour times the largest alpha."""
    sh = torch.randn(1, 16, 3, generator=torch.Generator().manual_seed(1)) * 0.2
    one = Gaussians(torch.zeros(1, 3), torch.ones(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1), sh)
    cameras = orbit(3, size=9).cameras
    shown = render(one, cameras, backend="reference").rgb[:, 4, 4]
    forward = cameras.world_to_camera[:, 2, :3]  # The cameras look at the origin, where the Gaussian is.
    for colour, direction in zip(shown, forward, strict=True):
        torch.testing.assert_close(0.99 * colours_towards(one, 5 * direction)[0], colour)


@pytest.mark.parametrize("degree", [-1, 4])
def test_degrees_that_are_not_known_are_refused(random_gaussians, degree):
    with pytest.raises(InvalidInput, match=f"{degree}, expected 0, 1, 2 or 3") as caught:
        with_sh_degree(random_gaussians(1), degree)
    assert caught.value.setting == "sh_degree"


def test_solid_points_are_centres_of_what_is_not_faint_in_their_mean_colour(random_gaussians):
    gaussians = replace(random_gaussians(3, 1), opacities=torch.tensor([0.04, 0.05, 0.9]))
    gaussians.sh[2, 0] = rgb_to_sh(torch.tensor([1.5, 0.25, -1.0]))
    cloud = solid_points(gaussians)
    assert torch.equal(cloud.xyz, gaussians.means[1:])
    torch.testing.assert_close(cloud.rgb[1], torch.tensor([1.0, 0.25, 0.0]))
    assert len(solid_points(gaussians, min_opacity=0.0)) == 3


# --- the values themselves --------------------------------------------------------------------------------------------


def test_values_print_on_one_line(random_gaussians, cloud):
    gaussians = replace(random_gaussians(2, 1), means=torch.tensor([[-0.81234, 0, 1], [0.5, 2, 1]]))
    assert repr(gaussians) == "Gaussians: 2, SH degree 1, within [-0.812, 0.5] x [0, 2] x [1, 1], float32 on cpu"
    assert repr(join(*[gaussians] * 1500)).startswith("Gaussians: 3,000, SH degree 1, ")
    assert str(cloud).startswith("PointCloud: 50 points, within [-0.4")
    assert repr(random_gaussians(0)) == "Gaussians: 0, SH degree 0, float32 on cpu"


def test_values_are_compared_without_an_error(random_gaussians, cloud):
    gaussians = random_gaussians(3)
    assert gaussians == gaussians and gaussians != random_gaussians(3) and gaussians != cloud
    assert len({gaussians, cloud, gaussians}) == 2
