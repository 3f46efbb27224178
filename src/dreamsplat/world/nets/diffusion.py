"""The mathematics that both bundled diffusion models share: noise, preconditioning and loss.

Everything follows Karras et al. 2022 ("EDM"): data z is noised to z + sigma n, and a denoiser D(z + sigma n; sigma)
estimates z. Letters: B samples in a batch; `...` the shape of one sample.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NOISE_FEATURES = 9
"""Length of `noise_features`."""


@dataclass(frozen=True)
class Noise:
    """The scale of the data and the noise levels that training visits."""

    sigma_data: float
    """Standard deviation of the data, which fixes the preconditioning (EDM, table 1)."""
    log_sigma_mean: float
    """Mean of ln sigma in training (EDM, P_mean)."""
    log_sigma_std: float
    """Standard deviation of ln sigma in training (EDM, P_std)."""

    def draw_sigmas(self, count: int, generator: torch.Generator) -> Tensor:
        """Training noise levels [count], log-normal, stratified over the batch so that each batch covers the range."""
        strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        normal = torch.special.ndtri(strata.clamp(1e-4, 1 - 1e-4))
        return (self.log_sigma_mean + self.log_sigma_std * normal).exp()


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """[B] values reshaped to [B, 1, ...] so that they multiply `like` [B, ...]."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def precondition(
    network: Callable[[Tensor, Tensor], Tensor],
    z_noisy: Tensor,  # [B, ...]
    sigma: Tensor,  # [B]
    sigma_data: float,
) -> Tensor:
    """Clean estimate D [B, ...] from a network F of unit-variance input and output (EDM, eq. 7 and table 1).

    Args:
        network: (scaled input [B, ...], c_noise [B]) -> F [B, ...].
        z_noisy: the noisy sample.
        sigma: its noise level, > 0.
        sigma_data: standard deviation of the data.
    """
    s = broadcast(sigma, z_noisy)
    total = s**2 + sigma_data**2
    output = network(z_noisy / total.sqrt(), sigma.log() / 4)
    return sigma_data**2 / total * z_noisy + s * sigma_data / total.sqrt() * output


def denoising_loss(estimate: Tensor, clean: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """Mean squared error weighted so that every noise level counts alike: lambda(sigma) of EDM, eq. 8. Scalar."""
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    return (broadcast(weight, clean) * (estimate - clean) ** 2).mean()


def noise_features(c_noise: Tensor) -> Tensor:
    """What the networks are told of the noise: sin and cos of 2^k pi c_noise, k < 4, and itself: [B] -> [B, 9]."""
    angles = c_noise[:, None] * (math.pi * 2.0 ** torch.arange(4, device=c_noise.device))
    return torch.cat([angles.sin(), angles.cos(), c_noise[:, None]], dim=1)
