"""What the method asks of a 3D diffusion model: a coloured point cloud for a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from dreamsplat.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from dreamsplat.config import DreamConfig
    from dreamsplat.hub.fetch import Wanted
    from dreamsplat.types import PointCloud


class AbstractCloudPriorSpec(ABC):
    """Settings of a 3D prior: a frozen dataclass that loads the model when asked to."""

    @abstractmethod
    def load(self, device: torch.device) -> AbstractCloudPrior:
        """The model on a device; errors as `AbstractImagePriorSpec.load`."""

    def check(self, config: DreamConfig) -> None:  # noqa: B027 (most priors allow every run)
        """Refuse what this prior cannot do in a run; see `AbstractImagePriorSpec.check`."""

    def from_picture(self, image: Path) -> AbstractCloudPriorSpec:
        """The same prior, started from a picture instead of the prompt.

        Raises:
            InvalidInput: if it cannot; most priors cannot.
        """
        raise InvalidInput(
            f"{type(self).__name__} does not start from a picture.",
            setting="image",
            advice="Use Shap-E (prior3d:shap-e).",
        )

    def sources(self) -> dict[str, str]:
        """What the model is made of; see `AbstractImagePriorSpec.sources`."""
        return {}

    def checkpoints(self) -> tuple[Wanted, ...]:
        """See `AbstractImagePriorSpec.checkpoints`."""
        return ()


class AbstractCloudPrior(ABC):
    """A 3D diffusion model as the method sees it."""

    @abstractmethod
    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        """A coarse, coloured cloud [P, 3] of what the prompt describes: +z up, front towards -y, around the origin."""
