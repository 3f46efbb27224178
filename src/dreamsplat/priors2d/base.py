"""What score distillation asks of a 2D diffusion model: one noise coordinate, sigma, and one question, denoise.

Every model, however it was trained, is wrapped as an optimal-denoiser estimate D(z + sigma n; sigma, condition) of a
clean image z (Karras et al. 2022, eq. 2-3). Timesteps, epsilon- and v-prediction end in the wrappers; the losses in
`guidance` know only sigma. A time t in [0, 1] is the fraction of the training schedule that the paper's step numbers
are given in: t = 0.98 is step 980 of 1,000.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from dreamsplat.types import Rendering, Views

STEPS = 1000
BETA_FIRST, BETA_LAST = 0.00085, 0.012
"""Stable Diffusion's "scaled linear" schedule, which the paper's timesteps refer to (method.md 3.1)."""


def sigma_of_time(t: Tensor) -> Tensor:
    """Noise level sigma = sqrt((1 - abar) / abar) [C] of times t [C] in [0, 1] on Stable Diffusion's schedule.

    Between the schedule's steps abar is interpolated linearly in its logarithm.
    """
    betas = torch.linspace(BETA_FIRST**0.5, BETA_LAST**0.5, STEPS, dtype=torch.float64) ** 2
    log_abar = (1 - betas).log().cumsum(0)
    position = (t.double() * STEPS).clamp(0, STEPS - 1)
    low = position.floor().long().clamp_max(STEPS - 2)
    abar = torch.lerp(log_abar[low], log_abar[low + 1], position - low).exp()
    return ((1 - abar) / abar).sqrt().to(t.dtype)


class AbstractImagePrior(ABC):
    """A 2D diffusion model as score distillation sees it. Letters: C images; c, h, w its latent (or pixel) shape."""

    resolution: int
    """Height and width of the renderings that `encode` expects, px."""

    @abstractmethod
    def encode(self, rendering: Rendering) -> Tensor:
        """The clean sample z [C, c, h, w] of renderings, differentiable."""

    @abstractmethod
    def embed(self, prompts: list[str], views: Views) -> Tensor:
        """Conditions [C, ...] for one prompt per view; "" asks for the unconditional estimate."""

    @abstractmethod
    def denoise(
        self,
        z_noisy: Tensor,  # [C, c, h, w]
        sigma: Tensor,  # [C]
        condition: Tensor,  # [C, ...]
    ) -> Tensor:
        """The clean estimate D [C, c, h, w]: one evaluation of the network, no gradient."""
