"""The losses against algebra, on a prior whose optimal denoiser is known in closed form."""

from __future__ import annotations

import pytest
import torch
from analytic import GaussianDenoiser, GaussianPrior

from dreamsplat.guidance import SDS, SJC, Conditions, guided_denoise
from dreamsplat.noise import normal_like

MU, SPREAD = 0.8, 0.5
SIGMAS = torch.tensor([0.05, 0.4, 2.0, 9.0], dtype=torch.float64)


def _case(seed: int = 0) -> tuple[GaussianDenoiser, torch.Tensor, Conditions, torch.Generator]:
    prior = GaussianDenoiser(GaussianPrior(MU, SPREAD))
    generator = torch.Generator().manual_seed(seed)
    z = normal_like(torch.empty(4, 3, 8, 8, dtype=torch.float64), generator)
    conditions = Conditions(torch.full((4, 1, 1, 1), MU), torch.zeros(4, 1, 1, 1))
    return prior, z, conditions, generator


def _expected_sds(z: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean over the noise of w (z - D) / sigma, which is w sigma (z - mu) / (s^2 + sigma^2)."""
    s = SIGMAS[:, None, None, None]
    return weight[:, None, None, None] * s * (z - MU) / (SPREAD**2 + s**2)


@pytest.mark.parametrize("weighting", ["sds", "uniform", "fantasia3d"])
def test_the_mean_sds_gradient_is_the_closed_form(weighting: str) -> None:
    prior, z, conditions, generator = _case()
    loss = SDS(guidance_scale=1.0, weighting=weighting)  # type: ignore[arg-type]
    draws = [loss.grad(prior, z, SIGMAS, conditions, generator) for _ in range(600)]
    abar = 1 / (1 + SIGMAS**2)
    weight = {"sds": 1 - abar, "uniform": torch.ones(4), "fantasia3d": abar.sqrt() * (1 - abar)}[weighting]
    mean, spread = torch.stack(draws).mean(0), torch.stack(draws).std(0)
    error = (mean - _expected_sds(z, weight.double())).abs()
    # Six standard errors of a mean of 600: a wrong weight, sign or sigma misses by far more.
    assert bool((error <= 6 * spread / 600**0.5 + 1e-12).all())


def test_a_sample_at_the_mean_has_no_mean_gradient_and_others_are_pulled_to_it() -> None:
    prior, z, conditions, generator = _case()
    loss = SDS(guidance_scale=1.0)
    for _ in range(400):
        z = z - 0.2 * loss.grad(prior, z, SIGMAS.clamp(0.3), conditions, generator)
    assert (z.mean() - MU).abs() < 0.05


def test_sjc_with_reduced_variance_is_sds_with_unit_weight() -> None:
    prior, z, conditions, _ = _case()
    sds, sjc = (
        loss.grad(prior, z, SIGMAS, conditions, torch.Generator().manual_seed(5))
        for loss in (SDS(7.5, "uniform"), SJC(7.5))
    )
    torch.testing.assert_close(sjc, sds, rtol=0, atol=0)


def test_sds_is_sjc_times_one_minus_abar() -> None:
    prior, z, conditions, _ = _case()
    sds, sjc = (
        loss.grad(prior, z, SIGMAS, conditions, torch.Generator().manual_seed(5)) for loss in (SDS(7.5), SJC(7.5))
    )
    one_minus_abar = SIGMAS**2 / (1 + SIGMAS**2)
    torch.testing.assert_close(sds, one_minus_abar[:, None, None, None] * sjc)


def test_sjc_without_variance_reduction_differs_by_the_injected_noise_alone() -> None:
    prior, z, conditions, _ = _case()
    reduced, plain = (
        SJC(1.0, variance_reduced=flag).grad(prior, z, SIGMAS, conditions, torch.Generator().manual_seed(5))
        for flag in (True, False)
    )
    torch.testing.assert_close(plain - reduced, normal_like(z, torch.Generator().manual_seed(5)))


def test_guidance_extrapolates_from_the_negative_to_the_positive_estimate_in_one_call() -> None:
    prior, z, conditions, _ = _case()
    positive, negative = (prior.denoise(z, SIGMAS, c) for c in (conditions.positive, conditions.negative))
    prior.calls = 0
    guided = guided_denoise(prior, z, SIGMAS, conditions, 7.5)
    torch.testing.assert_close(guided, negative + 7.5 * (positive - negative))
    assert prior.calls == 1


def test_the_papers_formula_with_100_is_the_usual_one_with_101() -> None:
    prior, z, conditions, _ = _case()
    positive, negative = (prior.denoise(z, SIGMAS, c) for c in (conditions.positive, conditions.negative))
    torch.testing.assert_close(
        guided_denoise(prior, z, SIGMAS, conditions, 101.0), positive + 100.0 * (positive - negative)
    )


def test_a_loss_calls_the_network_exactly_once() -> None:
    prior, z, conditions, generator = _case()
    for loss in (SDS(), SJC()):
        prior.calls = 0
        loss.grad(prior, z, SIGMAS, conditions, generator)
        assert prior.calls == 1
