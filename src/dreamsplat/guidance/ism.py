"""Interval Score Matching (LucidDreamer, Liang et al. 2023, "Towards high-fidelity text-to-3D...", eq. 13)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

from dreamsplat.guidance.base import AbstractLoss, LossState, check_guidance, guided_denoise
from dreamsplat.guidance.sds import Weighting, weight
from dreamsplat.maths.noise import normal_like
from dreamsplat.maths.ranges import check_choice, check_range
from dreamsplat.method.noise_levels import sigma_of_time, time_of_sigma

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat.guidance.conditions import Conditions
    from dreamsplat.priors2d.base import AbstractImagePrior


@dataclass(frozen=True)
class ISM(AbstractLoss):
    """g = w(t) (eps(x_t; t, y) - eps(x_s; s, negative)), where x_s and x_t come from the picture by DDIM inversion.

    Instead of fresh noise, the noise that the network itself sees in the picture leads up to s and on to t, so the
    target does not change from step to step. Inversion without guidance is an Euler step of the probability-flow
    equation dx = eps dsigma, which in the noise level sigma needs no schedule.
    """

    guidance_scale: float = 7.5
    """Classifier-free guidance scale of the estimate at t."""
    interval: float = 0.08
    """Time from s to t, as a fraction of the schedule. LucidDreamer: 0.1, falling to 0.05 or 0.08."""
    stride: float = 0.2
    """Longest step of the inversion up to s, as a fraction of the schedule. LucidDreamer: 0.2."""
    strides: int = 5
    """Most steps of the inversion; where they do not reach down to 0, it starts from added noise. LucidDreamer: 5."""
    weighting: Weighting = "sigma"
    """Weight of a noise level."""
    rescale: float = 0.0
    """Share of the estimate, 0 to 1, whose contrast is brought back to that without guidance (Lin et al. 2023)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_guidance(self.guidance_scale, self.rescale)
        check_choice("loss.weighting", self.weighting, Weighting)
        check_range("loss.interval", self.interval, 0, 1, above=True)
        check_range("loss.stride", self.stride, 0, 1, above=True)
        check_range("loss.strides", self.strides, 1, 1000)

    @property
    def needs_negative(self) -> bool:
        """Always: it is the inversion's only condition."""
        return True

    def grad(
        self,
        prior: AbstractImagePrior,
        z: Tensor,
        sigma: Tensor,
        conditions: Conditions,
        generator: torch.Generator,
        state: LossState = None,
    ) -> Tensor:
        """See `AbstractLoss.grad`. About 2 + ceil(s / stride) network calls."""
        assert conditions.negative is not None, "ISM needs a negative condition"
        time_s = (time_of_sigma(sigma) - self.interval).clamp_min(0)
        start = (time_s - self.strides * self.stride).clamp_min(0)
        steps = min(self.strides, max(1, ceil(float((time_s - start).max()) / self.stride)))
        levels = [sigma_of_time(start.lerp(time_s, k / steps)).to(z) for k in range(steps + 1)]
        x = z + levels[0][:, None, None, None] * normal_like(z, generator)
        predicted = _noise(x, prior.denoise(x, levels[0], conditions.negative), levels[0])
        for level, following in pairwise(levels):
            x = x + (following - level)[:, None, None, None] * predicted
            predicted = _noise(x, prior.denoise(x, following, conditions.negative), following)
        x = x + (sigma - levels[-1])[:, None, None, None] * predicted
        guided = guided_denoise(prior, x, sigma, conditions, self.guidance_scale, self.rescale)
        return weight(self.weighting, sigma[:, None, None, None]) * (_noise(x, guided, sigma) - predicted)


def _noise(
    x: Tensor,  # [C, c, h, w] noisy
    estimate: Tensor,  # [C, c, h, w] clean
    sigma: Tensor,  # [C]
) -> Tensor:
    """The noise eps [C, c, h, w] that the estimate takes for what was added."""
    return (x - estimate) / sigma[:, None, None, None]
