"""The perfect teacher at work: the optimal denoiser of procedural pictures.

For a caption and an exact camera, K instances of the world are rendered at that camera. The posterior mean

    D(x; sigma) = sum_i softmax_i(-|x - x_i|^2 / (2 sigma^2)) x_i

is the best denoiser of that empirical distribution (Karras et al. 2022, appendix B.3). What the method makes with it is
the ceiling for any trained model of the same world.
"""

import torch
from torch import Tensor

from dreamsplat.priors2d.base import AbstractImagePrior
from dreamsplat.priors2d.bundled_model import premultiplied, world_image
from dreamsplat.priors2d.perfect import PerfectTeacher
from dreamsplat.render import render
from dreamsplat.types import Gaussians, Rendering, Views
from dreamsplat.world.language.captions import Caption, parse_caption
from dreamsplat.world.objects.draw_object import draw_object


class Perfect(AbstractImagePrior):
    """The teacher of all captions; it draws the objects of a caption when it is first asked about it."""

    def __init__(self, spec: PerfectTeacher) -> None:
        self.spec = spec
        self._objects: dict[Caption, list[Gaussians]] = {}

    def encode(self, rendering: Rendering, progress: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """See `AbstractImagePrior.encode`."""
        return world_image(rendering, self.spec.resolution)

    def embed(self, prompts: list[str], views: Views) -> Tensor:
        """Conditions [C, K, 4, R, R]: the K pictures themselves, at each view's camera."""
        captions, size = [parse_caption(prompt) for prompt in prompts], self.spec.resolution
        pictures = torch.empty(len(views), self.spec.instances, 4, size, size)
        for caption in set(captions):
            rows = torch.tensor([i for i, c in enumerate(captions) if c == caption])
            cameras = views.cameras.rows(rows)
            for k, gaussians in enumerate(self._instances(caption)):
                pictures[rows, k] = premultiplied(render(gaussians, cameras))
        return pictures

    def _instances(self, caption: Caption) -> list[Gaussians]:
        nouns = Caption(caption.colour, caption.category)
        if nouns not in self._objects:
            generator = torch.Generator().manual_seed(self.spec.seed)
            self._objects[nouns] = [draw_object(nouns, generator) for _ in range(self.spec.instances)]
        return self._objects[nouns]

    @torch.no_grad()
    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """See `AbstractImagePrior.denoise`."""
        squares = (z_noisy[:, None] - condition).square().flatten(2).sum(2)  # [C, K]
        weights = (-squares / (2 * sigma[:, None] ** 2)).softmax(dim=1)
        return torch.einsum("ck,ckxhw->cxhw", weights, condition)
