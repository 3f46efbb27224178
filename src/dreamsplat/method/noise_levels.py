"""Diffusion time and noise level: Stable Diffusion's schedule, in which the paper's timesteps are given.

A time t in [0, 1] is a fraction of the training schedule: t = 0.98 is step 980 of 1,000.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 1000
BETA_FIRST, BETA_LAST = 0.00085, 0.012
"""Stable Diffusion's "scaled linear" schedule, which the paper's timesteps refer to."""


def sigma_of_time(t: Tensor) -> Tensor:
    """Noise level sigma = sqrt((1 - abar) / abar) [C] of times t [C] in [0, 1] on Stable Diffusion's schedule.

    Between the schedule's steps abar is interpolated linearly in its logarithm.
    """
    import torch  # Here and not above: settings are read without waiting for it.

    log_abar = _log_abar()
    position = (t.double() * STEPS).clamp(0, STEPS - 1)
    low = position.floor().long().clamp_max(STEPS - 2)
    abar = torch.lerp(log_abar[low], log_abar[low + 1], position - low).exp()
    return ((1 - abar) / abar).sqrt().to(t.dtype)


def time_of_sigma(sigma: Tensor) -> Tensor:
    """The time t [C] in [0, 1) of noise levels sigma [C], clamped to the schedule: the inverse of `sigma_of_time`."""
    import torch

    log_abar = _log_abar()
    wanted = -(1 + sigma.double().cpu() ** 2).log()
    high = torch.searchsorted(-log_abar, -wanted).clamp(1, STEPS - 1)
    share = (wanted - log_abar[high - 1]) / (log_abar[high] - log_abar[high - 1])
    return ((high - 1 + share.clamp(0, 1)) / STEPS).to(sigma)


def _log_abar() -> Tensor:
    import torch

    betas = torch.linspace(BETA_FIRST**0.5, BETA_LAST**0.5, STEPS, dtype=torch.float64) ** 2
    return (1 - betas).log().cumsum(0)
