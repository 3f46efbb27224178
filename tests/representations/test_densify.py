"""When and where Gaussians are added and removed."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.representations import DensifyConfig
from dreamsplat.representations.densify import DensifyPlan, ScreenStats, is_due, plan, update_stats
from dreamsplat.types import Cameras, Gaussians

OFFICIAL = DensifyConfig()


def gaussians(size: list[float], opacity: float | list[float] = 0.5) -> Gaussians:
    """Gaussians whose largest scales are `size`."""
    count = len(size)
    scales = torch.full((count, 3), 0.001)
    scales[:, 1] = torch.tensor(size)
    opacities = torch.tensor(opacity).expand(count)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    return Gaussians(
        means=torch.zeros(count, 3), scales=scales, quats=quats, opacities=opacities, sh=torch.zeros(count, 1, 3)
    )


def stats(mean_grad: list[float]) -> ScreenStats:
    """Statistics with this mean gradient over 4 visible steps."""
    return ScreenStats(grad_norm_sum=4 * torch.tensor(mean_grad), visible_count=torch.full((len(mean_grad),), 4.0))


def cameras(count: int = 2, width: int = 200, height: int = 100) -> Cameras:
    pose, pinhole = torch.eye(4).expand(count, 4, 4), torch.eye(3).expand(count, 3, 3)
    return Cameras(world_to_camera=pose, intrinsics=pinhole, width=width, height=height)


def rows(mask: Tensor) -> list[int]:
    return mask.nonzero()[:, 0].tolist()


def count_after(made: DensifyPlan) -> int:
    """Gaussians once a plan is applied."""
    return len(made.clone) + int(made.clone.sum()) + int(made.split.sum()) - int(made.prune.sum())


def test_official_schedule() -> None:
    assert [s for s in range(1300) if is_due(s, OFFICIAL)] == [400, 500, 600, 700, 800]


def test_stop_zero_means_never() -> None:
    assert not any(is_due(s, DensifyConfig(start=0, stop=0, every=1)) for s in range(100))


def test_gradients_are_in_normalised_device_coordinates() -> None:
    grad = torch.tensor([[[3e-6, 0.0], [0.0, 3e-6]]])  # [1 camera, 2 Gaussians, 2], px of a 200 x 100 image
    after = update_stats(ScreenStats.empty(gaussians([1, 1])), grad, torch.ones(1, 2), cameras(1))
    torch.testing.assert_close(after.mean_grad, torch.tensor([3e-4, 1.5e-4]))


def test_the_criterion_does_not_depend_on_the_image_size() -> None:
    # A picture of twice the size has half the gradient per pixel, for the same loss.
    grad = torch.randn((2, 5, 2), generator=torch.Generator().manual_seed(0))
    empty, visible = ScreenStats.empty(gaussians([1] * 5)), torch.ones(2, 5)
    small = update_stats(empty, grad, visible, cameras())
    large = update_stats(empty, grad / 2, visible, cameras(width=400, height=200))
    torch.testing.assert_close(small.mean_grad, large.mean_grad)


def test_views_add_as_vectors_and_count_once() -> None:
    grad = torch.tensor([[[1.0, 0], [1, 0]], [[-1, 0], [0, 1]]])  # [2 cameras, 2 Gaussians, 2]
    after = update_stats(ScreenStats.empty(gaussians([1, 1])), grad, torch.ones(2, 2), cameras(width=2, height=2))
    torch.testing.assert_close(after.grad_norm_sum, torch.tensor([0.0, 2**0.5]))
    assert after.visible_count.tolist() == [1, 1]


def test_only_gaussians_visible_in_some_view_are_counted() -> None:
    radii = torch.tensor([[0.0, 0, 2], [0, 3, 2]])  # [2 cameras, 3 Gaussians]
    state = ScreenStats.empty(gaussians([1, 1, 1]))
    for _ in range(2):
        state = update_stats(state, torch.ones(2, 3, 2), radii, cameras())
    assert state.visible_count.tolist() == [0, 2, 2]
    assert state.mean_grad[0] == 0
    torch.testing.assert_close(state.mean_grad[1], torch.tensor([200.0, 100]).norm())


def test_the_mean_is_over_visible_steps() -> None:
    state = ScreenStats.empty(gaussians([1]))
    for grad, radius in ((1.0, 1.0), (3.0, 1.0), (100.0, 0.0)):
        state = update_stats(state, torch.tensor([[[grad, 0.0]]]), torch.tensor([[radius]]), cameras(1, 2, 2))
    assert state.mean_grad.tolist() == [2.0]


def test_a_gradient_that_is_not_finite_is_passed_over() -> None:
    grad = torch.tensor([[[torch.nan, 0], [torch.inf, 0], [1, 0]]])
    after = update_stats(ScreenStats.empty(gaussians([1, 1, 1])), grad, torch.ones(1, 3), cameras(1, 2, 2))
    assert after.visible_count.tolist() == [0, 0, 1]
    assert after.mean_grad.tolist() == [0, 0, 1]


def test_statistics_must_match_the_gaussians() -> None:
    with pytest.raises(InvalidInput, match="grad_norm_sum"):
        update_stats(ScreenStats.empty(gaussians([1])), torch.ones(2, 3, 2), torch.ones(2, 3), cameras())


def test_small_are_cloned_and_large_are_split_if_their_gradient_is_large() -> None:
    made = plan(gaussians([0.039, 0.041, 0.039, 0.041]), stats([3e-4, 3e-4, 1e-4, 1e-4]), 400, OFFICIAL)
    assert (rows(made.clone), rows(made.split), rows(made.prune)) == ([0], [1], [])
    assert count_after(made) == 6


def test_thresholds_themselves_grow_and_stay() -> None:
    config = DensifyConfig(grad_threshold=0.25, percent_dense=0.5, extent=1.0, min_opacity=0.25, percent_too_big=0.5)
    made = plan(gaussians([0.5], opacity=0.25), stats([0.25]), 600, config)
    assert (rows(made.clone), rows(made.split), rows(made.prune)) == ([0], [], [])


def test_faint_gaussians_are_pruned_and_have_no_children() -> None:
    made = plan(gaussians([0.01, 0.1, 0.01], opacity=[0.049, 0.049, 0.051]), stats([1.0, 1.0, 0.0]), 400, OFFICIAL)
    assert (rows(made.clone), rows(made.split), rows(made.prune)) == ([], [], [0, 1])


def test_big_gaussians_are_pruned_only_after_step_500() -> None:
    early, late = (plan(gaussians([0.41, 0.39]), stats([0.0, 0.0]), step, OFFICIAL) for step in (500, 600))
    assert rows(early.prune) == []
    assert rows(late.prune) == [0]


def test_a_big_gaussian_is_split_instead_if_its_children_are_not_too_big() -> None:
    made = plan(gaussians([0.63, 0.65]), stats([1.0, 1.0]), 600, OFFICIAL)
    assert (rows(made.split), rows(made.prune)) == ([0], [1])


def test_the_cap_keeps_the_largest_gradients() -> None:
    config = dataclasses.replace(OFFICIAL, max_gaussians=7)
    size = [0.01, 0.1, 0.01, 0.1, 0.01]
    made = plan(gaussians(size), stats([3e-4, 9e-4, 8e-4, 4e-4, 1e-4]), 400, config)
    assert (rows(made.clone), rows(made.split)) == ([2], [1])
    assert count_after(made) == 7


def test_pruning_makes_room_under_the_cap() -> None:
    config = dataclasses.replace(OFFICIAL, max_gaussians=3)
    made = plan(gaussians([0.01] * 3, opacity=[0.5, 0.5, 0.01]), stats([3e-4, 4e-4, 1.0]), 400, config)
    assert (rows(made.clone), rows(made.prune)) == ([1], [2])
    assert count_after(made) == 3


def test_a_split_denied_by_the_cap_is_judged_by_its_own_size() -> None:
    config = dataclasses.replace(OFFICIAL, max_gaussians=2)
    made = plan(gaussians([0.5, 0.01]), stats([1.0, 0.0]), 600, config)
    assert (rows(made.split), rows(made.prune)) == ([], [0])


@pytest.mark.parametrize("cap", [1, 50, 100, 130, 10_000])
@pytest.mark.parametrize("step", [400, 600])
def test_growth_never_passes_the_cap(cap: int, step: int) -> None:
    g = torch.Generator().manual_seed(cap + step)
    size, opacity = torch.rand(100, generator=g).square() * 0.8, torch.rand(100, generator=g) * 0.3
    state = stats((torch.rand(100, generator=g) * 6e-4).tolist())
    crowd = gaussians(size.tolist(), opacity.tolist())
    free = plan(crowd, state, step, OFFICIAL)
    capped = plan(crowd, state, step, dataclasses.replace(OFFICIAL, max_gaussians=cap))
    grown = capped.clone | capped.split
    assert not (grown & ~(free.clone | free.split)).any()
    assert count_after(capped) <= max(cap, 100 - int(capped.prune.sum()))
    assert (count_after(free) > cap) or torch.equal(capped.clone | capped.split, free.clone | free.split)
    dropped = (free.clone | free.split) & ~grown
    if grown.any() and dropped.any():
        assert state.mean_grad[grown].min() >= state.mean_grad[dropped].max()


def test_equal_gradients_under_the_cap_go_to_the_first() -> None:
    config = dataclasses.replace(OFFICIAL, max_gaussians=1020)
    assert rows(plan(gaussians([0.01] * 1000), stats([1.0] * 1000), 400, config).clone) == list(range(20))


def test_a_plan_with_two_fates_for_one_gaussian_is_refused() -> None:
    yes, no = torch.tensor([True]), torch.tensor([False])
    with pytest.raises(InvalidInput, match="at most one"):
        DensifyPlan(clone=yes, split=no, prune=yes)
