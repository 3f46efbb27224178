"""Settings of the 2D diffusion model that ships with the package: RGBA pictures of the bundled world, 64 px."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.hub.digests import file_sources
from dreamsplat.maths.ranges import check_choice
from dreamsplat.priors2d.base import AbstractImagePrior, AbstractImagePriorSpec
from dreamsplat.world.camera_range import WORLD_FOV_Y_DEG
from dreamsplat.world.header import IMAGE_WEIGHTS, read_sizes
from dreamsplat.world.language.captions import parse_caption

if TYPE_CHECKING:
    import torch

    from dreamsplat.config import DreamConfig

ViewConditioning = Literal["camera", "words", "both", "neither"]
"""How the view reaches the network: as an exact camera, as the paper's view word in the prompt, both, or not at all."""


@dataclass(frozen=True)
class BundledImagePrior(AbstractImagePriorSpec):
    """Settings of the bundled 2D model."""

    view: ViewConditioning = "both"
    """How the view reaches the network."""
    weights: Path | None = None
    """A weights file of `dreamsplat train-world image`; None takes the one in the package."""

    def __post_init__(self) -> None:
        check_choice("prior2d.view", self.view, ViewConditioning)

    def check(self, config: DreamConfig) -> None:
        """See `AbstractImagePriorSpec.check`."""
        check_world_run(config)
        check_field_of_view(config.cameras.fov_y_deg)
        resolution = read_sizes(self._weights).get("resolution")
        if resolution is None:
            raise FileProblem(f"{self.weights}: not the weights of a 2D model.", setting="prior2d.weights")
        check_render_size(config.render_size, resolution)

    def load(self, device: torch.device) -> AbstractImagePrior:
        """The model on a device."""
        from dreamsplat.priors2d.bundled_model import Bundled
        from dreamsplat.world.bundle import read_image_model

        return Bundled(read_image_model(self._weights).to(device), self.view, device)

    def sources(self) -> dict[str, str]:
        """See `AbstractImagePriorSpec.sources`."""
        return file_sources(self._weights)

    @property
    def _weights(self) -> Path:
        return self.weights or IMAGE_WEIGHTS


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
    try:
        parse_caption(config.negative_prompt)
    except InvalidInput as error:
        raise InvalidInput(error.message, setting="negative_prompt", advice="Omit it.") from error


def check_field_of_view(fov_y_deg: Sequence[float]) -> None:
    """Refuse every field of view but the one that the bundled 2D model was trained at."""
    if any(abs(fov - WORLD_FOV_Y_DEG) > 1e-3 for fov in fov_y_deg):
        raise InvalidInput(
            f"{min(fov_y_deg):g} to {max(fov_y_deg):g}, but the bundled 2D model was trained at {WORLD_FOV_Y_DEG:g} "
            "degrees only.",
            setting="cameras.fov_y_deg",
            advice=f"Use {WORLD_FOV_Y_DEG:g} {WORLD_FOV_Y_DEG:g}.",
        )


def check_render_size(size: int, resolution: int) -> None:
    """Refuse renderings of another size than a world's 2D prior sees, px."""
    if size != resolution:
        raise InvalidInput(
            f"{size} px, but this 2D prior sees {resolution} px.", setting="render_size", advice=f"Use {resolution}."
        )
