"""Stable Diffusion 1.x, 2.x and XL as a 2D prior: the paper's model, through diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.hub.fetch import local_folder, require
from dreamsplat.maths.noise import normal_like
from dreamsplat.priors2d.base import AbstractImagePrior, AbstractImagePriorSpec
from dreamsplat.priors2d.stable_diffusion.checkpoint import Checkpoint, find_checkpoint, read_network
from dreamsplat.priors2d.stable_diffusion.network import LatentNetwork
from dreamsplat.priors2d.stable_diffusion.text import encode_prompts
from dreamsplat.types import Rendering, Views

if TYPE_CHECKING:
    from dreamsplat.priors2d.stable_diffusion.particles import LoraParticles

Precision = Literal["auto", "fp16", "bf16", "fp32"]
"""Of the networks' weights; auto: fp16 on CUDA; on a processor bf16 if it has instructions for it, else fp32."""
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class StableDiffusion(AbstractImagePriorSpec):
    """Settings of Stable Diffusion, of any checkpoint in the format of diffusers."""

    model: str | None = None
    """A folder, or a hub id, which is fetched if it is not in the cache; None takes the first copy of Stable Diffusion
    2.1 base that can be had."""
    revision: str | None = None
    """Branch, tag or commit of the hub id; None takes its main branch."""
    dtype: Precision = "auto"
    """Precision of the weights. The autoencoder of an XL checkpoint stays in fp32 instead of fp16, unless its config
    says that it bears fp16 (force_upcast: false)."""
    resolution: int | None = None
    """Height and width at which renderings are encoded, px; None takes the size that the UNet was trained at."""
    tiny_autoencoder: str | None = None
    """A folder or hub id of a tiny autoencoder, such as madebyollin/taesd, that encodes in a fraction of the time."""
    tiny_until: float = 0.5
    """Share of the run, 0 to 1, during which the tiny autoencoder encodes; afterwards the checkpoint's own does."""
    attention_slicing: bool = False
    """Compute attention in two halves, for less memory and more time."""
    channels_last: bool = False
    """Store the weights of convolutions channels last, which some GPUs are faster with."""
    compile: bool = False
    """Compile the UNet with torch.compile: a minute of waiting, then faster steps."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 <= self.tiny_until <= 1:
            raise InvalidInput(f"tiny-until: {self.tiny_until}, expected a share of the run, 0 to 1.")
        if self.resolution is not None and self.resolution < 8:
            raise InvalidInput(f"resolution: {self.resolution} px, expected at least 8.")

    def load(self, device: torch.device) -> AbstractImagePrior:
        """The model on a device.

        Raises:
            FileProblem: if the checkpoint cannot be had, is broken, or is of another kind.
            InvalidInput: if the resolution does not fit the checkpoint.
            MissingDependency: if diffusers or transformers is not installed.
        """
        for package in ("diffusers", "transformers"):
            require(package, "diffusion")
        return _StableDiffusion(self, find_checkpoint(self.model, self.revision), device)


class _StableDiffusion(AbstractImagePrior):
    def __init__(self, spec: StableDiffusion, checkpoint: Checkpoint, device: torch.device) -> None:
        self.spec, self.checkpoint, self.device = spec, checkpoint, device
        self.dtype = _resolve_dtype(spec.dtype, device)
        factor = checkpoint.pixels_per_latent
        self.resolution = spec.resolution or checkpoint.unet["sample_size"] * factor
        if self.resolution % factor:
            raise InvalidInput(f"resolution: {self.resolution} px, expected a multiple of {factor} for this model.")
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
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.conditions]
        if new:
            conditions = encode_prompts(new, self.checkpoint, self.dtype, self.device)
            self.conditions |= dict(zip(new, conditions, strict=True))
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # of the text encoders

    def embed(self, prompts: list[str], views: Views) -> Tensor:
        self.prepare(prompts)
        return torch.stack([self.conditions[prompt] for prompt in prompts])

    def encode(self, rendering: Rendering, progress: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
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
        return self.network.denoise(z_noisy, sigma, condition)

    def particles(self, rank: int, learning_rate: float) -> LoraParticles:
        from dreamsplat.priors2d.stable_diffusion.particles import LoraParticles

        if self.spec.compile:
            raise InvalidInput(
                "compile: a compiled UNet cannot take the LoRA of VSD. Leave it out, or use another loss."
            )
        return LoraParticles(self.network, rank, learning_rate)

    def _images(self, rendering: Rendering) -> Tensor:
        """Pictures [C, 3, R, R], nominally in [-1, 1]; not clamped, like the official code (method.md 1.6)."""
        height, width = rendering.alpha.shape[1:]
        if height != width:
            raise InvalidInput(f"render-size: {width} x {height} px, but Stable Diffusion sees squares.")
        images = rendering.rgb.permute(0, 3, 1, 2).float()
        if height != self.resolution:
            size = (self.resolution, self.resolution)
            images = nn.functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=False)
        return 2 * images - 1

    def _read(self, kind: str, part: str, dtype: torch.dtype) -> Any:
        cls = getattr(require("diffusers", "diffusion"), kind)
        network = read_network(cls, self.checkpoint.model, self.checkpoint.folder / part, dtype, self.device)
        return network.to(memory_format=torch.channels_last) if self.spec.channels_last else network

    def _read_tiny(self, model: str) -> Any:
        folder = local_folder(model, None, ("config.json", "*.safetensors"))
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
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
