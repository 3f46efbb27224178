"""Noise levels and clipping over a run."""

from __future__ import annotations

import pytest
import torch

from dreamsplat.errors import InvalidInput
from dreamsplat.priors2d import sigma_of_time
from dreamsplat.schedule import GradientClip, Times


def test_times_switch_after_step_500_as_in_the_official_code() -> None:
    generator = torch.Generator().manual_seed(0)
    early, late = (Times().draw(step, 4000, generator) for step in (500, 501))
    assert 0.02 <= early.min() and 0.9 < early.max() <= 0.98
    assert 0.02 <= late.min() and 0.5 < late.max() <= 0.55


def test_each_image_of_a_batch_has_its_own_time() -> None:
    assert len(set(Times().draw(0, 8, torch.Generator().manual_seed(0)).tolist())) == 8


def test_sigma_follows_stable_diffusions_schedule() -> None:
    # abar of method.md 3.1: t = 20 .981, 250 .674, 500 .276, 550 .214, 980 .0058.
    t = torch.tensor([0.020, 0.250, 0.500, 0.550, 0.980], dtype=torch.float64)
    abar = 1 / (1 + sigma_of_time(t) ** 2)
    torch.testing.assert_close(abar, torch.tensor([0.981, 0.674, 0.276, 0.214, 0.0058]).double(), rtol=0.01, atol=6e-4)


def test_sigma_grows_with_time() -> None:
    assert bool((sigma_of_time(torch.linspace(0, 1, 501)).diff() >= 0).all())


def test_the_clip_grows_linearly_and_then_stays() -> None:
    clip, gradient = GradientClip(), torch.tensor([-9.0, 9.0, 0.3])
    for step, limit in ((0, 1.5), (500, 1.75), (1000, 2.0), (5000, 2.0)):
        torch.testing.assert_close(clip.apply(gradient, step), torch.tensor([-limit, limit, 0.3]))


def test_numbers_that_are_not_finite_have_no_say() -> None:
    gradient = torch.tensor([float("nan"), float("inf"), float("-inf"), 1.0])
    assert GradientClip().apply(gradient, 0).tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("bad", [(0.5, 0.2), (0.0, 0.5), (0.1, 1.5)])
def test_times_out_of_order_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="times.late"):
        Times(late=bad)
