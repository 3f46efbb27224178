"""A distillation loss of one's own: a frozen dataclass with one method. docs/extending.md makes it a package.

python examples/04_a_loss_of_your_own.py --steps 30
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import dreamsplat
from dreamsplat.guidance import AbstractLoss, Conditions, LossState, guided_denoise
from dreamsplat.priors2d import AbstractImagePrior


@dataclass(frozen=True)
class Tug(AbstractLoss):
    """The clean picture is pulled straight towards the estimate, whatever the noise level."""

    strength: float = 1.0
    """Length of the pull."""
    guidance_scale: float = 2.0
    """Classifier-free guidance scale."""

    @property
    def needs_negative(self) -> bool:
        """Guidance at a scale of 1 needs no negative prompt."""
        return self.guidance_scale != 1

    def grad(
        self,
        prior: AbstractImagePrior,
        z: Tensor,
        sigma: Tensor,
        conditions: Conditions,
        generator: torch.Generator,
        state: LossState = None,
    ) -> Tensor:
        """G = strength (z - D(z + sigma n))."""
        noise = torch.randn(z.shape, generator=generator).to(z)
        estimate = guided_denoise(prior, z + sigma[:, None, None, None] * noise, sigma, conditions, self.guidance_scale)
        return self.strength * (z - estimate)


parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()

config = replace(dreamsplat.PRESETS["bundled"], prompt="a blue teapot", steps=args.steps, loss=Tug(strength=0.5))
dreamsplat.save(dreamsplat.dream(config), "teapot.ply")
