"""A 2D prior in closed form: Gaussian images, for which every loss can be checked against algebra.

For p(z) = N(mu, s^2) the optimal denoiser is D = (s^2 x + sigma^2 mu) / (s^2 + sigma^2).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsplat.priors2d import AbstractImagePrior, AbstractImagePriorSpec, AbstractSecondNetwork
from dreamsplat.types import Rendering, Views


@dataclass(frozen=True)
class GaussianPrior(AbstractImagePriorSpec):
    """Settings: the mean colour and alpha of all pixels, and their spread."""

    mean: float = 0.8
    """mu for any prompt."""
    spread: float = 0.5
    """s."""
    resolution: int = 16
    """Height and width of its pictures, px."""
    unconditional_mean: float = 0.0
    """mu for the empty prompt."""

    def load(self, device: torch.device) -> AbstractImagePrior:
        """The denoiser; it works on any device."""
        return GaussianDenoiser(self)

    def check_second_network(self) -> None:
        """It has a second denoiser."""


class GaussianDenoiser(AbstractImagePrior):
    """Conditions are the means mu [C, 1, 1, 1] themselves."""

    def __init__(self, spec: GaussianPrior) -> None:
        self.spec = spec
        self.resolution = spec.resolution
        self.calls = 0

    def encode(self, rendering: Rendering, progress: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Colour and alpha [C, 4, H, W]."""
        return torch.cat([rendering.rgb, rendering.alpha[..., None]], dim=-1).permute(0, 3, 1, 2)

    def embed(self, prompts: list[str], views: Views) -> Tensor:
        """See `AbstractImagePrior.embed`."""
        means = [self.spec.mean if prompt else self.spec.unconditional_mean for prompt in prompts]
        return torch.tensor(means)[:, None, None, None]

    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """See `AbstractImagePrior.denoise`."""
        self.calls += 1
        return _optimal(z_noisy, sigma, condition.to(z_noisy), self.spec.spread)

    def second_network(self, rank: int, learning_rate: float) -> AbstractSecondNetwork:
        """A second denoiser, which learns the mean of the renderings."""
        return LearnedMean(self.spec.spread)


class LearnedMean(AbstractSecondNetwork):
    """The distribution of the renderings as a Gaussian of known spread, whose mean follows them."""

    def __init__(self, spread: float) -> None:
        self.spread, self.mean = spread, torch.zeros(())

    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """See `AbstractSecondNetwork.denoise`."""
        return _optimal(z_noisy, sigma, self.mean.to(z_noisy), self.spread)

    def learn(self, z: Tensor, sigma: Tensor, condition: Tensor, generator: torch.Generator) -> float:
        """Go a tenth of the way to the mean of z."""
        error = z.mean() - self.mean
        self.mean = self.mean + 0.1 * error.to(self.mean)
        return float(error**2)

    def state_tensors(self) -> dict[str, Tensor]:
        """The mean."""
        return {"mean": self.mean}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """See `AbstractSecondNetwork.load_state_tensors`."""
        self.mean = tensors["mean"]


def _optimal(
    z_noisy: Tensor,  # [C, c, h, w]
    sigma: Tensor,  # [C]
    mean: Tensor,  # of a shape that broadcasts to z_noisy
    spread: float,
) -> Tensor:
    s, variance = sigma[:, None, None, None], spread**2
    return (variance * z_noisy + s**2 * mean) / (variance + s**2)
