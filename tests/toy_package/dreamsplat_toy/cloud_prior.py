"""A 3D prior: whatever the prompt, a ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamsplat.priors3d import AbstractCloudPrior, AbstractCloudPriorSpec

if TYPE_CHECKING:
    import torch

    from dreamsplat import PointCloud


@dataclass(frozen=True)
class Ball(AbstractCloudPriorSpec):
    """Points on a dark ball."""

    points: int = 200
    """How many."""
    radius: float = 0.5
    """World units."""

    def load(self, device: torch.device) -> BallPrior:
        """A real prior reads its weights here."""
        return BallPrior(self, device)


class BallPrior(AbstractCloudPrior):
    """Draws the points."""

    def __init__(self, spec: Ball, device: torch.device) -> None:
        """Keep the settings."""
        self.spec, self.device = spec, device

    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        """Points drawn with the run's own generator, so that a seed repeats them."""
        import torch

        from dreamsplat import PointCloud

        directions = torch.nn.functional.normalize(torch.randn(self.spec.points, 3, generator=generator), dim=1)
        return PointCloud(self.spec.radius * directions, torch.full_like(directions, 0.2)).to(self.device)
