"""The 2D diffusion model that ships with the package: RGBA pictures of the bundled world, 64 px."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.method.devices import one_core_threads
from dreamsplat.priors2d.base import AbstractImagePrior, AbstractImagePriorSpec
from dreamsplat.types import Rendering, Views
from dreamsplat.world.bundle import IMAGE_WEIGHTS, read_image_model
from dreamsplat.world.camera_range import WORLD_FOV_Y_DEG
from dreamsplat.world.language.captions import parse_caption
from dreamsplat.world.nets.conditions import pack_condition
from dreamsplat.world.nets.picture_denoiser import ImageDenoiser
from dreamsplat.world.nets.precision import multiplies_bfloat16

if TYPE_CHECKING:
    from dreamsplat.config import DreamConfig

ViewConditioning = Literal["camera", "words", "both"]
"""How the view reaches the network: as an exact camera, as the paper's view word in the prompt, or both."""


@dataclass(frozen=True)
class BundledImagePrior(AbstractImagePriorSpec):
    """Settings of the bundled 2D model."""

    view: ViewConditioning = "both"
    """How the view reaches the network."""
    weights: Path | None = None
    """A weights file of `dreamsplat train-world image`; None takes the one in the package."""

    def check(self, config: DreamConfig) -> None:
        """See `AbstractImagePriorSpec.check`."""
        check_world_run(config)
        check_field_of_view(config.cameras.fov_y_deg)

    def load(self, device: torch.device) -> AbstractImagePrior:
        """The model on a device."""
        return _Bundled(read_image_model(self.weights or IMAGE_WEIGHTS).to(device), self.view, device)


def check_world_run(config: DreamConfig) -> None:
    """Refuse what no 2D prior of the bundled world can do in a run."""
    if config.background != "black":
        raise InvalidInput(
            f"'{config.background}', but this 2D prior sees colour and alpha over black.",
            setting="background", advice="Use black.",
        )  # fmt: skip
    if config.view_text != "words":
        raise InvalidInput(
            f"'{config.view_text}', but the words of this 2D prior cannot be mixed.",
            setting="view_text", advice="Use words.",
        )  # fmt: skip
    parse_caption(config.prompt)


def check_field_of_view(fov_y_deg: Sequence[float]) -> None:
    """Raise InvalidInput unless all fields of view are the one that the bundled model was trained at."""
    if any(abs(fov - WORLD_FOV_Y_DEG) > 1e-3 for fov in fov_y_deg):
        raise InvalidInput(
            f"{min(fov_y_deg):g} to {max(fov_y_deg):g}, but the bundled 2D model was trained at {WORLD_FOV_Y_DEG:g} "
            "degrees only.",
            setting="cameras.fov_y_deg",
            advice=f"Use {WORLD_FOV_Y_DEG:g} {WORLD_FOV_Y_DEG:g}.",
        )


def world_image(rendering: Rendering, resolution: int) -> Tensor:
    """Model images z [C, 4, R, R] of renderings over black; see `premultiplied`.

    Raises:
        InvalidInput: if the renderings are not of the model's resolution R.
    """
    height, width = rendering.alpha.shape[1:]
    if (height, width) != (resolution, resolution):
        raise InvalidInput(
            f"render-size: {width} x {height} px, but this 2D prior sees {resolution} px. Use {resolution}."
        )
    return premultiplied(rendering)


def premultiplied(rendering: Rendering) -> Tensor:
    """Model images z = 2 x (premultiplied RGB, alpha) [C, 4, H, W] of renderings over a black background."""
    return 2 * torch.cat([rendering.rgb, rendering.alpha[..., None]], dim=-1).permute(0, 3, 1, 2)


class _Bundled(AbstractImagePrior):
    def __init__(self, model: ImageDenoiser, view: ViewConditioning, device: torch.device) -> None:
        self.model = model
        self.view = view
        self.device = device
        self.resolution = model.config.resolution
        self.bf16 = multiplies_bfloat16(device)

    def encode(self, rendering: Rendering, progress: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        return world_image(rendering, self.resolution)

    def embed(self, prompts: list[str], views: Views) -> Tensor:
        check_field_of_view(views.fov_y_deg.tolist())
        captions = [parse_caption(prompt) for prompt in prompts]
        packed = pack_condition(captions, None if self.view == "words" else views)
        if self.view == "camera":
            packed[:, 2] = 0
        return packed.to(self.device)

    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        parts = min(torch.get_num_threads(), len(z_noisy)) if self.device.type == "cpu" else 1
        if parts == 1:
            return self._denoise(z_noisy, sigma, condition)
        inputs = (tensor.tensor_split(parts) for tensor in (z_noisy, sigma, condition))
        return torch.cat(list(one_core_threads(parts).map(self._denoise, *inputs)))

    @torch.no_grad()
    def _denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model(z_noisy, sigma, condition)
