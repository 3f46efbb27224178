"""Pruning: what is measured is what counts in the pictures, and what is left out is what counts least."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from spheres import ball

from dreamsplat.assets import pruning
from dreamsplat.assets.gaussians import join, rows
from dreamsplat.assets.pruning import importance, picture_psnr, prune
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
    both = join(inside, shell)
    pruned = prune(both, 1000)
    assert all(torch.equal(kept, vars(shell)[name]) for name, kept in vars(pruned).items())
    assert picture_psnr(both, pruned) > 40


def test_the_important_ones_lose_less_than_others(random_gaussians):
    gaussians = random_gaussians(300, 1)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    pruned = prune(gaussians, 150)
    assert len(pruned) == 150 and pruned.sh_degree == 1
    assert picture_psnr(gaussians, pruned) > picture_psnr(gaussians, rows(gaussians, order[:150])) + 1


def test_pruning_keeps_order_and_values_and_is_the_same_every_time(random_gaussians):
    gaussians = random_gaussians(100)
    first, second = prune(gaussians, 37), prune(gaussians, 37)
    places = sorted(kept_places(gaussians, first))
    for name, values in vars(first).items():
        assert torch.equal(values, vars(gaussians)[name][places])
        assert torch.equal(values, vars(second)[name])


@pytest.mark.parametrize(("size", "place"), [(1.0, 500.0), (1e-5, 0.0), (1e4, -2e4)])
def test_neither_size_nor_place_of_the_object_matters(random_gaussians, size, place):
    gaussians = random_gaussians(200)
    moved = dataclasses.replace(gaussians, means=size * gaussians.means + place, scales=size * gaussians.scales)
    here, there = prune(gaussians, 100), prune(moved, 100)
    same = kept_places(gaussians, here) & kept_places(moved, there)
    assert len(same) >= 97  # centres far away have lost some digits
    assert picture_psnr(moved, there) == pytest.approx(picture_psnr(gaussians, here), abs=0.2)


def test_a_stray_gaussian_far_away_does_not_make_the_object_a_dot(random_gaussians):
    gaussians = random_gaussians(200)
    stray = rows(gaussians, torch.tensor([0]))
    for far in (1e4, 1e30):
        both = join(gaussians, dataclasses.replace(stray, means=torch.full((1, 3), far)))
        pruned, alone = prune(both, 100), prune(gaussians, 100)
        assert 200 not in kept_places(both, pruned)
        assert picture_psnr(both, pruned) == pytest.approx(picture_psnr(gaussians, alone), abs=1)


def test_a_count_that_is_no_limit_changes_nothing(random_gaussians):
    gaussians = random_gaussians(5)
    for count in (5, 6, 10**9):
        assert prune(gaussians, count) is gaussians
    assert len(prune(random_gaussians(0), 1)) == 0
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
