"""Training views and the turntable: where the cameras are, what they see upright, and how they are spread."""

from dataclasses import replace
from math import asin, degrees, radians, sin, tan

import pytest
import torch

from dreamsplat.errors import InvalidInput
from dreamsplat.method.camera_range import CameraRange
from dreamsplat.method.cameras import make_views, orbit, sample_elevations, sample_views
from dreamsplat.types import Views


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def views_at(azimuth_deg: float, elevation_deg: float, distance: float = 2.0) -> Views:
    one = torch.ones(1, dtype=torch.float64)
    return make_views(azimuth_deg * one, elevation_deg * one, distance * one, 50 * one, width=8, height=6)


def centre(views: Views) -> torch.Tensor:
    pose = views.cameras.world_to_camera[0]
    return -pose[:3, :3].T @ pose[:3, 3]


@pytest.mark.parametrize(
    ("azimuth_deg", "elevation_deg", "position", "right", "up"),
    [
        (0, 0, (0, -2, 0), (1, 0, 0), (0, 0, 1)),
        (90, 0, (-2, 0, 0), (0, -1, 0), (0, 0, 1)),
        (180, 0, (0, 2, 0), (-1, 0, 0), (0, 0, 1)),
        (-90, 0, (2, 0, 0), (0, 1, 0), (0, 0, 1)),
        (0, 90, (0, 0, 2), (1, 0, 0), (0, 1, 0)),
        (90, 90, (0, 0, 2), (0, -1, 0), (1, 0, 0)),
        (0, -90, (0, 0, -2), (1, 0, 0), (0, -1, 0)),
    ],
)
def test_views_stand_where_the_angles_say(
    azimuth_deg: float, elevation_deg: float, position: tuple, right: tuple, up: tuple
) -> None:
    views = views_at(azimuth_deg, elevation_deg)
    rotation = views.cameras.world_to_camera[0, :3, :3]
    torch.testing.assert_close(centre(views), torch.tensor(position, dtype=torch.float64))
    torch.testing.assert_close(rotation[0], torch.tensor(right, dtype=torch.float64))
    torch.testing.assert_close(-rotation[1], torch.tensor(up, dtype=torch.float64))


def test_azimuth_grows_clockwise_seen_from_above() -> None:
    before, after = centre(views_at(20, 30)), centre(views_at(21, 30))
    assert torch.linalg.cross(before, after)[2] < 0


def test_pose_is_continuous_at_the_pole() -> None:
    near, at = views_at(70, 89.9999), views_at(70, 90)
    torch.testing.assert_close(near.cameras.world_to_camera, at.cameras.world_to_camera, atol=1e-5, rtol=0)


def test_field_of_view_spans_the_image_height() -> None:
    views = views_at(0, 0)
    edge = torch.tensor([0.0, tan(radians(25)), 1.0], dtype=torch.float64)
    torch.testing.assert_close(views.cameras.intrinsics[0] @ edge, torch.tensor([4.0, 6.0, 1.0], dtype=torch.float64))


def test_azimuth_is_reported_in_one_turn() -> None:
    assert views_at(270, 0).azimuth_deg.item() == -90
    assert views_at(180, 0).azimuth_deg.item() == -180


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("distance", 0.0, "distance = 0, expected > 0"),
        ("elevation_deg", 91.0, "elevation_deg = 91, expected within"),
        ("fov_y_deg", 180.0, "fov_y_deg = 180, expected within"),
        ("azimuth_deg", torch.zeros(2), "shape"),
    ],
)
def test_impossible_views_are_refused(name: str, value: float | torch.Tensor, message: str) -> None:
    angles = {"azimuth_deg": 0.0, "elevation_deg": 0.0, "distance": 1.0, "fov_y_deg": 50.0, name: value}
    tensors = {k: v if isinstance(v, torch.Tensor) else torch.tensor([v]) for k, v in angles.items()}
    with pytest.raises(InvalidInput, match=message):
        make_views(**tensors, width=4, height=4)


@pytest.mark.parametrize("count", [1, 3, 4, 8])
def test_one_azimuth_falls_in_each_sector(count: int) -> None:
    for seed in range(20):
        views = sample_views(CameraRange(), count, 16, generator(seed))
        sectors = ((views.azimuth_deg + 180) / (360 / count)).floor()
        assert sectors.tolist() == list(range(count))


def test_opposite_views_face_each_other_and_cover_the_circle() -> None:
    azimuth_deg = sample_views(CameraRange(opposite=True), 6, 8, generator()).azimuth_deg
    torch.testing.assert_close((azimuth_deg[3:] - azimuth_deg[:3]) % 360, torch.full((3,), 180.0))
    assert sorted((azimuth_deg % 360 // 60).tolist()) == [0, 1, 2, 3, 4, 5]


def test_a_single_opposite_view_may_be_anywhere() -> None:
    source = generator()
    azimuth_deg = torch.cat([sample_views(CameraRange(opposite=True), 1, 8, source).azimuth_deg for _ in range(100)])
    assert set((azimuth_deg % 360 // 90).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("sampling", ["uniform", "sphere", "paper"])
def test_samples_stay_in_their_ranges_and_fill_them(sampling) -> None:
    range_ = CameraRange(elevation_deg=(-20, 75), distance=(1, 2), fov_y_deg=(30, 50), elevation_sampling=sampling)
    source = generator()
    batches = [sample_views(range_, 64, 16, source) for _ in range(20)]
    for name in ("elevation_deg", "distance", "fov_y_deg"):
        low, high = getattr(range_, name)
        values = torch.cat([getattr(b, name) for b in batches])
        assert low <= values.min() and values.max() <= high
        assert values.min() < low + 0.1 * (high - low) and values.max() > high - 0.1 * (high - low)


def test_sphere_sampling_is_uniform_in_area() -> None:
    elevation_deg = sample_elevations(CameraRange(elevation_sampling="sphere"), 40_000, generator())
    low, high = sin(radians(-10)), sin(radians(60))
    share = (torch.sin(torch.deg2rad(elevation_deg)) - low) / (high - low)
    counts = torch.histc(share, bins=4, min=0, max=1) / len(share)
    torch.testing.assert_close(counts, torch.full((4,), 0.25), atol=0.01, rtol=0)  # 4.6 standard errors.


def test_paper_sampling_flips_one_coin_per_batch() -> None:
    # The official code's "sphere" branch covers asin(2 p - 1) with p in [80/180, 150/180] and no more (method.md 2.1).
    low, high = degrees(asin(2 * 80 / 180 - 1)), degrees(asin(2 * 150 / 180 - 1))
    assert (round(low, 2), round(high, 2)) == (-6.38, 41.81)
    source = generator()
    batches = torch.stack([sample_elevations(CameraRange(), 64, source) for _ in range(400)])
    narrow = (batches.amin(1) >= low - 1e-3) & (batches.amax(1) <= high + 1e-3)
    # A batch uniform over (-10, 60) is that narrow with probability 0.69^64 = 5e-11.
    assert 150 < int(narrow.sum()) < 250
    assert batches[narrow].min() < low + 1 and batches[narrow].max() > high - 1
    assert batches[~narrow].min() < -9 and batches[~narrow].max() > 59


def test_views_follow_from_the_generator_alone() -> None:
    first, same, other = (sample_views(CameraRange(), 4, 16, generator(seed)) for seed in (7, 7, 8))
    assert torch.equal(first.cameras.world_to_camera, same.cameras.world_to_camera)
    assert torch.equal(first.cameras.intrinsics, same.cameras.intrinsics)
    assert not torch.equal(first.cameras.world_to_camera, other.cameras.world_to_camera)


def test_sampled_cameras_look_at_the_origin_from_their_distance() -> None:
    views = sample_views(CameraRange(), 6, 16, generator())
    expected = torch.zeros(6, 3)
    expected[:, 2] = views.distance
    torch.testing.assert_close(views.cameras.world_to_camera[:, :3, 3], expected, atol=1e-5, rtol=0)


def test_orbit_goes_once_around_without_its_end() -> None:
    views = orbit(count=8, elevation_deg=15)
    assert views.azimuth_deg.tolist() == [0, 45, 90, 135, -180, -135, -90, -45]
    assert views.elevation_deg.tolist() == [15] * 8
    poses = views.cameras.world_to_camera.flatten(1)
    assert torch.pdist(poses).min() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elevation_deg": (60, -10)}, r"cameras.elevation_deg: \(60, -10\)"),
        ({"distance": (0, 1)}, "cameras.distance"),
        ({"fov_y_deg": (40, 180)}, "cameras.fov_y_deg"),
        ({"elevation_sampling": "cube"}, "'cube', expected one of uniform, sphere, paper"),
    ],
)
def test_impossible_ranges_are_refused(change: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(CameraRange(), **change)


def test_no_views_are_refused() -> None:
    with pytest.raises(InvalidInput, match="views: 0"):
        sample_views(CameraRange(), 0, 16, generator())
    with pytest.raises(InvalidInput, match="count = 0"):
        orbit(count=0)
