"""Turned axes: an object and the cameras around it turn together, and no picture changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dreamsplat.assets.frame import Z_UP_TO_Y_DOWN, Z_UP_TO_Y_UP, rotated, sh_rotation
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.harmonics import sh_basis
from dreamsplat.maths.rotations import covariances, rotation_from_quats
from dreamsplat.method.cameras import make_views
from dreamsplat.render import render
from dreamsplat.types import Cameras, Gaussians

F64 = torch.float64


def random_rotation(seed: int) -> torch.Tensor:
    return rotation_from_quats(torch.randn(4, dtype=F64, generator=torch.Generator().manual_seed(seed)))


def half_turn(axis: int) -> torch.Tensor:
    return 2 * torch.diag(torch.eye(3, dtype=F64)[axis]) - torch.eye(3, dtype=F64)


ROTATIONS = {
    "y up": Z_UP_TO_Y_UP,
    "y down": Z_UP_TO_Y_DOWN,
    "none": torch.eye(3, dtype=F64),
    # The quaternions of half turns have w = 0, where the textbook formula divides by it.
    **{f"half turn about {axis}": half_turn(i) for i, axis in enumerate("xyz")},
    **{f"random {seed}": random_rotation(seed) for seed in range(3)},
}
each_rotation = pytest.mark.parametrize("rotation", ROTATIONS.values(), ids=ROTATIONS)


def turned_with(cameras: Cameras, rotation: torch.Tensor) -> Cameras:
    """The same cameras in the turned world: x_camera = W x = (W R^T) (R x)."""
    back = torch.eye(4, dtype=F64)
    back[:3, :3] = rotation.mT
    return replace(cameras, world_to_camera=cameras.world_to_camera @ back)


@each_rotation
def test_turned_gaussians_look_the_same_to_turned_cameras(random_gaussians, rotation):
    gaussians = random_gaussians(60, 3).to(F64)
    angles = [torch.tensor(a, dtype=F64) for a in ([0.0, 100, -130], [10.0, 60, -45], [2.0, 2, 2], [50.0, 50, 50])]
    cameras = make_views(*angles, width=24, height=24).cameras
    before = render(gaussians, cameras, backend="reference").rgb
    after = render(rotated(gaussians, rotation), turned_with(cameras, rotation), backend="reference").rgb
    # float64 throughout; the rounding of about 60 blended layers.
    torch.testing.assert_close(after, before, rtol=0, atol=1e-9)
    assert before.std() > 0.05  # There is something to see.


@each_rotation
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_turned_colour_shows_towards_d_what_the_old_one_showed_towards_the_direction_turned_back(rotation, degree):
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=F64, generator=generator), dim=-1)
    sh = torch.randn((degree + 1) ** 2, 3, dtype=F64, generator=generator)
    expected = sh_basis(directions, degree) @ sh
    torch.testing.assert_close(
        sh_basis(directions @ rotation.mT, degree) @ (sh_rotation(rotation, degree) @ sh), expected
    )


def test_turning_colours_follows_turning_by_a_product_and_keeps_lengths():
    a, b = random_rotation(5), random_rotation(6)
    product = sh_rotation(a, 3) @ sh_rotation(b, 3)
    torch.testing.assert_close(product, sh_rotation(a @ b, 3))
    torch.testing.assert_close(product @ product.mT, torch.eye(16, dtype=F64))


@each_rotation
def test_centres_and_covariances_turn(random_gaussians, rotation):
    gaussians = random_gaussians(20).to(F64)
    after = rotated(gaussians, rotation)
    torch.testing.assert_close(after.means, gaussians.means @ rotation.mT)
    torch.testing.assert_close(
        covariances(after.scales, after.quats), rotation @ covariances(gaussians.scales, gaussians.quats) @ rotation.mT
    )


def test_up_and_front_land_where_the_names_say():
    up, front, right = torch.tensor([[0.0, 0, 1], [0, -1, 0], [1, 0, 0]], dtype=F64)
    for rotation, new_up, new_front in ((Z_UP_TO_Y_UP, [0, 1, 0], [0, 0, 1]), (Z_UP_TO_Y_DOWN, [0, -1, 0], [0, 0, -1])):
        assert (rotation @ up).tolist() == new_up
        assert (rotation @ front).tolist() == new_front
        assert (rotation @ right).tolist() == [1, 0, 0]
        assert float(torch.linalg.det(rotation)) == 1.0


def test_a_quarter_turn_moves_the_coordinates_themselves_and_keeps_the_kind_of_numbers(random_gaussians):
    gaussians = random_gaussians(20, 1)
    after = rotated(gaussians, Z_UP_TO_Y_UP)
    x, y, z = gaussians.means.unbind(-1)
    assert torch.equal(after.means, torch.stack([x, z, -y], dim=-1))
    assert {getattr(after, name).dtype for name in vars(after)} == {torch.float32}
    back = rotated(after, Z_UP_TO_Y_UP.mT)
    for name, values in vars(gaussians).items():
        torch.testing.assert_close(getattr(back, name), values, rtol=0, atol=1e-6)


def test_no_gaussians_can_be_turned(random_gaussians):
    assert len(rotated(random_gaussians(0, 3), Z_UP_TO_Y_UP)) == 0


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.diag(torch.tensor([1.0, 1, -1])), "not a proper rotation"),
        (2 * torch.eye(3), "not a proper rotation"),
        (torch.full((3, 3), float("nan")), "not a proper rotation"),
        (torch.eye(4), r"rotation: shape \[4, 4\], expected \[3, 3\]"),
    ],
)
def test_mirrors_and_what_is_no_rotation_are_refused(random_gaussians, matrix, message):
    with pytest.raises(InvalidInput, match=message):
        rotated(random_gaussians(1), matrix)


def test_gradients_pass_through(random_gaussians):
    gaussians = random_gaussians(3, 3)
    leaves = {name: values.clone().requires_grad_() for name, values in vars(gaussians).items()}
    after = rotated(Gaussians(**leaves), Z_UP_TO_Y_DOWN)
    sum(values.square().sum() for values in vars(after).values()).backward()
    for values in leaves.values():  # A rotation keeps lengths, so the gradient of the squared length is 2 x.
        torch.testing.assert_close(values.grad, 2 * values.detach(), rtol=1e-5, atol=1e-5)
