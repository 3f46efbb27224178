"""Settings of the 3D diffusion model that ships with the package: captions of the bundled world to coloured clouds."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from dreamsplat.errors import FileProblem
from dreamsplat.hub.digests import file_sources
from dreamsplat.maths.ranges import check_ranges
from dreamsplat.priors3d.base import AbstractCloudPrior, AbstractCloudPriorSpec
from dreamsplat.world.header import VOLUME_WEIGHTS, read_sizes
from dreamsplat.world.language.captions import parse_caption

if TYPE_CHECKING:
    import torch

    from dreamsplat.config import DreamConfig


@dataclass(frozen=True)
class BundledCloudPrior(AbstractCloudPriorSpec):
    """Settings of the bundled 3D model."""

    points: int = 4096
    """Points of the cloud."""
    guidance_scale: float = 2.0
    """Classifier-free guidance scale of the sampler."""
    sampling_steps: int = 32
    """Heun steps of the sampler."""
    weights: Path | None = None
    """A weights file of `dreamsplat train-world volume`; None takes the one in the package."""

    def __post_init__(self) -> None:
        check_ranges(self, "prior3d.", points=(1, 10**7), guidance_scale=(0, inf), sampling_steps=(1, 1000))

    def check(self, config: DreamConfig) -> None:
        """See `AbstractCloudPriorSpec.check`."""
        parse_caption(config.prompt)
        if "latent" not in read_sizes(self._weights):
            raise FileProblem(f"{self.weights}: not the weights of a 3D model.", setting="prior3d.weights")

    def load(self, device: torch.device) -> AbstractCloudPrior:
        """The model on a device."""
        from dreamsplat.priors3d.bundled_model import Bundled
        from dreamsplat.world.bundle import read_volume_model

        model, code = read_volume_model(self._weights)
        return Bundled(self, model.to(device), code, device)

    def sources(self) -> dict[str, str]:
        """See `AbstractCloudPriorSpec.sources`."""
        return file_sources(self._weights)

    @property
    def _weights(self) -> Path:
        return self.weights or VOLUME_WEIGHTS
