"""The losses against algebra, on a prior whose optimal denoiser is known in closed form."""

from __future__ import annotations

import pytest
import torch
from analytic import GaussianDenoiser, GaussianPrior

from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import CSD, ISM, SDS, SJC, VSD, Conditions, describe, every_prompt, guided_denoise
from dreamsplat.guidance.base import perpendicular
from dreamsplat.maths.noise import normal_like
from dreamsplat.method.cameras import make_views
from dreamsplat.method.noise_levels import sigma_of_time, time_of_sigma
from dreamsplat.method.prompts import blended_views, opposed_views
from dreamsplat.priors2d import AbstractImagePrior, AbstractSecondNetwork

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


# CSD


def test_csd_is_the_closed_form_without_any_noise() -> None:
    prior, z, conditions, generator = _case()
    s = SIGMAS[:, None, None, None]
    expected = -(s**2 / (1 + s**2)) * 3.0 * s * (MU - 0.0) / (SPREAD**2 + s**2)
    found = CSD(guidance_scale=3.0).grad(prior, z, SIGMAS, conditions, generator)
    torch.testing.assert_close(found, expected.expand_as(z))


def test_csd_is_the_slope_of_sds_in_the_guidance_scale() -> None:
    prior, z, conditions, _ = _case()
    low, high, csd = (
        loss.grad(prior, z, SIGMAS, conditions, torch.Generator().manual_seed(5))
        for loss in (SDS(10.0), SDS(25.0), CSD(15.0))
    )
    torch.testing.assert_close(high - low, csd)


# ISM


def test_ism_is_the_closed_form_of_inversion_and_interval() -> None:
    prior, z, conditions, _ = _case()
    loss = ISM(guidance_scale=4.0, interval=0.1, stride=0.15, strides=2)
    found = loss.grad(prior, z, SIGMAS, conditions, torch.Generator().manual_seed(5))
    for image, sigma in enumerate(SIGMAS):
        t_s = max(float(time_of_sigma(sigma[None])) - 0.1, 0)
        start = max(t_s - 0.3, 0)
        # As many strides as the image of the batch that needs most: here 2.
        levels = [
            float(sigma_of_time(torch.tensor(start + (t_s - start) * k / 2, dtype=torch.float64))) for k in range(3)
        ]
        x = z[image] + levels[0] * normal_like(z, torch.Generator().manual_seed(5))[image]
        for level, following in [*zip(levels, levels[1:], strict=False), (levels[-1], float(sigma))]:
            noise = level * x / (SPREAD**2 + level**2)  # eps of N(0, SPREAD^2), the negative condition
            x = x + (following - level) * noise
        mean = 4.0 * MU  # guidance on two Gaussians of equal spread moves the mean
        guided = float(sigma) * (x - mean) / (SPREAD**2 + float(sigma) ** 2)
        torch.testing.assert_close(found[image], float(sigma) * (guided - noise), rtol=1e-6, atol=1e-7)


def test_ism_counts_its_network_calls_by_the_strides() -> None:
    prior, z, conditions, generator = _case()
    for time, calls in ((0.05, 3), (0.3, 4), (0.5, 5)):  # start, then ceil((t - 0.08) / 0.2) strides, then the pair
        prior.calls = 0
        ISM().grad(prior, z, sigma_of_time(torch.full((4,), time).double()), conditions, generator)
        assert prior.calls == calls


# VSD


class KnownParticles(AbstractSecondNetwork):
    """A second network in closed form, which counts what it was taught."""

    def __init__(self, mean: float, spread: float) -> None:
        self.mean, self.spread, self.lessons = mean, spread, []

    def denoise(self, z_noisy, sigma, condition):
        s, variance = sigma[:, None, None, None], self.spread**2
        return (variance * z_noisy + s**2 * self.mean) / (variance + s**2)

    def learn(self, z, sigma, condition, generator):
        self.lessons.append((z, sigma))
        return 0.0

    def state_tensors(self):
        return {}

    def load_state_tensors(self, tensors):
        pass


def test_vsd_is_the_closed_form_for_a_second_network_of_known_mean() -> None:
    prior, z, conditions, generator = _case()
    state = KnownParticles(0.3, SPREAD)
    found = VSD(guidance_scale=1.0).grad(prior, z, SIGMAS, conditions, generator, state)
    s = SIGMAS[:, None, None, None]
    expected = s**2 / (1 + s**2) * s * (0.3 - MU) / (SPREAD**2 + s**2)  # with equal spreads the noise drops out
    torch.testing.assert_close(found, expected.expand_as(z))


def test_vsd_vanishes_where_the_second_network_knows_what_the_first_does_and_is_taught_the_renderings() -> None:
    prior, z, conditions, generator = _case()
    state = KnownParticles(MU, SPREAD)
    found = VSD(guidance_scale=1.0).grad(prior, z, SIGMAS, conditions, generator, state)
    torch.testing.assert_close(found, torch.zeros_like(z), rtol=0, atol=1e-7)
    ((taught, sigma),) = state.lessons
    assert taught is z and len(set(sigma.tolist())) == 4 and not set(sigma.tolist()) & set(SIGMAS.tolist())


class WithoutLora(GaussianDenoiser):
    second_network = AbstractImagePrior.second_network


def test_vsd_refuses_a_prior_without_lora() -> None:
    with pytest.raises(InvalidInput, match="this prior takes none"):
        VSD().start(WithoutLora(GaussianPrior()))


# Variants of guidance


def test_rescaling_gives_the_estimate_the_contrast_it_has_without_guidance() -> None:
    prior, z, conditions, _ = _case()
    positive = prior.denoise(z, SIGMAS, conditions.positive)
    plain, half, full = (guided_denoise(prior, z, SIGMAS, conditions, 30.0, share) for share in (0.0, 0.5, 1.0))
    torch.testing.assert_close(full.std(dim=(1, 2, 3)), positive.std(dim=(1, 2, 3)))
    torch.testing.assert_close(half, (plain + full) / 2)


class DirectedPrior(GaussianDenoiser):
    """Answers with the condition itself, a picture."""

    def denoise(self, z_noisy, sigma, condition):
        self.calls += 1
        return condition


def _picture(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, 3)


def test_perp_neg_counts_what_is_avoided_only_where_it_is_perpendicular_to_what_is_wanted() -> None:
    prior, sigma = DirectedPrior(GaussianPrior()), torch.ones(1, dtype=torch.float64)
    negative, positive = _picture(0, 0, 0), _picture(2, 0, 0)
    away = torch.stack([_picture(5, 3, 0), _picture(7, 0, 0)])  # 7 along the wanted direction counts nothing
    weights = torch.tensor([[-0.5], [-9.0]])
    conditions = Conditions(positive, negative, tuple(zip(away, weights, strict=True)))
    found = guided_denoise(prior, negative, sigma, conditions, 10.0)
    torch.testing.assert_close(found, 10 * (_picture(2, 0, 0) - 0.5 * _picture(0, 3, 0)))
    assert prior.calls == 1


def test_the_perpendicular_of_no_axis_is_the_vector_itself() -> None:
    torch.testing.assert_close(perpendicular(_picture(1, 2, 3), _picture(0, 0, 0)), _picture(1, 2, 3))


# What is said of a view


def _views(azimuths: list[float], elevation: float = 10.0):
    same = torch.ones(len(azimuths))
    return make_views(torch.tensor(azimuths), elevation * same, 2 * same, 50 * same, 8, 8)


def test_words_are_blended_linearly_between_front_side_and_back() -> None:
    near, far, share = blended_views(_views([0.0, 45.0, 90.0, -135.0, 180.0]))
    assert list(zip(near, far, strict=True)) == [("front", "side")] * 3 + [("side", "back")] * 2
    torch.testing.assert_close(share, torch.tensor([1.0, 0.5, 0.0, 0.5, 0.0]))
    assert blended_views(_views([45.0], elevation=70.0))[0] == ["overhead"]


def test_perp_neg_avoids_the_side_at_the_front_and_the_front_at_the_back() -> None:
    first, second, weights = opposed_views(_views([0.0, 180.0]))
    assert (first, second) == (["front", "side"], ["side", "front"])
    assert bool((weights <= 0).all())
    assert weights[1, 0] < -1 < -0.01 < weights[0, 0]  # at the front: away from the side, not from the front
    assert weights[1, 1] < -1  # at the back: away from the front
    nothing = opposed_views(_views([30.0], elevation=80.0))[2]
    torch.testing.assert_close(nothing, torch.zeros(2, 1))


class WordPrior(GaussianDenoiser):
    """Embeds a prompt as the number of its letters."""

    def embed(self, prompts, views):
        self.asked = getattr(self, "asked", set()) | set(prompts)
        return torch.tensor([[float(len(prompt))] for prompt in prompts])


@pytest.mark.parametrize("kind", ["words", "interpolated", "perp-neg"])
def test_a_run_asks_for_no_prompt_that_was_not_announced(kind) -> None:
    prior, views = WordPrior(GaussianPrior()), _views([0.0, 60.0, 100.0, 170.0])
    for elevation in (10.0, 70.0):
        described = describe(prior, _views([0.0, 60.0, 100.0, 170.0], elevation), "a corgi", "bad", kind)
        assert described.positive.shape == described.negative.shape == (4, 1)
    assert prior.asked <= set(every_prompt("a corgi", "bad"))
    assert describe(prior, views, "a corgi", None, "words").negative is None


def test_interpolated_conditions_are_mixtures_of_embeddings() -> None:
    described = describe(WordPrior(GaussianPrior()), _views([45.0]), "x", "", "interpolated")
    expected = (len("x, front view") + len("x, side view")) / 2
    assert described.positive.item() == expected


def test_the_sigma_weighting_is_that_of_lucid_dreamer() -> None:
    prior, z, conditions, _ = _case()
    uniform, by_sigma = (
        ISM(weighting=kind).grad(prior, z, SIGMAS, conditions, torch.Generator().manual_seed(1))
        for kind in ("uniform", "sigma")
    )
    torch.testing.assert_close(by_sigma, SIGMAS[:, None, None, None] * uniform)
