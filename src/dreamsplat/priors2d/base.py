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

from dreamsplat.errors import InvalidInput
from dreamsplat.types import Rendering, Views

STEPS = 1000
BETA_FIRST, BETA_LAST = 0.00085, 0.012
"""Stable Diffusion's "scaled linear" schedule, which the paper's timesteps refer to (method.md 3.1)."""


def sigma_of_time(t: Tensor) -> Tensor:
    """Noise level sigma = sqrt((1 - abar) / abar) [C] of times t [C] in [0, 1] on Stable Diffusion's schedule.

    Between the schedule's steps abar is interpolated linearly in its logarithm.
    """
    log_abar = _log_abar()
    position = (t.double() * STEPS).clamp(0, STEPS - 1)
    low = position.floor().long().clamp_max(STEPS - 2)
    abar = torch.lerp(log_abar[low], log_abar[low + 1], position - low).exp()
    return ((1 - abar) / abar).sqrt().to(t.dtype)


def time_of_sigma(sigma: Tensor) -> Tensor:
    """The time t [C] in [0, 1) of noise levels sigma [C], clamped to the schedule: the inverse of `sigma_of_time`."""
    log_abar = _log_abar()
    wanted = -(1 + sigma.double().cpu() ** 2).log()
    high = torch.searchsorted(-log_abar, -wanted).clamp(1, STEPS - 1)
    share = (wanted - log_abar[high - 1]) / (log_abar[high] - log_abar[high - 1])
    return ((high - 1 + share.clamp(0, 1)) / STEPS).to(sigma)


def _log_abar() -> Tensor:
    betas = torch.linspace(BETA_FIRST**0.5, BETA_LAST**0.5, STEPS, dtype=torch.float64) ** 2
    return (1 - betas).log().cumsum(0)


class AbstractImagePrior(ABC):
    """A 2D diffusion model as score distillation sees it. Letters: C images; c, h, w its latent (or pixel) shape."""

    resolution: int
    """Height and width of the pictures that the model knows, px."""

    def prepare(self, prompts: list[str]) -> None:  # noqa: B027  (most priors have nothing to prepare)
        """Be ready to embed these prompts and no others. Called once, so that a text encoder may be freed."""

    @abstractmethod
    def encode(
        self,
        rendering: Rendering,  # C images
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The clean sample z [C, c, h, w] of renderings, differentiable.

        Args:
            rendering: What to encode.
            progress: Share of the run that is done, 0 to 1, for a prior that begins with a cheaper encoder.
            generator: For encoders whose sample is random; None takes the mean.

        Raises:
            InvalidInput: for renderings of a size that the prior cannot take.
        """

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

    def particles(self, rank: int, learning_rate: float) -> AbstractParticles:
        """A trainable variant of the model, for variational score distillation.

        Raises:
            InvalidInput: if this prior has none.
        """
        raise InvalidInput(
            f"loss: VSD trains a LoRA, which {type(self).__name__.strip('_')} has none of. "
            "Add prior2d:stable-diffusion, or take another loss."
        )


class AbstractParticles(ABC):
    """A 2D model that learns the distribution of the current renderings: the second network of VSD."""

    @abstractmethod
    def denoise(
        self,
        z_noisy: Tensor,  # [C, c, h, w]
        sigma: Tensor,  # [C]
        condition: Tensor,  # [C, ...]
    ) -> Tensor:
        """The clean estimate D [C, c, h, w] of the learned distribution, no gradient."""

    @abstractmethod
    def learn(
        self,
        z: Tensor,  # [C, c, h, w] clean samples of renderings
        sigma: Tensor,  # [C]
        condition: Tensor,  # [C, ...]
        generator: torch.Generator,
    ) -> float:
        """One optimiser step of denoising score matching on z; returns its loss before the step."""

    @abstractmethod
    def state_tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state, for a checkpoint."""

    @abstractmethod
    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state_tensors`."""
