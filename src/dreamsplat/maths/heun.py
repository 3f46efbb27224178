"""The sampler of Karras et al. 2022 ("EDM"): noise levels, and Heun's method along the probability-flow equation."""

from collections.abc import Callable

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(noisy [B, ...], sigma [B]) -> estimate of the clean data [B, ...]."""


def karras_sigmas(count: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Noise levels [count + 1] from `sigma_max` down to 0 (EDM, eq. 5)."""
    ramp = torch.linspace(0, 1, count)
    sigmas = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return torch.cat([sigmas, torch.zeros(1)])


def sample_heun(denoise: Denoiser, noise: Tensor, sigmas: Tensor) -> Tensor:
    """Integrate the probability-flow equation with Heun's method (EDM, algorithm 1, without churn).

    Args:
        denoise: the (guided) denoiser.
        noise: [B, ...] standard normal.
        sigmas: [S + 1] decreasing, ending in 0.

    Returns:
        [B, ...] samples.
    """
    z = noise * sigmas[0]
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
        slope = (z - denoise(z, sigma.expand(len(z)))) / sigma
        z_next = z + (sigma_next - sigma) * slope
        if sigma_next > 0:
            slope_next = (z_next - denoise(z_next, sigma_next.expand(len(z)))) / sigma_next
            z_next = z + (sigma_next - sigma) * (slope + slope_next) / 2
        z = z_next
    return z
