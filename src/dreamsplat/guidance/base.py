"""What all distillation losses share: the interface, classifier-free guidance and gradient clipping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsplat.priors2d.base import AbstractImagePrior


@dataclass(frozen=True)
class Conditions:
    """What the 2D prior is told about each of C views."""

    positive: Tensor
    """[C, ...] the prompt (with its view)."""
    negative: Tensor | None
    """[C, ...] the empty or negative prompt that guidance moves away from; a scale of 1 needs none."""


def guided_denoise(
    prior: AbstractImagePrior,
    z_noisy: Tensor,  # [C, c, h, w]
    sigma: Tensor,  # [C]
    conditions: Conditions,
    guidance_scale: float,
) -> Tensor:
    """Classifier-free guidance D = D_neg + s (D_pos - D_neg) [C, c, h, w], with one network call on 2 C samples.

    Ho & Salimans 2022, eq. 6, in terms of the clean estimate. At s = 1 the negative branch cancels and is not run.
    """
    if guidance_scale == 1:
        return prior.denoise(z_noisy, sigma, conditions.positive)
    assert conditions.negative is not None, f"guidance scale {guidance_scale} needs a negative condition"
    both = torch.cat([conditions.positive, conditions.negative])
    positive, negative = prior.denoise(torch.cat([z_noisy, z_noisy]), torch.cat([sigma, sigma]), both).chunk(2)
    return negative + guidance_scale * (positive - negative)


class AbstractLoss(ABC):
    """A distillation loss: settings only; turns one noisy prediction into a gradient on the clean sample."""

    guidance_scale: float
    """Classifier-free guidance scale; at 1 only the positive condition is needed."""

    @abstractmethod
    def grad(
        self,
        prior: AbstractImagePrior,
        z: Tensor,  # [C, c, h, w] clean samples of the renderings, no graph needed
        sigma: Tensor,  # [C] noise levels
        conditions: Conditions,
        generator: torch.Generator,
    ) -> Tensor:
        """The gradient [C, c, h, w] of the loss with respect to z, per sample, without a graph."""
