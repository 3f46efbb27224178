"""Noise levels and clipping over a run."""

from __future__ import annotations

import pytest
import torch

from dreamsplat.errors import InvalidInput
from dreamsplat.method.noise_levels import sigma_of_time, time_of_sigma
from dreamsplat.method.schedule import AnnealedTimes, GradientClip, Times


def test_times_switch_after_step_500_as_in_the_official_code() -> None:
    generator = torch.Generator().manual_seed(0)
    early, late = (Times().draw(step, 1200, 4000, generator) for step in (500, 501))
    assert 0.02 <= early.min() and 0.9 < early.max() <= 0.98
    assert 0.02 <= late.min() and 0.5 < late.max() <= 0.55


def test_each_image_of_a_batch_has_its_own_time() -> None:
    assert len(set(Times().draw(0, 1200, 8, torch.Generator().manual_seed(0)).tolist())) == 8


def test_sigma_follows_stable_diffusions_schedule() -> None:
    # abar of method.md 3.1: t = 20 .981, 250 .674, 500 .276, 550 .214, 980 .0058.
    t = torch.tensor([0.020, 0.250, 0.500, 0.550, 0.980], dtype=torch.float64)
    abar = 1 / (1 + sigma_of_time(t) ** 2)
    torch.testing.assert_close(abar, torch.tensor([0.981, 0.674, 0.276, 0.214, 0.0058]).double(), rtol=0.01, atol=6e-4)


def test_sigma_grows_with_time() -> None:
    assert bool((sigma_of_time(torch.linspace(0, 1, 501)).diff() >= 0).all())


def test_time_of_sigma_is_the_inverse() -> None:
    t = torch.linspace(0, 0.999, 333, dtype=torch.float64)
    torch.testing.assert_close(time_of_sigma(sigma_of_time(t)), t, rtol=0, atol=1e-9)
    ends = time_of_sigma(torch.tensor([1e-9, 1e9], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([0.0, 0.999], dtype=torch.float64))


def test_annealed_times_fall_from_first_to_last_linearly_or_as_a_square_root() -> None:
    linear, sqrt = AnnealedTimes(last=0.38), AnnealedTimes(last=0.38, curve="sqrt")
    for step, even, early in ((0, 0.98, 0.98), (25, 0.83, 0.68), (100, 0.38, 0.38)):
        assert linear.greatest(step, 101) == pytest.approx(even)
        assert sqrt.greatest(step, 101) == pytest.approx(early)


def test_annealed_times_are_uniform_up_to_the_greatest() -> None:
    times = AnnealedTimes().draw(50, 101, 4000, torch.Generator().manual_seed(0))
    assert 0.02 <= times.min() < 0.03 and 0.63 < times.max() <= 0.64
    assert times.mean() == pytest.approx(0.33, abs=0.01)


def test_annealing_of_a_single_step_is_possible() -> None:
    assert AnnealedTimes().draw(0, 1, 3, torch.Generator()).shape == (3,)


def test_annealed_times_out_of_order_are_refused() -> None:
    with pytest.raises(InvalidInput, match="least <= last <= first"):
        AnnealedTimes(last=0.99)


def test_the_clip_grows_linearly_and_then_stays() -> None:
    clip, gradient = GradientClip(), torch.tensor([-9.0, 9.0, 0.3])
    for step, limit in ((0, 1.5), (500, 1.75), (1000, 2.0), (5000, 2.0)):
        torch.testing.assert_close(clip.apply(gradient, step), torch.tensor([-limit, limit, 0.3]))


def test_the_clip_limits_numbers_and_hides_none() -> None:
    clipped = GradientClip().apply(torch.tensor([float("nan"), float("inf"), -9.0, 1.0]), 0)
    assert bool(clipped[0].isnan()) and clipped[1:].tolist() == [1.5, -1.5, 1.0]


@pytest.mark.parametrize("bad", [(0.5, 0.2), (0.0, 0.5), (0.1, 1.5)])
def test_times_out_of_order_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="times.late"):
        Times(late=bad)
