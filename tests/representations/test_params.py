"""Raw parameters, their optimiser and the adding and removing of rows."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.rotations import covariances, rotation_from_quats
from dreamsplat.render.selftest import scene
from dreamsplat.representations import PAPER_RATES, LearningRates
from dreamsplat.representations.densify import DensifyPlan
from dreamsplat.representations.params import LEAVES, SplatParams
from dreamsplat.types import Gaussians


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_gaussians(count: int = 7, sh_degree: int = 1) -> Gaussians:
    return scene(count, sh_degree, spread=2.0, scale=(0.1, 1.1), opacity=(0.1, 0.9))


def random_loss(params: SplatParams, generator: torch.Generator) -> Tensor:
    """A loss that reaches every leaf, different at each call."""
    g = params.gaussians()
    values = (g.means, g.scales, g.quats, g.opacities, g.sh)
    return sum((torch.randn(v.shape, generator=generator) * v.square()).sum() for v in values)  # type: ignore[return-value]


def train(params: SplatParams, steps: int, generator: torch.Generator) -> None:
    for _ in range(steps):
        random_loss(params, generator).backward()
        params.step()


def plan_for(
    count: int, clone: tuple[int, ...] = (), split: tuple[int, ...] = (), prune: tuple[int, ...] = ()
) -> DensifyPlan:
    masks = {"clone": clone, "split": split, "prune": prune}
    return DensifyPlan(**{name: torch.tensor([i in rows for i in range(count)]) for name, rows in masks.items()})


@pytest.mark.parametrize("sh_degree", [0, 3])
def test_parameters_show_the_gaussians_they_came_from(sh_degree: int) -> None:
    given = random_gaussians(sh_degree=sh_degree)
    shown = SplatParams.from_gaussians(given, LearningRates()).gaussians()
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(shown, name), getattr(given, name))
    torch.testing.assert_close(rotation_from_quats(shown.quats), rotation_from_quats(given.quats))


def test_opacities_of_zero_and_one_stay_finite_and_trainable() -> None:
    given = dataclasses.replace(random_gaussians(2), opacities=torch.tensor([0.0, 1.0]))
    params = SplatParams.from_gaussians(given, LearningRates())
    shown = params.gaussians().opacities
    torch.testing.assert_close(shown, given.opacities, atol=2e-6, rtol=0)
    shown.sum().backward()
    grad = params.leaves["logit_opacities"].grad
    assert grad is not None
    assert (grad > 0).all()
    assert grad.isfinite().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"means": torch.full((7, 3), torch.nan)}, "NaN"),
        ({"scales": torch.zeros(7, 3)}, "scale is not > 0"),
        ({"opacities": torch.full((7,), 1.1)}, "opacity is outside"),
        ({"quats": torch.zeros(7, 4)}, "quaternion is zero"),
    ],
)
def test_gaussians_without_finite_raw_values_are_refused(change: dict[str, Tensor], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        SplatParams.from_gaussians(dataclasses.replace(random_gaussians(), **change), LearningRates())


def test_rates_are_those_of_the_official_code_and_of_the_paper() -> None:
    rates = LearningRates()
    assert rates.at(0)["means"] == 2e-4
    assert rates.at(1199)["means"] == pytest.approx(1.945e-4, rel=1e-3)
    assert rates.at(15_000)["means"] == pytest.approx((2e-4 * 1e-4) ** 0.5)
    assert rates.at(30_000)["means"] == pytest.approx(1e-4)
    assert rates.at(90_000)["means"] == pytest.approx(1e-4)
    assert (rates.sh_dc, rates.sh_rest, rates.opacities) == (0.0125, 0.000625, 0.01)
    assert (rates.scales, rates.quats) == (0.005, 0.001)
    assert PAPER_RATES.at(0)["means"] == PAPER_RATES.at(1199)["means"] == 5e-5
    assert (PAPER_RATES.sh_dc, PAPER_RATES.opacities) == (1.25e-2, 1e-2)
    assert (PAPER_RATES.scales, PAPER_RATES.quats) == (1e-3, 1e-2)


def test_a_position_rate_of_zero_freezes_the_centres() -> None:
    params = SplatParams.from_gaussians(random_gaussians(), LearningRates(means=0.0, means_final=0.0))
    before = params.gaussians()
    train(params, 3, seeded())
    assert torch.equal(params.gaussians().means, before.means)
    assert not torch.equal(params.gaussians().scales, before.scales)


def test_step_equals_torch_adam_bit_for_bit() -> None:
    rates = LearningRates(means=0.1, means_final=0.01, means_decay_steps=15)
    params = SplatParams.from_gaussians(random_gaussians(), rates)
    theirs = {name: leaf.detach().clone().requires_grad_() for name, leaf in params.leaves.items()}
    optimiser = torch.optim.Adam([{"params": [v], "lr": 0.0, "name": n} for n, v in theirs.items()], eps=1e-15)
    noise = seeded()
    for step in range(20):
        random_loss(params, noise).backward()
        for group in optimiser.param_groups:
            group["lr"] = rates.at(step)[group["name"]]
            grad = params.leaves[group["name"]].grad
            assert grad is not None
            group["params"][0].grad = grad.clone()
        params.step()
        optimiser.step()
    for name, value in theirs.items():
        assert torch.equal(params.leaves[name], value), name


def test_step_leaves_gaussians_handed_out_earlier_alone() -> None:
    params = SplatParams.from_gaussians(random_gaussians(), LearningRates())
    handed_out = params.gaussians().detach()
    before = handed_out.means.clone()
    train(params, 1, seeded())
    assert torch.equal(handed_out.means, before)
    assert not torch.equal(params.gaussians().means, before)


def test_parameters_do_not_share_memory_with_the_gaussians_given() -> None:
    given = random_gaussians()
    params = SplatParams.from_gaussians(given, LearningRates())
    before = params.leaves["means"].detach().clone()
    given.means.zero_()
    assert torch.equal(params.leaves["means"], before)


def test_rows_come_in_the_documented_order_with_their_values() -> None:
    params = SplatParams.from_gaussians(random_gaussians(), LearningRates())
    train(params, 2, seeded())
    old = {name: leaf.detach() for name, leaf in params.leaves.items()}
    plan = plan_for(7, clone=(0, 5), split=(1, 4), prune=(3,))
    params.apply(plan, seeded())
    source = [0, 2, 5, 6] + [0, 5] + [1, 4] + [1, 4]
    assert len(params) == len(source)
    for name, leaf in params.leaves.items():
        assert leaf.requires_grad
        assert leaf.grad is None
        unchanged = slice(0, 6 if name in ("means", "log_scales") else None)
        assert torch.equal(leaf[unchanged], old[name][source][unchanged]), name
    torch.testing.assert_close(params.leaves["log_scales"][6:].exp(), old["log_scales"][source[6:]].exp() / 1.6)
    assert params.leaves["means"][6:].unique(dim=0).shape[0] == 4


def test_survivors_keep_their_moments_and_new_rows_have_none() -> None:
    params = SplatParams.from_gaussians(random_gaussians(), LearningRates())
    train(params, 2, seeded())
    old = params.state_tensors()
    params.apply(plan_for(7, clone=(0, 5), split=(1, 4), prune=(3,)), seeded())
    new = params.state_tensors()
    for name in LEAVES:
        for moment in (f"{name}.moment1", f"{name}.moment2"):
            assert old[moment].any()
            assert torch.equal(new[moment][:4], old[moment][[0, 2, 5, 6]])
            assert new[moment].shape == new[name].shape
            assert not new[moment][4:].any()


def test_step_after_apply_skips_the_update_and_training_goes_on() -> None:
    params = SplatParams.from_gaussians(random_gaussians(), LearningRates())
    train(params, 2, seeded())
    random_loss(params, seeded()).backward()
    params.apply(plan_for(7, clone=(2,)), seeded())
    before = params.gaussians()
    params.step()
    assert torch.equal(params.gaussians().means, before.means)
    train(params, 2, seeded())
    assert params.updates == 4
    assert not torch.equal(params.gaussians().means, before.means)


def test_children_of_a_split_are_drawn_from_their_parent() -> None:
    count = 20_000
    parent = random_gaussians(1)
    same = {f.name: getattr(parent, f.name)[torch.zeros(count, dtype=torch.int64)] for f in dataclasses.fields(parent)}
    crowd = Gaussians(**same)
    params = SplatParams.from_gaussians(crowd, LearningRates())
    everyone, nobody = torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)
    params.apply(DensifyPlan(clone=nobody, split=everyone, prune=nobody), seeded())
    assert len(params) == 2 * count
    children = params.leaves["means"].detach()
    wanted = covariances(parent.scales, parent.quats)[0]
    # The standard error of a covariance from 40,000 draws is 1/sqrt(20,000) = 0.7 % of its size; allow four of them.
    torch.testing.assert_close(children.T.cov(), wanted, atol=0.03 * float(wanted.diagonal().max()), rtol=0)
    torch.testing.assert_close(children.mean(dim=0), parent.means[0], atol=0.02, rtol=0)


def test_apply_is_determined_by_the_generator() -> None:
    def split_means(seed: int) -> Tensor:
        params = SplatParams.from_gaussians(random_gaussians(), LearningRates())
        params.apply(plan_for(7, split=(1, 4)), seeded(seed))
        return params.leaves["means"].detach()

    assert torch.equal(split_means(1), split_means(1))
    assert not torch.equal(split_means(1), split_means(2))


def test_an_empty_plan_changes_nothing() -> None:
    params = SplatParams.from_gaussians(random_gaussians(), LearningRates())
    train(params, 2, seeded())
    before = params.state_tensors()
    params.apply(plan_for(7), seeded())
    assert all(torch.equal(before[name], tensor) for name, tensor in params.state_tensors().items())


def test_everything_can_be_pruned() -> None:
    params = SplatParams.from_gaussians(random_gaussians(), LearningRates())
    params.apply(plan_for(7, prune=tuple(range(7))), seeded())
    assert len(params) == len(params.gaussians()) == 0


def test_a_plan_for_another_count_is_refused() -> None:
    params = SplatParams.from_gaussians(random_gaussians(), LearningRates())
    with pytest.raises(InvalidInput, match="for 3 Gaussians"):
        params.apply(plan_for(3), seeded())


@pytest.mark.parametrize("sh_degree", [0, 1])
def test_training_continues_bit_for_bit_from_a_state(sh_degree: int) -> None:
    def run_on(params: SplatParams) -> dict[str, Tensor]:
        train(params, 2, seeded(8))
        params.apply(plan_for(8, clone=(1,), split=(2,)), seeded(9))
        train(params, 3, seeded(10))
        return params.state_tensors()

    params = SplatParams.from_gaussians(random_gaussians(sh_degree=sh_degree), LearningRates())
    train(params, 3, seeded())
    params.apply(plan_for(7, clone=(0, 5), prune=(3,)), seeded())
    train(params, 2, seeded(7))
    saved = {name: tensor.clone() for name, tensor in params.state_tensors().items()}
    assert all(tensor.is_contiguous() for tensor in saved.values())
    straight, resumed = run_on(params), run_on(SplatParams.from_state_tensors(saved, LearningRates()))
    assert straight.keys() == resumed.keys()
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name


def test_a_state_is_a_snapshot() -> None:
    params = SplatParams.from_gaussians(random_gaussians(), LearningRates())
    state = params.state_tensors()
    copy = {name: tensor.clone() for name, tensor in state.items()}
    train(params, 2, seeded())
    assert all(torch.equal(copy[name], tensor) for name, tensor in state.items())


def test_a_state_with_wrong_tensors_is_refused() -> None:
    state = SplatParams.from_gaussians(random_gaussians(), LearningRates()).state_tensors()
    with pytest.raises(InvalidInput, match=r"missing \['means'\]"):
        SplatParams.from_state_tensors({k: v for k, v in state.items() if k != "means"}, LearningRates())
    with pytest.raises(InvalidInput, match=r"quats.moment1: shape \[6, 4\]"):
        SplatParams.from_state_tensors(state | {"quats.moment1": torch.zeros(6, 4)}, LearningRates())


def test_everything_follows_the_dtype() -> None:
    params = SplatParams.from_gaussians(random_gaussians().to(torch.float64), LearningRates())
    g = params.gaussians()
    (g.means.sum() + g.scales.sum() + g.opacities.sum()).backward()
    params.step()
    params.apply(plan_for(7, split=(0,)), seeded())
    assert all(leaf.dtype == torch.float64 for leaf in params.leaves.values())
