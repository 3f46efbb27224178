"""What score distillation asks of a 2D diffusion model: one noise coordinate, sigma, and one question, denoise.

Every model, however it was trained, is wrapped as an optimal-denoiser estimate D(z + sigma n; sigma, condition) of a
clean image z (Karras et al. 2022, eq. 2-3). Timesteps, epsilon- and v-prediction end in the wrappers; the losses in
`guidance` know only sigma.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamsplat.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat.config import DreamConfig
    from dreamsplat.hub.fetch import Wanted
    from dreamsplat.types import Rendering, Views


@dataclass(frozen=True)
class Cost:
    """What a run may take, by arithmetic."""

    flops: float
    """Floating-point operations of all steps."""
    gigabytes: float
    """GPU memory."""


class AbstractImagePriorSpec(ABC):
    """Settings of a 2D prior: a frozen dataclass, cheap to make and to compare, that loads the model when asked to."""

    @abstractmethod
    def load(self, device: torch.device) -> AbstractImagePrior:
        """The model on a device.

        Raises:
            FileProblem: if a file is missing, broken or of another kind.
            MissingDependency: if a package is not installed.
        """

    def check(self, config: DreamConfig) -> None:  # noqa: B027 (most priors allow every run)
        """Refuse what this prior cannot do in a run, from settings, names and headers of files: no model is loaded.

        Raises:
            InvalidInput: naming the setting.
            FileProblem: if a file or a model that the settings name is missing.
        """

    def check_second_network(self) -> None:
        """Refuse to be used with a loss that needs `AbstractImagePrior.second_network`, before the model is loaded.

        Raises:
            InvalidInput: if this prior has none.
        """
        raise _no_second_network()

    def sources(self) -> dict[str, str]:
        """What the model is made of, for the record of a run: file or hub id -> SHA-256 or commit, in a fixed order.

        What is not on this machine is omitted; nothing is fetched.
        """
        return {}

    def checkpoints(self) -> tuple[Wanted, ...]:
        """Other people's models that `load` would fetch, for `dreamsplat download`."""
        return ()

    def cost(self, config: DreamConfig) -> Cost | None:
        """What a run may take; None for a prior that is so small that nobody asks."""
        return None

    def fit_memory(self, config: DreamConfig, gigabytes: int) -> DreamConfig:
        """The run with the size, batch and precision that fit into so much GPU memory.

        Raises:
            InvalidInput: if this prior has nothing to choose.
        """
        raise InvalidInput(
            f"{type(self).__name__} has no settings that save memory.", setting="vram", advice="Omit `vram`."
        )


class AbstractImagePrior(ABC):
    """A 2D diffusion model as score distillation sees it. Letters: C images; c, h, w its latent (or pixel) shape."""

    def prepare(self, prompts: list[str]) -> None:  # noqa: B027  (most priors have nothing to prepare)
        """Prepare to embed these prompts and no others. Called once, so that a text encoder may be freed."""

    @abstractmethod
    def encode(
        self,
        rendering: Rendering,  # C images
        progress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The clean sample z [C, c, h, w] of renderings, differentiable.

        Args:
            rendering: What to encode.
            progress: Share of the run that is done, 0 to 1, for a prior that starts with a cheaper encoder.
            generator: For encoders with a random sample; None takes the mean.

        Raises:
            InvalidInput: for renderings of a size that the prior does not accept.
        """

    @abstractmethod
    def embed(self, prompts: list[str], views: Views) -> Tensor:
        """Conditions [C, ...] of one prompt per view; "" is for the unconditional estimate."""

    @abstractmethod
    def denoise(
        self,
        z_noisy: Tensor,  # [C, c, h, w]
        sigma: Tensor,  # [C]
        condition: Tensor,  # [C, ...]
    ) -> Tensor:
        """The clean estimate D [C, c, h, w]: one evaluation of the network, no gradient."""

    def second_network(self, rank: int, learning_rate: float) -> AbstractSecondNetwork:
        """A trainable variant of the model, for variational score distillation.

        Raises:
            InvalidInput: if this prior has none; its settings' `check_second_network` says so earlier.
        """
        raise _no_second_network()


def _no_second_network() -> InvalidInput:
    return InvalidInput(
        "VSD trains a LoRA on the 2D prior, and this prior takes none.",
        setting="loss", advice="Use another loss, or Stable Diffusion (prior2d:stable-diffusion).",
    )  # fmt: skip


class AbstractSecondNetwork(ABC):
    """A 2D model that learns the distribution of the current renderings: the second network of VSD."""

    @abstractmethod
    def denoise(
        self,
        z_noisy: Tensor,  # [C, c, h, w]
        sigma: Tensor,  # [C]
        condition: Tensor,  # [C, ...]
    ) -> Tensor:
        """The clean estimate D [C, c, h, w] of the learned distribution, no gradient."""

    @abstractmethod
    def learn(
        self,
        z: Tensor,  # [C, c, h, w] clean samples of renderings
        sigma: Tensor,  # [C]
        condition: Tensor,  # [C, ...]
        generator: torch.Generator,
    ) -> float:
        """One optimiser step of denoising score matching on z; returns its loss before the step."""

    @abstractmethod
    def state_tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state, for a checkpoint. Later steps do not change these tensors."""

    @abstractmethod
    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Continue from `state_tensors`."""
