"""Stable Diffusion at work: prompts to conditions, renderings to latents, noisy latents to clean estimates."""

from typing import Any

import torch
from torch import Tensor, nn

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.hub.fetch import local_folder
from dreamsplat.hub.networks import read_network
from dreamsplat.hub.optional import require
from dreamsplat.maths.noise import normal_like
from dreamsplat.method.devices import multiplies_bfloat16
from dreamsplat.priors2d.base import AbstractImagePrior
from dreamsplat.priors2d.stable_diffusion import Precision, StableDiffusion
from dreamsplat.priors2d.stable_diffusion.adapters import LoraNetwork
from dreamsplat.priors2d.stable_diffusion.checkpoint import TINY_FILES, SdModel
from dreamsplat.priors2d.stable_diffusion.network import LatentNetwork
from dreamsplat.priors2d.stable_diffusion.text import encode_prompts
from dreamsplat.types import Rendering, Views

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


class LatentDiffusion(AbstractImagePrior):
    """A checkpoint on a device. Its text encoders are in memory only while prompts are prepared."""

    def __init__(self, spec: StableDiffusion, checkpoint: SdModel, device: torch.device) -> None:
        """Read the UNet and the autoencoders.

        Raises:
            FileProblem: if one of them is broken, or the tiny autoencoder makes other latents.
            InvalidInput: if the resolution does not fit the checkpoint.
        """
        self.spec, self.checkpoint, self.device = spec, checkpoint, device
        self.dtype = _resolve_dtype(spec.dtype, device)
        factor = checkpoint.pixels_per_latent
        self.resolution = spec.resolution or checkpoint.unet["sample_size"] * factor
        if self.resolution % factor:
            raise InvalidInput(
                f"{self.resolution} px, expected a multiple of {factor} for this model.", setting="prior2d.resolution"
            )
        unet = self._read("UNet2DConditionModel", "unet", self.dtype)
        if spec.attention_slicing:
            unet.set_attention_slice("auto")
        if spec.compile:
            unet.compile()
        self.network = LatentNetwork(unet, checkpoint.schedule, self.resolution, checkpoint.pooled_width)
        # The activations of XL's original autoencoder overflow in fp16.
        upcast = checkpoint.is_xl and self.dtype == torch.float16 and checkpoint.vae.get("force_upcast", True)
        self.vae: Any = self._read("AutoencoderKL", "vae", torch.float32 if upcast else self.dtype)
        self.tiny: Any = None if spec.tiny_autoencoder is None else self._read_tiny(spec.tiny_autoencoder)
        self.conditions: dict[str, Tensor] = {}

    def prepare(self, prompts: list[str]) -> None:
        """See `AbstractImagePrior.prepare`."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.conditions]
        if new:
            conditions = encode_prompts(new, self.checkpoint, self.dtype, self.device)
            self.conditions |= dict(zip(new, conditions, strict=True))
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # of the text encoders

    def embed(self, prompts: list[str], views: Views) -> Tensor:
        """See `AbstractImagePrior.embed`."""
        self.prepare(prompts)
        return torch.stack([self.conditions[prompt] for prompt in prompts])

    def encode(self, rendering: Rendering, progress: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """See `AbstractImagePrior.encode`."""
        images = self._images(rendering)
        if self.tiny is not None and progress < self.spec.tiny_until:
            # Trained to return latents that are scaled already; its encoder moves [-1, 1] to [0, 1] itself.
            return self.tiny.encode(images.to(self.dtype)).latents.float() * self.tiny.config.scaling_factor
        posterior = self.vae.encode(images.to(self.vae.dtype)).latent_dist
        z = posterior.mean.float()
        if generator is not None:
            z = z + posterior.std.float() * normal_like(z, generator)
        return (z - (self.vae.config.shift_factor or 0)) * self.vae.config.scaling_factor

    def denoise(self, z_noisy: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """See `AbstractImagePrior.denoise`."""
        return self.network.denoise(z_noisy, sigma, condition)

    def second_network(self, rank: int, learning_rate: float) -> LoraNetwork:
        """See `AbstractImagePrior.second_network`."""
        self.spec.check_second_network()
        return LoraNetwork(self.network, rank, learning_rate)

    def _images(self, rendering: Rendering) -> Tensor:
        """Pictures [C, 3, R, R], nominally in [-1, 1]; not clamped, like the official code."""
        height, width = rendering.alpha.shape[1:]
        if height != width:
            raise InvalidInput(f"{width} x {height} px, but Stable Diffusion sees squares.", setting="render_size")
        images = rendering.rgb.permute(0, 3, 1, 2).float()
        if height != self.resolution:
            size = (self.resolution, self.resolution)
            images = nn.functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=False)
        return 2 * images - 1

    def _read(self, kind: str, part: str, dtype: torch.dtype) -> Any:
        network = self.checkpoint.network(kind, part, dtype, self.device)
        return network.to(memory_format=torch.channels_last) if self.spec.channels_last else network

    def _read_tiny(self, model: str) -> Any:
        folder = local_folder(model, None, TINY_FILES)
        tiny: Any = read_network(
            require("diffusers", "diffusion").AutoencoderTiny, model, folder, self.dtype, self.device
        )
        factor = 2 ** (len(tiny.config.encoder_block_out_channels) - 1)
        made = (tiny.config.latent_channels, factor)
        wanted = (self.checkpoint.vae["latent_channels"], self.checkpoint.pixels_per_latent)
        if made != wanted:
            raise FileProblem(
                f"{model}: makes {made[0]} latent channels of {made[1]} px each, but {self.checkpoint.model} wants "
                f"{wanted[0]} of {wanted[1]} px. Name the tiny autoencoder of this model."
            )
        return tiny


def _resolve_dtype(name: Precision, device: torch.device) -> torch.dtype:
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
