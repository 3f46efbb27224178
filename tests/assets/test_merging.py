"""Merging neighbours keeps the pictures, and what can be said in algebra of two Gaussians."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from spheres import ball

from dreamsplat.assets import join, merge, merge_to_size, moved, picture_psnr, prune, pruning, rows, with_sh_degree
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.rotations import covariances, quats_from_rotation, rotation_from_quats
from dreamsplat.types import Gaussians


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(pruning, "SIZE", 48)


def test_half_of_an_object_merged_looks_more_like_it_than_half_of_it_kept():
    asset = ball(400, 1.0)
    halves = merge(asset, 200), prune(asset, 200)
    assert [len(half) for half in halves] == [200, 200]
    assert picture_psnr(asset, halves[0]) > picture_psnr(asset, halves[1]) + 10


def test_what_nobody_sees_goes_first_and_does_not_bleed_through():
    shell, core = join(ball(400, 1.0), ball(400, 0.95)), ball(100, 0.3, (0.0, 0.0, 1.0))
    assert picture_psnr(shell, merge(join(shell, core), 802)) > 35


@pytest.mark.parametrize("count", [1, 2, 3, 57, 99])
def test_as_many_are_left_as_asked_for(random_gaussians, count):
    merged = merge(random_gaussians(100, 2), count)
    assert len(merged) == count
    assert all(bool(tensor.isfinite().all()) for tensor in merged.tensors().values())
    assert bool(((merged.opacities >= 0) & (merged.opacities <= 1)).all()) and bool((merged.scales > 0).all())


def test_where_there_are_few_enough_nothing_changes(random_gaussians):
    asset = random_gaussians(10, 1)
    assert merge(asset, 10) is asset
    with pytest.raises(InvalidInput, match="at least 1"):
        merge(asset, 0)


def test_two_equal_gaussians_become_one_with_the_mean_and_covariance_of_both(random_gaussians):
    one = rows(random_gaussians(1, 2), slice(1))
    merged = merge(join(one, moved(one, (0.1, 0.0, 0.0))), 1)
    torch.testing.assert_close(merged.means, one.means + torch.tensor([[0.05, 0.0, 0.0]]), rtol=0, atol=1e-3)
    torch.testing.assert_close(merged.sh, one.sh)
    away = torch.tensor([0.05, 0.0, 0.0])
    both = covariances(one.scales, one.quats) + away[:, None] * away
    torch.testing.assert_close(covariances(merged.scales, merged.quats), both, rtol=1e-2, atol=1e-4)


def test_a_gaussian_and_its_copy_block_as_much_light_as_one_after_the_other():
    one = dataclasses.replace(rows(ball(1, 1.0), slice(1)), opacities=torch.tensor([0.5]))
    assert float(merge(join(one, one), 1).opacities) == pytest.approx(0.75)


def test_the_harmonics_of_one_colour_stay(random_gaussians):
    asset = with_sh_degree(ball(50, 1.0), 3)
    torch.testing.assert_close(merge(asset, 20).sh, asset.sh[:20])


def test_quaternions_of_rotations_turn_as_those_do(generator):
    quats = torch.nn.functional.normalize(torch.randn(500, 4, generator=generator, dtype=torch.float64), dim=1)
    quats[:3] = torch.eye(4, dtype=torch.float64)[1:]  # half turns
    back = rotation_from_quats(quats_from_rotation(rotation_from_quats(quats)))
    torch.testing.assert_close(back, rotation_from_quats(quats))


# --- merging to a file's size -----------------------------------------------------------------------------------------

SIZES = {
    "in proportion": lambda count: 68 * count,
    "with a header": lambda count: 5000 + 32 * count,
    "mostly the same": lambda count: 40_000 + 7 * count,
    "slower than in proportion": lambda count: int(900 * count**0.7),
    "faster than in proportion": lambda count: int(0.3 * count**1.6),
    "in jumps": lambda count: 4096 * math.ceil(count * 20 / 4096),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("share", [0.03, 0.5, 0.99])
def test_a_size_is_kept_and_used_after_a_few_tries(random_gaussians, name, share):
    tried = []

    def size_of(gaussians: Gaussians) -> int:
        tried.append(len(gaussians))
        return SIZES[name](len(gaussians))

    gaussians = random_gaussians(400)
    limit = SIZES[name](1) + int(share * (SIZES[name](400) - SIZES[name](1)))
    kept = len(merge_to_size(gaussians, limit, size_of))
    assert SIZES[name](kept) <= limit
    assert SIZES[name](kept) >= 0.995 * limit or SIZES[name](kept + 1) > limit
    assert len(tried) <= (5 if name == "in proportion" else 20)


def test_what_fits_is_left_alone_and_what_cannot_fit_is_refused(random_gaussians):
    gaussians = random_gaussians(10)
    assert merge_to_size(gaussians, 10, len) is gaussians
    with pytest.raises(InvalidInput, match="one Gaussian takes 68 bytes, expected at most 67"):
        merge_to_size(gaussians, 67, lambda some: 68 * len(some))
