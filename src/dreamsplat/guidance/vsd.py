"""Variational Score Distillation (ProlificDreamer, Wang et al. 2023, eq. 9 and algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamsplat.guidance.base import AbstractLoss, LossState, check_guidance, guided_denoise
from dreamsplat.guidance.sds import Weighting, weight
from dreamsplat.maths.noise import normal_like
from dreamsplat.maths.ranges import check_choice, check_range
from dreamsplat.method.noise_levels import sigma_of_time

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat.config import DreamConfig
    from dreamsplat.guidance.conditions import Conditions
    from dreamsplat.priors2d.base import AbstractImagePrior


@dataclass(frozen=True)
class VSD(AbstractLoss):
    """g = w(t) (eps(y) - eps_phi(y)): the difference between the model and one that knows the current renderings.

    The second network is the model itself with a LoRA, trained by one step of denoising score matching on the
    renderings after each gradient. The view reaches it in the prompt; the paper's code adds the camera's matrix.
    """

    guidance_scale: float = 7.5
    """Classifier-free guidance scale of the model; the second network has none."""
    weighting: Weighting = "sds"
    """Weight of a noise level."""
    rescale: float = 0.0
    """Share of the estimate, 0 to 1, whose contrast is brought back to that without guidance (Lin et al. 2023)."""
    rank: int = 4
    """Rank of the LoRA."""
    learning_rate: float = 1e-4
    """Of the LoRA, by AdamW."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_guidance(self.guidance_scale, self.rescale)
        check_choice("loss.weighting", self.weighting, Weighting)
        check_range("loss.rank", self.rank, 1, 1024)
        check_range("loss.learning_rate", self.learning_rate, 0, 1, above=True)

    @property
    def needs_negative(self) -> bool:
        """At a scale of 1 the negative estimate cancels."""
        return self.guidance_scale != 1

    def check(self, config: DreamConfig) -> None:
        """The 2D prior must have a second network."""
        config.prior2d.check_second_network()

    def start(self, prior: AbstractImagePrior) -> LossState:
        """The second network, which at first is the model itself."""
        return prior.second_network(self.rank, self.learning_rate)

    def grad(
        self,
        prior: AbstractImagePrior,
        z: Tensor,
        sigma: Tensor,
        conditions: Conditions,
        generator: torch.Generator,
        state: LossState = None,
    ) -> Tensor:
        """See `AbstractLoss.grad`. Two network calls, and one training step at its own noise levels."""
        import torch  # Here and not above: settings are read without waiting for it.

        assert state is not None, "VSD needs the state that its `start` returned"
        s = sigma[:, None, None, None]
        z_noisy = z + s * normal_like(z, generator)
        wanted = guided_denoise(prior, z_noisy, sigma, conditions, self.guidance_scale, self.rescale)
        known = state.denoise(z_noisy, sigma, conditions.positive)
        times = 0.02 + 0.96 * torch.rand(len(z), generator=generator)
        state.learn(z, sigma_of_time(times).to(sigma), conditions.positive, generator)
        return weight(self.weighting, s) * (known - wanted) / s
