"""What changes over a run: the noise levels that are visited and how hard the loss gradient is clipped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.ranges import check_ranges

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class AbstractTimes(ABC):
    """A rule for which noise levels are visited when: a frozen dataclass."""

    @abstractmethod
    def draw(self, step: int, steps: int, count: int, generator: torch.Generator) -> Tensor:
        """Diffusion times [count], in (0, 1], for one of `steps` steps: fractions of the training schedule."""


@dataclass(frozen=True)
class Times(AbstractTimes):
    """Diffusion times, as fractions of the training schedule. Defaults: the official code."""

    early: tuple[float, float] = (0.02, 0.98)
    """Least and greatest time up to `switch_step`."""
    late: tuple[float, float] = (0.02, 0.55)
    """Least and greatest time after it."""
    switch_step: int = 500
    """The last step with early times."""

    def __post_init__(self) -> None:
        for name in ("early", "late"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise InvalidInput(f"({low}, {high}), expected 0 < low <= high <= 1.", setting=f"times.{name}")

    def draw(self, step: int, steps: int, count: int, generator: torch.Generator) -> Tensor:
        """Times [count] for one of `steps` steps, uniform and independent per image, as in the official code."""
        import torch  # Here and not above: settings are read without waiting for it.

        low, high = self.early if step <= self.switch_step else self.late
        return low + (high - low) * torch.rand(count, generator=generator)


@dataclass(frozen=True)
class AnnealedTimes(AbstractTimes):
    """Diffusion times whose greatest falls over the whole run: coarse form first, detail last, without a jump."""

    least: float = 0.02
    """Least time, always."""
    first: float = 0.98
    """Greatest time at the first step."""
    last: float = 0.3
    """Greatest time at the end."""
    curve: Literal["linear", "sqrt"] = "linear"
    """How it falls: evenly, or fast at first (HiFA, Zhu & Zhuang 2023, eq. 9)."""

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.last <= self.first <= 1:
            raise InvalidInput(
                f"least {self.least}, last {self.last}, first {self.first}, expected 0 < least <= last <= first <= 1.",
                setting="times",
            )

    def greatest(self, step: int, steps: int) -> float:
        """The greatest time at one of `steps` steps."""
        progress = step / max(steps - 1, 1)
        return self.first + (self.last - self.first) * (progress if self.curve == "linear" else progress**0.5)

    def draw(self, step: int, steps: int, count: int, generator: torch.Generator) -> Tensor:
        """Times [count] for one of `steps` steps, uniform and independent per image up to the greatest."""
        import torch

        return self.least + (self.greatest(step, steps) - self.least) * torch.rand(count, generator=generator)


@dataclass(frozen=True)
class GradientClip:
    """Elementwise limit on the loss gradient, growing linearly. Defaults: the official code."""

    first: float = 1.5
    """Limit at step 0."""
    last: float = 2.0
    """Limit once it has stopped growing."""
    steps: int = 1000
    """Steps over which the limit grows."""

    def __post_init__(self) -> None:
        check_ranges(self, "clip.", first=(0, inf, True), last=(0, inf, True), steps=(1, inf))

    def apply(self, gradient: Tensor, step: int) -> Tensor:
        """The gradient cut to the limit at this step; any shape. NaN stays NaN: `check_finite` comes before."""
        limit = self.first + (self.last - self.first) * min(step / self.steps, 1.0)
        return gradient.clamp(-limit, limit)
