"""A teacher without a network: the optimal denoiser of procedural pictures, for measuring the method itself.

For a caption and an exact camera, K instances of the world are rendered at that camera. The posterior mean

    D(x; sigma) = sum_i softmax_i(-|x - x_i|^2 / (2 sigma^2)) x_i

is the best denoiser of that empirical distribution (Karras et al. 2022, appendix B.3). What the method makes with it is
the ceiling for any trained model of the same world; it is never a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dreamsplat.priors2d.base import AbstractImagePrior, AbstractImagePriorSpec
from dreamsplat.priors2d.bundled import check_world_run, premultiplied, world_image
from dreamsplat.render import render
from dreamsplat.types import Gaussians, Rendering, Views
from dreamsplat.world.language.captions import Caption, parse_caption
from dreamsplat.world.objects.draw_object import draw_object

if TYPE_CHECKING:
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

    def check(self, config: DreamConfig) -> None:
        """See `AbstractImagePriorSpec.check`."""
        check_world_run(config)

    def load(self, device: torch.device) -> AbstractImagePrior:
        """The teacher; it works on the CPU, where its pictures are drawn."""
        return _Perfect(self)


class _Perfect(AbstractImagePrior):
    def __init__(self, spec: PerfectTeacher) -> None:
        self.spec = spec
        self.resolution = spec.resolution
        self._objects: dict[Caption, list[Gaussians]] = {}

    def encode(self, rendering: Rendering, progress: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        return world_image(rendering, self.resolution)

    def embed(self, prompts: list[str], views: Views) -> Tensor:
        """Conditions [C, K, 4, R, R]: the K pictures themselves, at each view's camera."""
        captions = [parse_caption(prompt) for prompt in prompts]
        pictures = torch.empty(len(views), self.spec.instances, 4, self.resolution, self.resolution)
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
        squares = (z_noisy[:, None] - condition).square().flatten(2).sum(2)  # [C, K]
        weights = (-squares / (2 * sigma[:, None] ** 2)).softmax(dim=1)
        return torch.einsum("ck,ckxhw->cxhw", weights, condition)
