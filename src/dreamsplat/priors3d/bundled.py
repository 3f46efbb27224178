"""The 3D diffusion model that ships with the package: captions of the bundled world -> coarse coloured clouds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from dreamsplat.errors import InvalidInput
from dreamsplat.priors3d.base import AbstractCloudPrior, AbstractCloudPriorSpec
from dreamsplat.types import PointCloud
from dreamsplat.world.bundle import VOLUME_WEIGHTS, read_volume_model
from dreamsplat.world.language.captions import parse_caption
from dreamsplat.world.nets.sampling import sample_cloud
from dreamsplat.world.nets.shape_code import ShapeCode
from dreamsplat.world.nets.shape_denoiser import ShapeDenoiser


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

    def load(self, device: torch.device) -> AbstractCloudPrior:
        """The model on a device.

        Raises:
            InvalidInput: if a setting is out of range.
        """
        if not (1 <= self.points <= 10_000_000 and 1 <= self.sampling_steps <= 1000):
            raise InvalidInput(
                f"prior3d: points {self.points}, sampling-steps {self.sampling_steps}; "
                "expected 1 to 10000000 and 1 to 1000."
            )
        model, code = read_volume_model(self.weights or VOLUME_WEIGHTS)
        return _Bundled(self, model.to(device), code, device)


class _Bundled(AbstractCloudPrior):
    def __init__(self, spec: BundledCloudPrior, model: ShapeDenoiser, code: ShapeCode, device: torch.device) -> None:
        self.spec, self.model, self.code, self.device = spec, model, code, device

    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        spec = self.spec
        cloud = sample_cloud(
            self.model,
            self.code,
            parse_caption(prompt),
            spec.points,
            generator,
            spec.guidance_scale,
            spec.sampling_steps,
        )
        if len(cloud) == 0:
            raise InvalidInput(f"prior3d: the 3D model found no surface for '{prompt}'. Try another seed.")
        return cloud.to(self.device)
