"""Noticing that a run has diverged, at the step where it happens, before anything is overwritten."""

from collections.abc import Mapping

from torch import Tensor

from dreamsplat.errors import Diverged
from dreamsplat.types import Rendering

FAINTEST = 1 / 255
"""A picture whose alpha is nowhere above this is empty."""


def check_finite(
    named: Mapping[str, Tensor],  # of any shape
    step: int,
) -> None:
    """Raise Diverged, naming the tensor, if a number is not finite."""
    for name, tensor in named.items():
        if not bool(tensor.isfinite().all()):
            raise Diverged(f"step {step}: {name} holds a number that is not finite.")


def check_visible(
    rendering: Rendering,  # that the step optimised
    step: int,
) -> None:
    """Raise Diverged if all views are empty."""
    if float(rendering.alpha.detach().amax()) < FAINTEST:
        raise Diverged(f"step {step}: nothing is left to see of the object.")
