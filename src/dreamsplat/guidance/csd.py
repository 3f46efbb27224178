"""Classifier Score Distillation (Yu et al. 2023, "Text-to-3D with classifier score distillation", eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamsplat.guidance.base import AbstractLoss, LossState, check_guidance, estimates
from dreamsplat.guidance.sds import Weighting, weight
from dreamsplat.maths.noise import normal_like
from dreamsplat.maths.ranges import check_choice

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat.guidance.conditions import Conditions
    from dreamsplat.priors2d.base import AbstractImagePrior


@dataclass(frozen=True)
class CSD(AbstractLoss):
    """g = w(t) s (eps(y) - eps(negative)): what makes the picture more like the prompt than like the negative one.

    It is what SDS becomes, divided by s, as the guidance scale s grows: the pull towards any likely picture goes.
    """

    guidance_scale: float = 100.0
    """The factor s; it decides only how hard the gradient's limit cuts, since Adam forgets the size of gradients."""
    weighting: Weighting = "sds"
    """Weight of a noise level."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_guidance(self.guidance_scale)
        check_choice("loss.weighting", self.weighting, Weighting)

    @property
    def needs_negative(self) -> bool:
        """Always: it is the difference of two estimates."""
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
        """See `AbstractLoss.grad`."""
        s = sigma[:, None, None, None]
        z_noisy = z + s * normal_like(z, generator)
        _, _, direction = estimates(prior, z_noisy, sigma, conditions)
        return -weight(self.weighting, s) * self.guidance_scale * direction / s
