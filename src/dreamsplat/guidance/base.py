"""What all distillation losses share: the interface, and classifier-free guidance in its variants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from typing import TYPE_CHECKING

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.ranges import check_range
from dreamsplat.priors2d.base import AbstractImagePrior, AbstractSecondNetwork

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat.config import DreamConfig
    from dreamsplat.guidance.conditions import Conditions

LossState = AbstractSecondNetwork | None
"""What a loss learns during a run: a second network for VSD, nothing for the others."""


def guided_denoise(
    prior: AbstractImagePrior,
    z_noisy: Tensor,  # [C, c, h, w]
    sigma: Tensor,  # [C]
    conditions: Conditions,
    guidance_scale: float,
    rescale: float = 0.0,
) -> Tensor:
    """Classifier-free guidance D = D_neg + s (D_pos - D_neg) [C, c, h, w], with one network call for all branches.

    Ho & Salimans 2022, eq. 6, in terms of the clean estimate. At s = 1 the negative branch cancels and is not run. The
    paper's code writes D_pos + 100 (D_pos - D_neg), which is s = 101 here.

    Args:
        prior: The 2D model.
        z_noisy: The noisy sample z + sigma n.
        sigma: Noise levels.
        conditions: What the model is given; with `conditions.avoided`, Perp-Neg (Armandpour et al. 2023, eq. 6): what
            is to be avoided counts only where it is perpendicular to what is wanted.
        guidance_scale: s.
        rescale: Share, 0 to 1, of the guided estimate that is given the standard deviation of D_pos, against the
            oversaturation of large s (Lin et al. 2023, eq. 15 and 16, applied to the clean estimate).
    """
    if guidance_scale == 1 and not conditions.avoided:
        return prior.denoise(z_noisy, sigma, conditions.positive)
    positive, negative, direction = estimates(prior, z_noisy, sigma, conditions)
    guided = negative + guidance_scale * direction
    if rescale == 0:
        return guided
    return guided * (1 - rescale + rescale * _deviation(positive) / _deviation(guided))


def estimates(
    prior: AbstractImagePrior,
    z_noisy: Tensor,  # [C, c, h, w]
    sigma: Tensor,  # [C]
    conditions: Conditions,
) -> tuple[Tensor, Tensor, Tensor]:
    """Clean estimates D_pos and D_neg, and the direction of guidance D_pos - D_neg, each [C, c, h, w].

    With `conditions.avoided` the direction also leads away from those, perpendicular to what is wanted.
    """
    import torch  # Here and not above: settings are read without waiting for it.

    assert conditions.negative is not None, "guidance needs a negative condition"
    branches = [conditions.positive, conditions.negative, *(away for away, _ in conditions.avoided)]
    count = len(branches)
    together = prior.denoise(z_noisy.repeat(count, 1, 1, 1), sigma.repeat(count), torch.cat(branches))
    positive, negative, *away = together.chunk(count)
    wanted = direction = positive - negative
    for (_, weight), estimate in zip(conditions.avoided, away, strict=True):
        direction = direction + weight[:, None, None, None].to(wanted) * perpendicular(estimate - negative, wanted)
    return positive, negative, direction


def perpendicular(
    vector: Tensor,  # [C, c, h, w]
    axis: Tensor,  # [C, c, h, w]
) -> Tensor:
    """The part [C, c, h, w] of each sample of `vector` that is perpendicular to that of `axis`; all where that is 0."""
    import torch

    squared = axis.square().sum(dim=(1, 2, 3), keepdim=True)
    share = (vector * axis).sum(dim=(1, 2, 3), keepdim=True) / squared.clamp_min(torch.finfo(axis.dtype).tiny)
    return vector - share * axis


def _deviation(samples: Tensor) -> Tensor:
    return samples.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-8)


def check_guidance(guidance_scale: float, rescale: float = 0.0) -> None:
    """Refuse a guidance scale that is negative or not finite, and a share outside 0 to 1."""
    check_range("loss.guidance_scale", guidance_scale, 0, inf)
    check_range("loss.rescale", rescale, 0, 1)


def check_gradient(loss: AbstractLoss, gradient: object, z: Tensor) -> None:
    """Refuse what the `grad` of a loss returned if it is no tensor of the shape of z."""
    found = list(gradient.shape) if isinstance(gradient, type(z)) else type(gradient).__name__
    if found != list(z.shape):
        name = type(loss).__qualname__
        raise InvalidInput(f"{name}.grad returned {found}, expected a tensor of the shape of z, {list(z.shape)}.")


class AbstractLoss(ABC):
    """A distillation loss: settings only; turns a noisy prediction into a gradient on the clean sample."""

    @property
    @abstractmethod
    def needs_negative(self) -> bool:
        """Whether it asks about the negative prompt too."""

    def check(self, config: DreamConfig) -> None:  # noqa: B027 (most losses allow every run)
        """Refuse what this loss cannot do in a run; no model is loaded.

        Raises:
            InvalidInput: naming the setting.
        """

    def start(self, prior: AbstractImagePrior) -> LossState:
        """What it learns during a run, before the first step.

        Raises:
            InvalidInput: if the prior cannot be used with it.
        """
        return None

    @abstractmethod
    def grad(
        self,
        prior: AbstractImagePrior,
        z: Tensor,  # [C, c, h, w] clean samples of the renderings, no graph needed
        sigma: Tensor,  # [C] noise levels
        conditions: Conditions,
        generator: torch.Generator,
        state: LossState = None,
    ) -> Tensor:
        """The gradient [C, c, h, w] of the loss with respect to z, per sample, without a graph.

        `state` is what `start` returned; a loss that learns changes it.
        """
