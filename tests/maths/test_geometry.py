"""Laws of rotations, covariances, poses and nearest neighbours."""

from math import cos, pi, sin

import pytest
import torch

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.neighbours import nearest_neighbours
from dreamsplat.maths.rotations import covariances, look_at, rotation_from_quats, wrap_degrees

F64 = torch.float64


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_rotation_is_orthonormal_and_keeps_handedness() -> None:
    rotation = rotation_from_quats(random(2, 5, 4))
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=F64).expand(2, 5, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(2, 5, dtype=F64))


@pytest.mark.parametrize("factor", [3.0, 1e-3, -1.0])
def test_rotation_ignores_length_and_sign_of_the_quaternion(factor: float) -> None:
    quats = random(5, 4)
    torch.testing.assert_close(rotation_from_quats(quats * factor), rotation_from_quats(quats))


@pytest.mark.parametrize(
    ("axis", "turned", "expected"),
    [((1, 0, 0), (0, 1, 0), (0, 0, 1)), ((0, 1, 0), (0, 0, 1), (1, 0, 0)), ((0, 0, 1), (1, 0, 0), (0, 1, 0))],
)
def test_quarter_turn_is_counter_clockwise_about_its_axis(axis: tuple, turned: tuple, expected: tuple) -> None:
    quat = torch.tensor([cos(pi / 4), *(sin(pi / 4) * a for a in axis)], dtype=F64)
    torch.testing.assert_close(
        rotation_from_quats(quat) @ torch.tensor(turned, dtype=F64), torch.tensor(expected, dtype=F64)
    )


def test_rotation_refuses_what_is_not_a_quaternion() -> None:
    with pytest.raises(InvalidInput, match=r"quats: shape \[2, 3\], expected \[..., 4\]"):
        rotation_from_quats(torch.ones(2, 3))


def test_covariance_has_the_scales_as_deviations_along_the_rotated_axes() -> None:
    scales, quats = random(6, 3).exp(), random(6, 4)
    axes = rotation_from_quats(quats)
    image = covariances(scales, quats) @ axes
    torch.testing.assert_close(image, axes * scales[:, None, :] ** 2)  # C a_i = s_i^2 a_i


def test_gradients_of_covariances_match_finite_differences() -> None:
    scales, quats = random(2, 3).exp().requires_grad_(), random(2, 4).requires_grad_()
    assert torch.autograd.gradcheck(covariances, (scales, quats))


def test_look_at_puts_the_target_in_the_middle_ahead_and_keeps_distances() -> None:
    eye, target = random(4, 3, seed=1), random(3, seed=2)
    pose = look_at(eye, target)
    inside = (pose[:, :3, :3] @ target) + pose[:, :3, 3]
    expected = torch.zeros(4, 3, dtype=F64)
    expected[:, 2] = (eye - target).norm(dim=-1)
    torch.testing.assert_close(inside, expected)
    torch.testing.assert_close(torch.linalg.det(pose[:, :3, :3]), torch.ones(4, dtype=F64))


def test_look_at_keeps_up_above_and_the_horizon_level() -> None:
    rotation = look_at(random(4, 3, seed=1))[:, :3, :3]
    up_seen = rotation[:, :, 2]  # World +z in camera axes, whose y points down.
    assert (up_seen[:, 1] < 0).all()
    torch.testing.assert_close(up_seen[:, 0], torch.zeros(4, dtype=F64))


@pytest.mark.parametrize(("z", "image_up"), [(2.0, (0.0, 1.0, 0.0)), (-2.0, (0.0, -1.0, 0.0))])
def test_look_at_straight_down_and_up_continues_azimuth_zero(z: float, image_up: tuple) -> None:
    rotation = look_at(torch.tensor([[0.0, 0.0, z]], dtype=F64))[0, :3, :3]
    torch.testing.assert_close(rotation[0], torch.tensor([1.0, 0.0, 0.0], dtype=F64))
    torch.testing.assert_close(-rotation[1], torch.tensor(image_up, dtype=F64))


def test_look_at_refuses_a_camera_on_its_target() -> None:
    with pytest.raises(InvalidInput, match="sits on its target"):
        look_at(torch.zeros(1, 3))


def test_wrapped_angles_are_the_same_angles_in_one_turn() -> None:
    angles = torch.tensor([-180.0, 180.0, 540.0, -1e-6, 359.0, 0.0, -180.00001])
    wrapped = wrap_degrees(angles)
    assert ((wrapped >= -180) & (wrapped < 180)).all()
    torch.testing.assert_close(torch.cos(torch.deg2rad(wrapped)), torch.cos(torch.deg2rad(angles)))
    torch.testing.assert_close(torch.sin(torch.deg2rad(wrapped)), torch.sin(torch.deg2rad(angles)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("k", [1, 4])
def test_nearest_neighbours_agree_with_all_distances(k: int) -> None:
    points, queries = random(50, 3).float(), random(7, 3, seed=1).float()
    distances, indices = nearest_neighbours(points, queries, k)
    expected, expected_indices = torch.cdist(queries, points).topk(k, largest=False)
    torch.testing.assert_close(distances, expected)
    torch.testing.assert_close(indices, expected_indices)


def test_nearest_neighbours_refuse_more_neighbours_than_points() -> None:
    with pytest.raises(InvalidInput, match="k = 3 of 2 points"):
        nearest_neighbours(torch.rand(2, 3), torch.rand(1, 3), 3)
