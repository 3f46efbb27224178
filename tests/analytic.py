"""The 2D prior in closed form, for tests of the losses and of whole runs."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamsplat.evaluate.closed_form import GaussianDenoiser, GaussianPrior
from dreamsplat.priors2d import AbstractImagePrior, AbstractSecondNetwork

__all__ = ["GaussianDenoiser", "GaussianPrior", "LearningPrior", "SecondNetwork"]


class SecondNetwork(AbstractSecondNetwork):
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
        prior.second_network = lambda rank, learning_rate: SecondNetwork()  # type: ignore[method-assign]
        return prior
