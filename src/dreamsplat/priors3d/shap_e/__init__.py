"""Settings of Shap-E (Jun & Nichol 2023), the 3D prior of GaussianDreamer, from words or from a picture."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dreamsplat.errors import InvalidInput
from dreamsplat.files.atomic import read_start
from dreamsplat.hub.digests import file_sources
from dreamsplat.hub.fetch import Wanted
from dreamsplat.hub.names import NAMES_A_MODEL
from dreamsplat.hub.optional import check_installed
from dreamsplat.maths.ranges import check_choice, check_ranges
from dreamsplat.priors3d.base import AbstractCloudPrior, AbstractCloudPriorSpec
from dreamsplat.priors3d.shap_e.checkpoint import check_checkpoint, checkpoint_sources, wanted

if TYPE_CHECKING:
    import torch

    from dreamsplat.config import DreamConfig

PointSource = Literal["mesh", "field"]
ColourSpace = Literal["linear", "display"]
Precision = Literal["auto", "fp16", "fp32"]
SamplerName = Literal["official", "diffusers"]


@dataclass(frozen=True)
class ShapE(AbstractCloudPriorSpec):
    """Settings of Shap-E. Defaults: the official GaussianDreamer code, but OpenAI's own weights."""

    model: str | None = field(default=None, metadata=NAMES_A_MODEL)
    """Hub id or folder of a diffusers checkpoint; None takes openai/shap-e, or openai/shap-e-img2img for a picture."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None takes its main branch."""
    image: Path | None = None
    """A picture of the object, to use instead of the prompt. Transparent or plain surroundings are cropped away."""
    points: PointSource = "mesh"
    """"mesh": the vertices of its marching-cubes mesh, as in the paper; "field": points drawn on its surface."""
    colour: ColourSpace = "linear"
    """"linear": linear light used as if it were display colour, as the official code does, which makes the first cloud
    darker; "display": the colours that Shap-E means."""
    guidance_scale: float | None = None
    """Classifier-free guidance scale, applied to the estimate; None takes 15 for words and 3 for a picture."""
    sampler: SamplerName = "official"
    """"official": OpenAI's own, which clips before guidance and ends at a noise of 0.001; "diffusers": its Heun
    scheduler, which clips after guidance and ends at 0.109."""
    sampling_steps: int = 64
    """Heun steps of the sampler."""
    grid: int = 128
    """Points along an edge of the grid on which the surface is looked for."""
    field_points: int = 32_768
    """Points of the cloud, for points = "field"."""
    weights: Path | None = None
    """Cap3D's fine-tuned text model, a .pth file, put in place of the checkpoint's; the paper uses it."""
    dtype: Precision = "auto"
    """Precision of the diffusion model; auto takes fp16 on a CUDA device and fp32 elsewhere."""

    def __post_init__(self) -> None:
        """Check ranges, and that the text model's weights do not meet a picture."""
        check_ranges(self, "prior3d.", guidance_scale=(0, inf), sampling_steps=(1, 1000), grid=(2, 512))
        check_ranges(self, "prior3d.", field_points=(1, 10**7))
        check_choice("prior3d.points", self.points, PointSource)
        check_choice("prior3d.colour", self.colour, ColourSpace)
        check_choice("prior3d.dtype", self.dtype, Precision)
        check_choice("prior3d.sampler", self.sampler, SamplerName)
        if self.weights is not None and self.image is not None:
            raise InvalidInput(
                "Cap3D fine-tuned the model of texts, and there is a picture.",
                setting="prior3d.weights", advice="Omit `prior3d.weights` or `prior3d.image`.",
            )  # fmt: skip

    def check(self, config: DreamConfig) -> None:
        """See `AbstractCloudPriorSpec.check`."""
        self._check_dtype(config.device)
        if self.image is not None:
            from dreamsplat.priors3d.shap_e.picture import open_picture

            open_picture(self.image)
        if self.weights is not None:
            read_start(self.weights, 1)
        check_checkpoint(self.model, self.revision, self.image is not None)
        for package in ("diffusers", "transformers"):
            check_installed(package, "diffusion")

    def from_picture(self, image: Path) -> ShapE:
        """See `AbstractCloudPriorSpec.from_picture`."""
        return dataclasses.replace(self, image=image)

    def load(self, device: torch.device) -> AbstractCloudPrior:
        """The model on a device.

        Raises:
            InvalidInput: if the device cannot take the precision.
            FileProblem: if the checkpoint, the weights or the picture is missing, or is not what it should be.
            MissingDependency: if diffusers or transformers is not installed.
        """
        self._check_dtype(device.type)
        from dreamsplat.priors3d.shap_e.model import load_shap_e

        return load_shap_e(self, device)

    def sources(self) -> dict[str, str]:
        """See `AbstractCloudPriorSpec.sources`."""
        model = checkpoint_sources(self.model, self.revision, self.image is not None)
        return model | file_sources(*(path for path in (self.image, self.weights) if path is not None))

    def checkpoints(self) -> tuple[Wanted, ...]:
        """See `AbstractCloudPriorSpec.checkpoints`."""
        return (wanted(self.model, self.revision, self.image is not None),)

    def _check_dtype(self, device: str) -> None:
        if self.dtype == "fp16" and device == "cpu":
            raise InvalidInput("fp16 needs a CUDA device.", setting="prior3d.dtype", advice="Use fp32 or auto.")
