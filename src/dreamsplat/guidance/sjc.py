"""Score Jacobian Chaining (Wang et al. 2022, "perturb-and-average scoring")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamsplat.guidance.base import AbstractLoss, LossState, check_guidance, guided_denoise
from dreamsplat.maths.noise import normal_like

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat.guidance.conditions import Conditions
    from dreamsplat.priors2d.base import AbstractImagePrior


@dataclass(frozen=True)
class SJC(AbstractLoss):
    """g = -score(z + sigma n) sigma: the chain rule applied to the score of a 2D model."""

    guidance_scale: float = 100.0
    """Classifier-free guidance scale."""
    variance_reduced: bool = True
    """Measure the estimate from z, not from the noisy sample: same mean, and equal to SDS with w(t) = 1
   ."""
    rescale: float = 0.0
    """Share of the estimate, 0 to 1, whose contrast is brought back to that without guidance (Lin et al. 2023)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_guidance(self.guidance_scale, self.rescale)

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
        """See `AbstractLoss.grad`: -(D - z) / sigma, or -(D - z_noisy) / sigma without variance reduction."""
        s = sigma[:, None, None, None]
        z_noisy = z + s * normal_like(z, generator)
        estimate = guided_denoise(prior, z_noisy, sigma, conditions, self.guidance_scale, self.rescale)
        origin = z if self.variance_reduced else z_noisy
        return (origin - estimate) / s
