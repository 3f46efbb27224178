"""A UNet trained on timesteps, seen as D(z + sigma n; sigma): the only place where sigma and timesteps meet.

Stable Diffusion was trained on x_t = alpha z + sqrt(1 - alpha^2) n with alpha^2 = abar_t. Dividing by alpha gives the
form of the rest of this package, z_noisy = z + sigma n with sigma^2 = (1 - abar_t) / abar_t, hence
alpha = 1 / sqrt(1 + sigma^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Prediction = Literal["epsilon", "v_prediction"]
"""What a network returns: the noise n, or the velocity v = alpha n - sqrt(1 - alpha^2) z (Salimans & Ho 2022)."""


@dataclass(frozen=True)
class Schedule:
    """The noise levels of a checkpoint's training, and what its network predicts."""

    log_sigmas: Tensor
    """[T] logarithms of sigma at the timesteps 0 to T - 1, float64, increasing, on the CPU."""
    prediction: Prediction
    """What the network returns."""

    @classmethod
    def of_alphas_cumprod(cls, alphas_cumprod: Tensor, prediction: Prediction) -> Schedule:
        """From abar [T]; steps of pure noise (abar = 0), at which sigma is infinite, are omitted."""
        abar = alphas_cumprod.double()
        abar = abar[abar > 0]
        return cls(((1 - abar) / abar).log() / 2, prediction)

    def timestep(self, sigma: Tensor) -> Tensor:
        """Timesteps [C] of noise levels [C], with fractions, interpolated in log sigma; clamped to the schedule."""
        log_sigma, levels = sigma.double().log(), self.log_sigmas.to(sigma.device)
        low = torch.searchsorted(levels, log_sigma, right=True).sub(1).clamp(0, len(levels) - 2)
        share = (log_sigma - levels[low]) / (levels[low + 1] - levels[low])
        return (low + share.clamp(0, 1)).to(sigma)

    def clean(self, z_noisy: Tensor, sigma: Tensor, output: Tensor) -> Tensor:
        """The clean estimate D [C, c, h, w] that a network's output [C, c, h, w] stands for, at sigma [C]."""
        s = sigma[:, None, None, None]
        if self.prediction == "epsilon":
            return z_noisy - s * output
        alpha = (1 + s**2).rsqrt()
        return alpha**2 * z_noisy - s * alpha * output

    def target(self, z: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """The exact output [C, c, h, w] for clean samples z and noise n, at sigma [C]."""
        if self.prediction == "epsilon":
            return noise
        s = sigma[:, None, None, None]
        return (noise - s * z) * (1 + s**2).rsqrt()


class LatentNetwork:
    """A UNet of diffusers with its schedule. Inputs and outputs are float32; the network has its own precision."""

    def __init__(self, unet: nn.Module, schedule: Schedule, resolution: int, pooled_width: int = 0) -> None:
        """Wrap a UNet2DConditionModel; only one of XL sees the resolution, px, and a pooled text, else of width 0."""
        self.unet = unet
        self.schedule = schedule
        self.resolution = resolution
        self.pooled_width = pooled_width
        self.dtype = next(unet.parameters()).dtype

    @torch.no_grad()
    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """See `AbstractImagePrior.denoise`."""
        z_noisy = z_noisy.float()
        return self.schedule.clean(z_noisy, sigma, self.output(z_noisy, sigma, condition))

    def output(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """What the network returns [C, c, h, w] for z_noisy [C, c, h, w], sigma [C] and condition [C, L, width]."""
        x = z_noisy * (1 + sigma**2).rsqrt()[:, None, None, None]
        extra = {}
        if self.pooled_width:
            # The last row is the pooled embedding (see `text`); then size, crop and target size (Podell et al. 2023,
            # section 2.2): a picture that was never cropped.
            condition, pooled = condition[:, :-1], condition[:, -1, : self.pooled_width]
            sizes = torch.tensor([self.resolution, self.resolution, 0, 0, self.resolution, self.resolution])
            time_ids = sizes.to(z_noisy).expand(len(z_noisy), -1)
            extra["added_cond_kwargs"] = {"text_embeds": pooled.to(self.dtype), "time_ids": time_ids}
        timestep = self.schedule.timestep(sigma)
        text = condition.to(self.dtype)
        return self.unet(x.to(self.dtype), timestep, encoder_hidden_states=text, **extra).sample.float()
