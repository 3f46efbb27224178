"""Score Distillation Sampling (DreamFusion, Poole et al. 2022, eq. 3; GaussianDreamer, eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, assert_never

from dreamsplat.guidance.base import AbstractLoss, LossState, check_guidance, guided_denoise
from dreamsplat.maths.noise import normal_like
from dreamsplat.maths.ranges import check_choice

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat.guidance.conditions import Conditions
    from dreamsplat.priors2d.base import AbstractImagePrior

Weighting = Literal["sds", "uniform", "fantasia3d", "sigma"]
"""w(t): 1 - abar; 1; sqrt(abar) (1 - abar); sqrt((1 - abar) / abar), as LucidDreamer's code."""


def weight(weighting: Weighting, sigma: Tensor) -> Tensor:
    """w(t) [C] of noise levels sigma [C], with 1 - abar = sigma^2 / (1 + sigma^2)."""
    one_minus_abar = sigma**2 / (1 + sigma**2)
    match weighting:
        case "sds":
            return one_minus_abar
        case "uniform":
            return sigma.new_ones(sigma.shape)
        case "fantasia3d":
            return (1 - one_minus_abar).sqrt() * one_minus_abar
        case "sigma":
            return sigma
        case _:
            assert_never(weighting)


@dataclass(frozen=True)
class SDS(AbstractLoss):
    """g = w(t) (eps_hat - eps): the prediction's error in the noise, pushed straight into the image."""

    guidance_scale: float = 100.0
    """Classifier-free guidance scale s. The paper's 100 is s = 101 in this, the usual, form."""
    weighting: Weighting = "sds"
    """Weight of a noise level."""
    rescale: float = 0.0
    """Share of the estimate, 0 to 1, whose contrast is brought back to that without guidance (Lin et al. 2023)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_guidance(self.guidance_scale, self.rescale)
        check_choice("loss.weighting", self.weighting, Weighting)

    @property
    def needs_negative(self) -> bool:
        """At a scale of 1 the negative estimate cancels."""
        return self.guidance_scale != 1

    def grad(
        self,
        prior: AbstractImagePrior,
        z: Tensor,
        sigma: Tensor,
        conditions: Conditions,
        generator: torch.Generator,
        state: LossState = None,
    ) -> Tensor:
        """See `AbstractLoss.grad`. Since eps_hat - eps = (z - D) / sigma, the noise itself drops out."""
        s = sigma[:, None, None, None]
        noise = normal_like(z, generator)
        estimate = guided_denoise(prior, z + s * noise, sigma, conditions, self.guidance_scale, self.rescale)
        return weight(self.weighting, s) * (z - estimate) / s
