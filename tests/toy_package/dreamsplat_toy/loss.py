"""A loss: straight to the model's estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import AbstractLoss, Conditions, LossState
from dreamsplat.priors2d import AbstractImagePrior

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Tug(AbstractLoss):
    """g = s (z - D(z + sigma n; sigma, y)): as strong at every noise level."""

    strength: float = 1.0
    """The factor s, > 0."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not self.strength > 0:
            raise InvalidInput(f"{self.strength}, expected above 0.", setting="loss.strength")

    @property
    def needs_negative(self) -> bool:
        """It asks about the prompt alone."""
        return False

    def grad(
        self,
        prior: AbstractImagePrior,
        z: Tensor,
        sigma: Tensor,
        conditions: Conditions,
        generator: torch.Generator,
        state: LossState = None,
    ) -> Tensor:
        """See `AbstractLoss.grad`."""
        import torch

        noise = torch.randn(z.shape, generator=generator).to(z)
        noisy = z + sigma[:, None, None, None] * noise
        return self.strength * (z - prior.denoise(noisy, sigma, conditions.positive))
