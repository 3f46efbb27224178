"""A 2D prior: all pictures are grey, give or take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamsplat.priors2d import AbstractImagePrior, AbstractImagePriorSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat import Rendering, Views


@dataclass(frozen=True)
class Shade(AbstractImagePriorSpec):
    """Pixels are independent, of this mean and of standard deviation 1."""

    grey: float = 0.8
    """The mean, in [0, 1]."""

    def load(self, device: torch.device) -> ShadePrior:
        """A real prior reads its weights here, and imports torch no earlier."""
        return ShadePrior(self.grey)


class ShadePrior(AbstractImagePrior):
    """The optimal denoiser of such pictures."""

    def __init__(self, grey: float) -> None:
        """It works at any resolution."""
        self.grey = grey

    def encode(self, rendering: Rendering, progress: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """z [C, 3, H, W] is the picture itself."""
        return rendering.rgb.permute(0, 3, 1, 2)

    def embed(self, prompts: list[str], views: Views) -> Tensor:
        """Conditions [C, 1]: whatever the prompt, it is grey."""
        import torch

        return torch.full((len(prompts), 1), self.grey)

    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """The posterior mean (z + sigma^2 grey) / (1 + sigma^2) [C, 3, H, W]."""
        variance = (sigma**2)[:, None, None, None]
        return (z_noisy + variance * condition[:, :, None, None].to(z_noisy)) / (1 + variance)
