"""Settings of a teacher without a network, the optimal denoiser of procedural pictures, to measure the method itself.

It is never a default; `perfect_model` says how it works.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamsplat.maths.ranges import check_ranges
from dreamsplat.priors2d.base import AbstractImagePrior, AbstractImagePriorSpec
from dreamsplat.priors2d.bundled import check_render_size, check_world_run

if TYPE_CHECKING:
    import torch

    from dreamsplat.config import DreamConfig


@dataclass(frozen=True)
class PerfectTeacher(AbstractImagePriorSpec):
    """Settings of the perfect teacher."""

    instances: int = 32
    """Procedural objects K per caption."""
    resolution: int = 64
    """Height and width of its pictures, px."""
    seed: int = 1_000_003
    """Seed of its objects."""

    def __post_init__(self) -> None:
        check_ranges(self, "prior2d.", instances=(1, 10_000), resolution=(1, 8192), seed=(0, 2**63 - 1))

    def check(self, config: DreamConfig) -> None:
        """See `AbstractImagePriorSpec.check`."""
        check_world_run(config)
        check_render_size(config.render_size, self.resolution)

    def load(self, device: torch.device) -> AbstractImagePrior:
        """The teacher; it works on the CPU, where its pictures are drawn."""
        from dreamsplat.priors2d.perfect_model import Perfect

        return Perfect(self)
