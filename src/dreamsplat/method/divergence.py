"""Noticing that a run has gone astray, at the step where it does, before anything is written over."""

from __future__ import annotations

from torch import Tensor

from dreamsplat.errors import Diverged
from dreamsplat.types import Rendering

FAINTEST = 1 / 255
"""A picture that covers less than this anywhere is empty."""
MOST_GAUSSIANS = 5_000_000
"""More than this is an explosion: no object of one prompt needs it, and the end of the memory would come next."""


def check_gradient(
    gradient: Tensor,  # [C, c, h, w] of the loss, before its limit
    step: int,
) -> None:
    """Raise Diverged if a number is not finite: the limit would turn it into 0 and hide it."""
    if not bool(gradient.isfinite().all()):
        raise Diverged(f"step {step}: the gradient of the loss is not finite.")


def check_object(
    leaves: dict[str, Tensor],  # of SplatParams, after the update
    image: Rendering,  # that the step optimised
    step: int,
) -> None:
    """Raise Diverged if a parameter is not finite, all views are empty, or there are far too many Gaussians."""
    if not all(bool(leaf.isfinite().all()) for leaf in leaves.values()):
        name = next(name for name, leaf in leaves.items() if not bool(leaf.isfinite().all()))
        raise Diverged(f"step {step}: {name} holds a number that is not finite.")
    if float(image.alpha.detach().amax()) < FAINTEST:
        raise Diverged(f"step {step}: nothing is left to see of the object.")
    if (count := len(leaves["means"])) > MOST_GAUSSIANS:
        raise Diverged(f"step {step}: {count:,} Gaussians, over {MOST_GAUSSIANS:,}; set --densify.max-gaussians.")
