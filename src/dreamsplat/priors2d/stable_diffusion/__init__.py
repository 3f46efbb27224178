"""Settings of Stable Diffusion 1.x, 2.x and XL as a 2D prior: the paper's model, through diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dreamsplat.errors import InvalidInput
from dreamsplat.hub.optional import require
from dreamsplat.priors2d.base import AbstractImagePriorSpec

if TYPE_CHECKING:
    import torch

    from dreamsplat.priors2d.base import AbstractImagePrior

Precision = Literal["auto", "fp16", "bf16", "fp32"]
"""Of the networks' weights; auto: fp16 on CUDA; on a processor bf16 if it has instructions for it, else fp32."""


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
        from dreamsplat.priors2d.stable_diffusion.checkpoint import find_checkpoint
        from dreamsplat.priors2d.stable_diffusion.model import LatentDiffusion

        return LatentDiffusion(self, find_checkpoint(self.model, self.revision), device)
