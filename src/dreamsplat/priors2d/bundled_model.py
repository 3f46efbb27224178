"""The bundled 2D diffusion model at work: its pictures, its conditions and its network."""

import torch
from torch import Tensor

from dreamsplat.method.devices import multiplies_bfloat16, one_core_threads
from dreamsplat.priors2d.base import AbstractImagePrior
from dreamsplat.priors2d.bundled import ViewConditioning, check_field_of_view, check_render_size
from dreamsplat.types import Rendering, Views
from dreamsplat.world.language.captions import parse_caption
from dreamsplat.world.nets.conditions import pack_condition
from dreamsplat.world.nets.picture_denoiser import ImageDenoiser


def world_image(rendering: Rendering, resolution: int) -> Tensor:
    """Model images z [C, 4, R, R] of renderings over black; see `premultiplied`.

    Raises:
        InvalidInput: if the renderings are not of the model's resolution R.
    """
    for size in rendering.alpha.shape[1:]:
        check_render_size(size, resolution)
    return premultiplied(rendering)


def premultiplied(rendering: Rendering) -> Tensor:
    """Model images z = 2 x (premultiplied RGB, alpha) [C, 4, H, W] of renderings over a black background."""
    return 2 * torch.cat([rendering.rgb, rendering.alpha[..., None]], dim=-1).permute(0, 3, 1, 2)


class Bundled(AbstractImagePrior):
    """The bundled network on a device."""

    def __init__(self, model: ImageDenoiser, view: ViewConditioning, device: torch.device) -> None:
        """Take a network that is on the device already."""
        self.model = model
        self.view = view
        self.device = device
        self.bf16 = multiplies_bfloat16(device)

    def encode(self, rendering: Rendering, progress: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """See `AbstractImagePrior.encode`."""
        return world_image(rendering, self.model.config.resolution)

    def embed(self, prompts: list[str], views: Views) -> Tensor:
        """See `AbstractImagePrior.embed`."""
        check_field_of_view(views.fov_y_deg.tolist())
        captions = [parse_caption(prompt) for prompt in prompts]
        packed = pack_condition(captions, views if self.view in ("camera", "both") else None)
        if self.view in ("camera", "neither"):
            packed[:, 2] = 0
        return packed.to(self.device)

    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """See `AbstractImagePrior.denoise`."""
        parts = min(torch.get_num_threads(), len(z_noisy)) if self.device.type == "cpu" else 1
        if parts == 1:
            return self._denoise(z_noisy, sigma, condition)
        inputs = (tensor.tensor_split(parts) for tensor in (z_noisy, sigma, condition))
        return torch.cat(list(one_core_threads(parts).map(self._denoise, *inputs)))

    @torch.no_grad()
    def _denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model(z_noisy, sigma, condition)
