"""Settings of Stable Diffusion 1.x, 2.x and XL as a 2D prior: the paper's model, through diffusers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dreamsplat.errors import InvalidInput
from dreamsplat.hub.cache import is_offline
from dreamsplat.hub.fetch import Wanted, check_available, first_available
from dreamsplat.hub.names import NAMES_A_MODEL
from dreamsplat.hub.optional import check_installed, require
from dreamsplat.maths.ranges import check_choice, check_ranges
from dreamsplat.priors2d.base import AbstractImagePrior, AbstractImagePriorSpec, Cost
from dreamsplat.priors2d.stable_diffusion import checkpoint
from dreamsplat.priors2d.stable_diffusion.cost import cost_of_run, unet_size

if TYPE_CHECKING:
    import torch

    from dreamsplat.config import DreamConfig

_PACKAGES = ("diffusers", "transformers")
MEMORY_GB = (8, 12, 16, 24)
"""Sizes of GPU memory that there are settings for."""
Precision = Literal["auto", "fp16", "bf16", "fp32"]
"""Of the networks' weights; auto: fp16 on CUDA; on a processor bf16 if it has instructions for it, else fp32."""


@dataclass(frozen=True)
class StableDiffusion(AbstractImagePriorSpec):
    """Settings of Stable Diffusion, of any checkpoint in the format of diffusers or in one safetensors file."""

    model: str | None = field(default=None, metadata=NAMES_A_MODEL)
    """A folder, a safetensors file, or a hub id, which is fetched if it is not in the cache; None takes the first
    available copy of Stable Diffusion 2.1 base."""
    revision: str | None = None
    """Branch, tag or commit of the hub id; None takes its main branch."""
    config: str | None = field(default=None, metadata=NAMES_A_MODEL)
    """A folder or hub id with the configs and tokenizers of a safetensors file; None takes those of Stable Diffusion
    1.x, 2.x or XL, which come with this package."""
    prediction: Literal["auto", "epsilon", "v_prediction"] = "auto"
    """What the UNet predicts; auto takes what the checkpoint says. A safetensors file of Stable Diffusion 2.x may not
    say it: epsilon for 512 px, v_prediction for 768 px."""
    dtype: Precision = "auto"
    """Precision of the weights. The autoencoder of an XL checkpoint stays in fp32 instead of fp16, unless its config
    allows fp16 (force_upcast: false)."""
    resolution: int | None = None
    """Height and width at which renderings are encoded, px; None takes the size that the UNet was trained at."""
    tiny_autoencoder: str | None = field(default=None, metadata=NAMES_A_MODEL)
    """A folder or hub id of a tiny autoencoder, such as madebyollin/taesd, that encodes in a fraction of the time."""
    tiny_until: float = 0.5
    """Share of the run, 0 to 1, during which the tiny autoencoder encodes; afterwards the checkpoint's own does."""
    attention_slicing: bool = False
    """Compute attention in two halves, for less memory and more time."""
    channels_last: bool = False
    """Store the weights of convolutions channels last, which some GPUs are faster with."""
    compile: bool = False
    """Compile the UNet with torch.compile: the first step takes a minute, the others are faster."""

    def __post_init__(self) -> None:
        check_ranges(self, "prior2d.", tiny_until=(0, 1), resolution=(8, 8192))
        check_choice("prior2d.dtype", self.dtype, Precision)
        check_choice("prior2d.prediction", self.prediction, Literal["auto", "epsilon", "v_prediction"])

    def check(self, config: DreamConfig) -> None:
        """See `AbstractImagePriorSpec.check`."""
        if self.model is not None:
            checkpoint.check_checkpoint(self.model, self.revision, self.config, self._prediction)
        elif is_offline():
            first_available(checkpoint.MODELS, self.revision, checkpoint.FILES)
        if self.tiny_autoencoder is not None:
            check_available(self.tiny_autoencoder, None, checkpoint.TINY_FILES)
        for package in _PACKAGES:
            check_installed(package, "diffusion")

    def check_second_network(self) -> None:
        """See `AbstractImagePriorSpec.check_second_network`."""
        if self.compile:
            raise InvalidInput(
                "a compiled UNet cannot take the LoRA of VSD.",
                setting="prior2d.compile", advice="Set `prior2d.compile` to False, or use another loss.",
            )  # fmt: skip
        check_installed("peft", "diffusion")

    def cost(self, config: DreamConfig) -> Cost:
        """See `AbstractImagePriorSpec.cost`."""
        is_xl = self.model is not None and "xl" in Path(self.model).name.lower()
        tiny_share = 0.0 if self.tiny_autoencoder is None else self.tiny_until
        resolution = self.resolution or (1024 if is_xl else 512)
        return cost_of_run(
            config.steps, config.views, config.render_size, resolution, tiny_share,
            unet_size(self.model, is_xl),
        )  # fmt: skip

    def fit_memory(self, config: DreamConfig, gigabytes: int) -> DreamConfig:
        """See `AbstractImagePriorSpec.fit_memory`; the table is in docs/presets.md."""
        if gigabytes not in MEMORY_GB:
            expected = ", ".join(map(str, MEMORY_GB))
            raise InvalidInput(f"{gigabytes} GB, expected one of {expected}.", setting="vram")
        if gigabytes == 24:
            return config
        prior = dataclasses.replace(self, dtype="fp16", attention_slicing=gigabytes <= 12)
        if gigabytes == 8:
            tiny = self.tiny_autoencoder or "madebyollin/taesd"
            prior = dataclasses.replace(prior, tiny_autoencoder=tiny, tiny_until=1.0)
        views = min(config.views, 2 if gigabytes == 12 else 4)
        return dataclasses.replace(config, prior2d=prior, views=views, render_size=min(config.render_size, 512))

    def load(self, device: torch.device) -> AbstractImagePrior:
        """The model on a device.

        Raises:
            FileProblem: if the checkpoint is not available, is broken, or is of another kind.
            InvalidInput: if the resolution does not fit the checkpoint.
            MissingDependency: if diffusers or transformers is not installed.
        """
        for package in _PACKAGES:
            require(package, "diffusion")
        from dreamsplat.priors2d.stable_diffusion.model import LatentDiffusion

        half = self.dtype == "fp16" or (self.dtype == "auto" and device.type == "cuda")
        found = checkpoint.find_checkpoint(self.model, self.revision, self.config, self._prediction, half)
        return LatentDiffusion(self, found, device)

    def sources(self) -> dict[str, str]:
        """See `AbstractImagePriorSpec.sources`."""
        sources = checkpoint.checkpoint_sources(self.model, self.revision, self.config)
        return sources if self.tiny_autoencoder is None else sources | checkpoint.tiny_sources(self.tiny_autoencoder)

    def checkpoints(self) -> tuple[Wanted, ...]:
        """See `AbstractImagePriorSpec.checkpoints`; in half precision, as a GPU reads it, unless another is set."""
        half = self.dtype in ("auto", "fp16")
        wanted = checkpoint.wanted_checkpoint(self.model, self.revision, self.config, half)
        tiny = self.tiny_autoencoder
        return wanted if tiny is None else (*wanted, Wanted((tiny,), None, checkpoint.TINY_FILES, half=half))

    @property
    def _prediction(self) -> Literal["epsilon", "v_prediction"] | None:
        return None if self.prediction == "auto" else self.prediction
