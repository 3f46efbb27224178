"""The 3D diffusion model that ships with the package: captions of the bundled world -> coarse coloured clouds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from dreamsplat.noise import normal_like
from dreamsplat.errors import InvalidInput
from dreamsplat.priors3d.base import AbstractCloudPrior
from dreamsplat.types import PointCloud
from dreamsplat.world.bundle import VOLUME_WEIGHTS, read_volume_model
from dreamsplat.world.captions import Caption, parse_caption
from dreamsplat.world.conditioning import pack_words
from dreamsplat.world.diffusion import karras_sigmas, sample_heun
from dreamsplat.world.volume_model import VolumeDenoiser
from dreamsplat.world.volumes import VolumeCode, surface_cloud


@dataclass(frozen=True)
class BundledCloudPrior:
    """Settings of the bundled 3D model."""

    points: int = 4096
    """Points of the cloud."""
    guidance_scale: float = 2.0
    """Classifier-free guidance scale of the sampler."""
    sampling_steps: int = 32
    """Heun steps of the sampler."""
    weights: Path = VOLUME_WEIGHTS
    """The weights file."""

    def load(self, device: torch.device) -> AbstractCloudPrior:
        """The model on a device."""
        model, code = read_volume_model(self.weights)
        return _Bundled(self, model.to(device), code, device)


class _Bundled(AbstractCloudPrior):
    def __init__(self, spec: BundledCloudPrior, model: VolumeDenoiser, code: VolumeCode, device: torch.device) -> None:
        self.spec, self.model, self.code, self.device = spec, model, code, device

    @torch.no_grad()
    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        caption = parse_caption(prompt)
        conditions = pack_words([Caption(caption.colour, caption.category), Caption()]).to(self.device)
        scale = self.spec.guidance_scale

        def denoise(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            text, null = self.model(z.expand(2, -1), sigma.expand(2), conditions).chunk(2)
            return null + scale * (text - null)

        noise = normal_like(torch.empty(1, self.model.config.latent, device=self.device), generator)
        latent = sample_heun(denoise, noise, karras_sigmas(self.spec.sampling_steps, 0.01, 40.0).to(self.device))
        volume = self.code.decode(latent.float().cpu())
        cloud = surface_cloud(volume.distance[0], volume.rgb[0], self.spec.points, generator)
        if len(cloud) == 0:
            raise InvalidInput(f"prior3d: the 3D model found no surface for '{prompt}'. Try another seed.")
        return cloud.to(self.device)
