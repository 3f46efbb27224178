"""What changes over a run: the noise levels that are visited and how hard the loss gradient is clipped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput


@dataclass(frozen=True)
class Times:
    """Diffusion times, as fractions of the training schedule. Defaults: the official code (method.md 3.1)."""

    early: tuple[float, float] = (0.02, 0.98)
    """Least and greatest time up to `switch_step`."""
    late: tuple[float, float] = (0.02, 0.55)
    """Least and greatest time after it."""
    switch_step: int = 500
    """The last step with early times."""

    def __post_init__(self) -> None:
        """Check that the ranges are in order."""
        for name in ("early", "late"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise InvalidInput(f"times.{name}: ({low}, {high}), expected 0 < low <= high <= 1.")

    def draw(self, step: int, count: int, generator: torch.Generator) -> Tensor:
        """Times [count] for one step, uniform and independent per image, as the official code draws them."""
        low, high = self.early if step <= self.switch_step else self.late
        return low + (high - low) * torch.rand(count, generator=generator)


@dataclass(frozen=True)
class GradientClip:
    """Elementwise limit on the loss gradient, growing linearly. Defaults: the official code (method.md 3.1, 8)."""

    first: float = 1.5
    """Limit at step 0."""
    last: float = 2.0
    """Limit from `steps` on."""
    steps: int = 1000
    """Steps over which the limit grows."""

    def apply(self, gradient: Tensor, step: int) -> Tensor:
        """The gradient without non-finite numbers (set to 0), cut to the limit at this step; any shape."""
        limit = self.first + (self.last - self.first) * min(step / self.steps, 1.0)
        return gradient.nan_to_num(0.0, 0.0, 0.0).clamp(-limit, limit)
