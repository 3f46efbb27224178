"""A 2D prior in closed form: Gaussian images, for which every loss can be checked against algebra. It ships no weights.

For p(z) = N(mu, s^2) the optimal denoiser is D = (s^2 x + sigma^2 mu) / (s^2 + sigma^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsplat.priors2d import AbstractImagePrior, AbstractImagePriorSpec, AbstractParticles
from dreamsplat.types import Rendering, Views


@dataclass(frozen=True)
class GaussianPrior(AbstractImagePriorSpec):
    """Settings: the mean colour and alpha of all pixels, and their spread."""

    mean: float = 0.8
    spread: float = 0.5
    resolution: int = 16
    unconditional_mean: float = 0.0

    def load(self, device: torch.device) -> AbstractImagePrior:
        return GaussianDenoiser(self)


class GaussianDenoiser(AbstractImagePrior):
    """Conditions are the mean mu [C, 1, 1, 1] itself: one mean for any prompt, another for the empty one."""

    def __init__(self, spec: GaussianPrior) -> None:
        self.spec = spec
        self.resolution = spec.resolution
        self.calls = 0

    def encode(self, rendering: Rendering, progress: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        return torch.cat([rendering.rgb, rendering.alpha[..., None]], dim=-1).permute(0, 3, 1, 2)

    def embed(self, prompts: list[str], views: Views) -> Tensor:
        means = [self.spec.mean if prompt else self.spec.unconditional_mean for prompt in prompts]
        return torch.tensor(means)[:, None, None, None]

    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        self.calls += 1
        s, variance = sigma[:, None, None, None], self.spec.spread**2
        return (variance * z_noisy + s**2 * condition.to(z_noisy)) / (variance + s**2)


class SecondNetwork(AbstractParticles):
    """VSD's second network at its smallest: one learned mean, and how often it has learned."""

    def __init__(self) -> None:
        self.mean, self.updates = torch.zeros(()), torch.tensor(0)

    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        return 0.5 * z_noisy + 0.5 * self.mean

    def learn(self, z: Tensor, sigma: Tensor, condition: Tensor, generator: torch.Generator) -> float:
        drawn = torch.rand((), generator=generator)
        self.mean, self.updates = self.mean + 0.1 * drawn * (z.mean() - self.mean), self.updates + 1
        return 0.0

    def state_tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "updates": self.updates}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        self.mean, self.updates = tensors["mean"], tensors["updates"]


class LearningPrior(GaussianPrior):
    """A prior that VSD can use."""

    def load(self, device: torch.device) -> AbstractImagePrior:
        prior = GaussianDenoiser(self)
        prior.particles = lambda rank, learning_rate: SecondNetwork()  # type: ignore[method-assign]
        return prior
