"""Pruning: what is measured is what counts in the pictures, and what is left out is what counts least."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from spheres import ball

from dreamsplat.assets import pruning
from dreamsplat.assets.gaussians import join, rows
from dreamsplat.assets.pruning import importance, picture_psnr, prune, prune_to_size
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.harmonics import DC
from dreamsplat.method.cameras import orbit
from dreamsplat.render import render
from dreamsplat.types import Gaussians


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(pruning, "SIZE", 48)


def kept_places(gaussians: Gaussians, kept: Gaussians) -> set[int]:
    return {int((gaussians.opacities == value).nonzero()[0]) for value in kept.opacities}


# --- importance -------------------------------------------------------------------------------------------------------


def test_importance_is_how_much_of_a_gaussians_colour_is_in_the_pictures(random_gaussians):
    gaussians = dataclasses.replace(random_gaussians(12, 2), sh=torch.zeros(12, 9, 3))
    cameras = orbit(3, size=32).cameras
    measured = importance(gaussians, cameras)
    plain = render(gaussians, cameras).rgb
    for k in range(12):
        brighter = gaussians.sh.clone()
        brighter[k, 0, 1] = 0.1 / DC
        gained = render(dataclasses.replace(gaussians, sh=brighter), cameras).rgb - plain
        torch.testing.assert_close(measured[k], gained[..., 1].sum() / 0.1, rtol=1e-3, atol=1e-3)


def test_importance_does_not_depend_on_the_colours(random_gaussians):
    gaussians, cameras = random_gaussians(20, 3), orbit(2, size=32).cameras
    dark = dataclasses.replace(gaussians, sh=torch.full_like(gaussians.sh, -9.0))  # so dark that colours are clamped
    assert torch.equal(importance(gaussians, cameras), importance(dark, cameras))
    assert not importance(gaussians, cameras).requires_grad


def test_the_weights_of_all_gaussians_add_up_to_the_coverage(random_gaussians):
    gaussians, cameras = random_gaussians(50), orbit(4, size=32).cameras
    covered = render(gaussians, cameras).alpha.sum()
    torch.testing.assert_close(importance(gaussians, cameras).sum(), covered, rtol=1e-4, atol=1e-3)


# --- pruning to a number ----------------------------------------------------------------------------------------------


def test_what_is_hidden_inside_goes_first_and_costs_next_to_nothing():
    inside, shell = ball(100, 0.3, (1, 0, 0)), ball(1000, 1.0, (0, 0, 1))
    pruned = prune(join(inside, shell), 1000)
    assert all(torch.equal(kept, vars(shell)[name]) for name, kept in vars(pruned.gaussians).items())
    assert pruned.psnr_db > 40


def test_the_important_ones_lose_less_than_others(random_gaussians):
    gaussians = random_gaussians(300, 1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    pruned = prune(gaussians, 150)
    assert len(pruned.gaussians) == 150 and pruned.gaussians.sh_degree == 1
    assert pruned.psnr_db == picture_psnr(gaussians, pruned.gaussians)
    assert pruned.psnr_db > picture_psnr(gaussians, rows(gaussians, order[:150])) + 1


def test_pruning_keeps_order_and_values_and_is_the_same_every_time(random_gaussians):
    gaussians = random_gaussians(100)
    first, second = prune(gaussians, 37), prune(gaussians, 37)
    places = sorted(kept_places(gaussians, first.gaussians))
    for name, values in vars(first.gaussians).items():
        assert torch.equal(values, vars(gaussians)[name][places])
        assert torch.equal(values, vars(second.gaussians)[name])
    assert first.psnr_db == second.psnr_db


@pytest.mark.parametrize(("size", "place"), [(1.0, 500.0), (1e-5, 0.0), (1e4, -2e4)])
def test_neither_size_nor_place_of_the_object_matters(random_gaussians, size, place):
    gaussians = random_gaussians(200)
    moved = dataclasses.replace(gaussians, means=size * gaussians.means + place, scales=size * gaussians.scales)
    here, there = prune(gaussians, 100), prune(moved, 100)
    same = kept_places(gaussians, here.gaussians) & kept_places(moved, there.gaussians)
    assert len(same) >= 97  # centres far away have lost some digits
    assert there.psnr_db == pytest.approx(here.psnr_db, abs=0.2)


def test_a_stray_gaussian_far_away_does_not_make_the_object_a_dot(random_gaussians):
    gaussians = random_gaussians(200)
    stray = rows(gaussians, torch.tensor([0]))
    for far in (1e4, 1e30):
        both = join(gaussians, dataclasses.replace(stray, means=torch.full((1, 3), far)))
        pruned, alone = prune(both, 100), prune(gaussians, 100)
        assert 200 not in kept_places(both, pruned.gaussians)
        assert pruned.psnr_db == pytest.approx(alone.psnr_db, abs=1)


def test_a_count_that_is_no_limit_changes_nothing(random_gaussians):
    gaussians = random_gaussians(5)
    for count in (5, 6, 10**9):
        pruned = prune(gaussians, count)
        assert pruned.gaussians is gaussians and pruned.psnr_db == math.inf
    assert len(prune(random_gaussians(0), 1).gaussians) == 0
    with pytest.raises(InvalidInput, match="count: 0, expected at least 1"):
        prune(gaussians, 0)


# --- the loss in pictures ---------------------------------------------------------------------------------------------


def test_equal_pictures_lose_nothing_and_a_vanished_object_is_seen_whatever_its_colour():
    white, black = (ball(300, 1.0, colour) for colour in ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    assert picture_psnr(white, white) == math.inf
    gone = [picture_psnr(object, rows(object, torch.tensor([], dtype=torch.int64))) for object in (white, black)]
    assert gone[0] == pytest.approx(gone[1], rel=1e-4)
    # The ball covers the square's inscribed circle, less a margin, over one of the two backgrounds.
    assert 10 ** (-gone[0] / 10) == pytest.approx(0.5 * math.pi / 4, rel=0.2)


def test_an_empty_asset_has_no_pictures_to_lose(random_gaussians):
    with pytest.raises(InvalidInput, match="no Gaussians"):
        picture_psnr(random_gaussians(0), random_gaussians(1))


# --- pruning to a file's size -----------------------------------------------------------------------------------------

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

    gaussians = random_gaussians(3000)
    limit = SIZES[name](1) + int(share * (SIZES[name](3000) - SIZES[name](1)))
    kept = len(prune_to_size(gaussians, limit, size_of).gaussians)
    assert SIZES[name](kept) <= limit
    assert SIZES[name](kept) >= 0.995 * limit or SIZES[name](kept + 1) > limit
    assert len(tried) <= (5 if name == "in proportion" else 20)


def test_both_limits_hold(random_gaussians):
    gaussians = random_gaussians(100)
    assert len(prune_to_size(gaussians, 1000, len, count=40).gaussians) == 40
    few = prune_to_size(gaussians, 20, len, count=40)
    assert len(few.gaussians) == 20 and few.psnr_db == prune(gaussians, 20).psnr_db


def test_what_fits_is_left_alone_and_what_cannot_fit_is_refused(random_gaussians):
    gaussians = random_gaussians(10)
    assert prune_to_size(gaussians, 10, len).gaussians is gaussians
    with pytest.raises(InvalidInput, match="one Gaussian takes 68 bytes, expected at most 67"):
        prune_to_size(gaussians, 67, lambda some: 68 * len(some))
