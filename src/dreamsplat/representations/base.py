"""What the method asks of a representation: to start from a cloud, to be rendered, to follow gradients, to be kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat.config import DreamConfig
    from dreamsplat.types import AbstractAsset, Cameras, PointCloud, Rendering


class AbstractRepresentationSpec(ABC):
    """Settings of a representation: a frozen dataclass in `DreamConfig.representation`."""

    @abstractmethod
    def start(self, cloud: PointCloud, generator: torch.Generator) -> AbstractRepresentation:
        """The representation before the first step, from a 3D prior's cloud in the prior's own units."""

    @abstractmethod
    def restore(self, tensors: dict[str, Tensor]) -> AbstractRepresentation:
        """The representation whose `state_tensors` these are; with equal gradients it continues bit for bit.

        Raises:
            InvalidInput: if they are of another representation.
        """

    @abstractmethod
    def in_world(self, cloud: PointCloud) -> PointCloud:
        """A 3D prior's cloud in world units: where the representation starts."""

    def check(self, config: DreamConfig) -> None:  # noqa: B027 (most representations allow every run)
        """Refuse what this representation cannot do in a run; see `AbstractImagePriorSpec.check`."""

    @abstractmethod
    def slower(self, factor: float) -> AbstractRepresentationSpec:
        """The same with all learning rates times a factor: a run that diverged is repeated so."""


class AbstractRepresentation(ABC):
    """The thing optimised. Each step calls `render`, `penalty`, `adapt`, `update` and `check`, in this order."""

    @abstractmethod
    def render(
        self,
        cameras: Cameras,  # C
        background: Tensor,  # [3] display colour
        generator: torch.Generator,
    ) -> Rendering:
        """The pictures of C cameras, differentiable; what `penalty` and `adapt` need may be kept until then.

        Args:
            cameras: Where they are seen from.
            background: What is behind.
            generator: Of random samples, where pictures are made of those.
        """

    def penalty(self) -> Tensor | float:
        """What is wrong with the last rendering whatever the prompt: a number [] whose gradient joins the loss's."""
        return 0.0

    @abstractmethod
    def update(self) -> None:
        """One optimiser step from the gradients that a backward pass left; none where `adapt` has used them up."""

    @abstractmethod
    def check(self, step: int) -> None:
        """Raise Diverged if the numbers overflowed or the thing grew without bound."""

    @abstractmethod
    def adapt(self, step: int, generator: torch.Generator) -> None:
        """Change what is optimised after a backward pass: densify, refine a grid, or nothing."""

    @abstractmethod
    def asset(self) -> AbstractAsset:
        """What it shows now, as a value: detached, unchanged by later steps."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Plain numbers for the log, such as how many Gaussians there are."""

    @abstractmethod
    def state_tensors(self) -> dict[str, Tensor]:
        """Everything `restore` needs. Later steps must not change these tensors: copy what is updated in place."""
