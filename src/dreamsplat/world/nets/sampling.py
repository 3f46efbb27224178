"""Sampling from the bundled models: pictures and clouds from noise, with classifier-free guidance."""

from collections.abc import Callable

import torch
from torch import Tensor

from dreamsplat.maths.heun import Denoiser, karras_sigmas, sample_heun
from dreamsplat.maths.noise import normal_like
from dreamsplat.types import PointCloud, Views
from dreamsplat.world.language.captions import Caption, parse_caption
from dreamsplat.world.nets.conditions import pack_condition
from dreamsplat.world.nets.picture_denoiser import ImageDenoiser
from dreamsplat.world.nets.shape_code import ShapeCode, surface_cloud
from dreamsplat.world.nets.shape_denoiser import ShapeDenoiser


def guided(
    model: Callable[[Tensor, Tensor, Tensor], Tensor], positive: Tensor, negative: Tensor, guidance_scale: float
) -> Denoiser:
    """A denoiser that extrapolates from the conditions `negative` [B, 8] to `positive` [B, 8] (Ho & Salimans 2022)."""
    both = torch.cat([positive, negative])

    def denoise(z: Tensor, sigma: Tensor) -> Tensor:
        text, null = model(torch.cat([z, z]), torch.cat([sigma, sigma]), both).chunk(2)
        return null + guidance_scale * (text - null)

    return denoise


@torch.no_grad()
def sample_images(
    model: ImageDenoiser,
    captions: list[str],
    views: Views,
    generator: torch.Generator,
    guidance_scale: float = 2.0,
    steps: int = 18,
) -> Tensor:
    """Model images z [B, 4, R, R] that the 2D model draws from noise, for one caption per view."""
    positive = pack_condition([parse_caption(text) for text in captions], views)
    without_words = torch.cat([torch.zeros_like(positive[:, :3]), positive[:, 3:]], dim=1)
    size = model.config.resolution
    noise = normal_like(torch.empty(len(captions), 4, size, size), generator)
    denoise = guided(model, positive, without_words, guidance_scale)
    return sample_heun(denoise, noise, karras_sigmas(steps, 0.02, 40.0))


@torch.no_grad()
def sample_cloud(
    model: ShapeDenoiser,
    code: ShapeCode,
    caption: Caption,
    points: int,
    generator: torch.Generator,
    guidance_scale: float,
    steps: int,
) -> PointCloud:
    """A cloud of `points` points that the 3D model imagines; none if its shape has no surface."""
    device = next(model.parameters()).device
    words = Caption(caption.colour, caption.category)
    positive, negative = pack_condition([words, Caption()]).to(device).split(1)
    noise = normal_like(torch.empty(1, model.config.latent, device=device), generator)
    denoise = guided(model, positive, negative, guidance_scale)
    latent = sample_heun(denoise, noise, karras_sigmas(steps, 0.01, 40.0).to(device))
    grid = code.decode(latent.cpu())
    return surface_cloud(grid.distance[0], grid.rgb[0], points, generator)
