"""No 3D prior: grey points that fill a ball, from which DreamFusion and SJC start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamsplat.maths.ranges import check_ranges
from dreamsplat.priors3d.base import AbstractCloudPrior, AbstractCloudPriorSpec

if TYPE_CHECKING:
    import torch

    from dreamsplat.types import PointCloud


@dataclass(frozen=True)
class GreyBall(AbstractCloudPriorSpec):
    """A grey ball in place of a 3D diffusion model, whatever the prompt."""

    points: int = 4096
    """Points in it."""
    radius: float = 0.5
    """Of the ball, in the units of the cloud."""

    def __post_init__(self) -> None:
        check_ranges(self, "prior3d.", points=(1, 10**7), radius=(0, 1e6, True))

    def load(self, device: torch.device) -> AbstractCloudPrior:
        """Nothing to load."""
        return _Grey(self, device)


class _Grey(AbstractCloudPrior):
    """The ball as the method sees it."""

    def __init__(self, spec: GreyBall, device: torch.device) -> None:
        self.spec, self.device = spec, device

    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        """See `AbstractCloudPrior.sample`: points uniformly in the ball."""
        import torch

        from dreamsplat.types import PointCloud

        outward = torch.nn.functional.normalize(torch.randn(self.spec.points, 3, generator=generator), dim=1)
        height = torch.rand(self.spec.points, 1, generator=generator) ** (1 / 3)
        xyz = self.spec.radius * height * outward
        return PointCloud(xyz, torch.full_like(xyz, 0.5)).to(self.device)
