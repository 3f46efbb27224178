"""The bundled 3D diffusion model at work: one cloud per caption."""

import torch

from dreamsplat.errors import InvalidInput
from dreamsplat.priors3d.base import AbstractCloudPrior
from dreamsplat.priors3d.bundled import BundledCloudPrior
from dreamsplat.types import PointCloud
from dreamsplat.world.language.captions import parse_caption
from dreamsplat.world.nets.sampling import sample_cloud
from dreamsplat.world.nets.shape_code import ShapeCode
from dreamsplat.world.nets.shape_denoiser import ShapeDenoiser


class Bundled(AbstractCloudPrior):
    """The bundled network on a device."""

    def __init__(self, spec: BundledCloudPrior, model: ShapeDenoiser, code: ShapeCode, device: torch.device) -> None:
        """Take a network that is on the device already."""
        self.spec, self.model, self.code, self.device = spec, model, code, device

    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        """See `AbstractCloudPrior.sample`.

        Raises:
            InvalidInput: if the model finds no surface.
        """
        spec, caption = self.spec, parse_caption(prompt)
        settings = (spec.points, generator, spec.guidance_scale, spec.sampling_steps)
        cloud = sample_cloud(self.model, self.code, caption, *settings)
        if len(cloud) == 0:
            raise InvalidInput(f"the 3D model found no surface for '{prompt}'.", setting="seed", advice="Use another.")
        return cloud.to(self.device)
