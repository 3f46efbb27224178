"""Cleaning finds what is not part of the object, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from spheres import ball

from dreamsplat.assets import bounds, extent, is_floater, is_hidden, is_oversized, join, moved, pruning, rows, scaled
from dreamsplat.errors import InvalidInput


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(pruning, "SIZE", 48)


BALL = ball(600, 1.0)
CRUMBS = moved(ball(5, 0.05), (3.0, 0.0, 0.0))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("place", [(0.0, 0.0, 0.0), (50.0, -20.0, 7.0)])
def test_crumbs_apart_from_the_object_are_floaters_at_any_size_and_place(size, place):
    asset = moved(scaled(join(BALL, CRUMBS), size), place)
    assert is_floater(asset).nonzero()[:, 0].tolist() == list(range(len(BALL), len(asset)))


def test_two_objects_of_like_size_are_no_floaters():
    assert not is_floater(join(BALL, moved(ball(500, 0.8), (5.0, 0.0, 0.0)))).any()


def test_what_is_too_faint_for_any_clump_is_a_floater():
    faint = dataclasses.replace(BALL, opacities=torch.where(torch.arange(len(BALL)) % 7 == 0, 0.01, BALL.opacities))
    assert bool(is_floater(faint)[faint.opacities < 0.05].all())
    assert is_floater(rows(BALL, slice(1))).tolist() == [False]


def test_one_far_outlier_is_found_without_a_grid_as_large_as_its_distance():
    assert is_floater(join(BALL, moved(ball(1, 0.1), (1e6, 0.0, 0.0)))).nonzero()[:, 0].tolist() == [len(BALL)]


def test_what_lies_inside_an_opaque_ball_is_hidden():
    asset = join(BALL, ball(600, 0.97), ball(20, 0.2))
    assert is_hidden(asset)[-20:].all() and not is_hidden(asset)[: len(BALL)].any()


def test_a_needle_of_half_the_objects_radius_is_oversized():
    needle = dataclasses.replace(rows(BALL, slice(1)), scales=torch.tensor([[0.5, 0.01, 0.01]]))
    assert is_oversized(join(BALL, needle)).nonzero()[:, 0].tolist() == [len(BALL)]
    assert is_oversized(rows(BALL, slice(0))).tolist() == []


def test_the_extent_is_that_of_what_is_seen():
    low, high = extent(join(BALL, dataclasses.replace(CRUMBS, opacities=torch.full((len(CRUMBS),), 0.01))))
    assert float(high.max()) < 1.2 and float(low.min()) > -1.2 and bool((low < bounds(BALL)[0]).all())
    with pytest.raises(InvalidInput, match="no Gaussian has an opacity"):
        extent(rows(BALL, slice(0)))
