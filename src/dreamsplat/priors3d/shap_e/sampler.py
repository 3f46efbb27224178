"""The sampler of the official Shap-E: Karras's noise levels from 160 to 0.001, Heun's method, clipping before guidance.

shap_e/diffusion: `sample_latents` with its defaults, without churn. The network is asked at whole timesteps, and at 0
for noise below its least, 0.109: so a sample nearly reaches the middle of what the network expects, where diffusers'
sampler, which goes from 403 to 0.109 and clips after guidance, leaves most of the spread.
"""

from collections.abc import Callable

from torch import Tensor

from dreamsplat.maths.heun import Denoiser, karras_sigmas, sample_heun

SIGMA_MIN, SIGMA_MAX = 1e-3, 160.0

Estimates = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(x_t [B, ...] of unit variance, timestep) -> estimates of the clean latent without and with the condition."""


def sample(
    estimates: Estimates,
    noise: Tensor,  # [B, ...] standard normal
    alphas_cumprod: Tensor,  # [T] of the training
    guidance_scale: float,
    steps: int,
) -> Tensor:
    """Latents [B, ...] that start from this noise."""
    return sample_heun(
        guided(estimates, alphas_cumprod, guidance_scale), noise, karras_sigmas(steps, SIGMA_MIN, SIGMA_MAX)
    )


def guided(estimates: Estimates, alphas_cumprod: Tensor, guidance_scale: float) -> Denoiser:
    """The denoiser with classifier-free guidance between estimates that are clipped to [-1, 1] one by one."""

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        level = float(sigma[0])
        without, given = estimates(noisy / (level**2 + 1) ** 0.5, timestep(level, alphas_cumprod))
        without, given = without.clamp(-1, 1), given.clamp(-1, 1)
        return without + guidance_scale * (given - without)

    return denoise


def timestep(
    sigma: float,
    alphas_cumprod: Tensor,  # [T] decreasing
) -> int:
    """The timestep of a noise level, rounded down; 0 and T - 1 beyond the ends."""
    wanted = 1 / (sigma**2 + 1)
    levels = alphas_cumprod.double()
    after = int((levels > wanted).sum())  # the first timestep with at least as much noise
    if after == 0:
        return 0
    if after == len(levels):
        return len(levels) - 1
    less, more = float(levels[after - 1]), float(levels[after])
    return after - 1 + int((less - wanted) / (less - more))
