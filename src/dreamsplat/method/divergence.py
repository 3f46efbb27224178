"""Noticing that a run has diverged, at the step where it happens, before anything is overwritten."""

from collections.abc import Mapping

from torch import Tensor

from dreamsplat.errors import Diverged
from dreamsplat.types import Rendering

FAINTEST = 1 / 255
"""A picture whose alpha is nowhere above this is empty."""


def check_finite(named: Mapping[str, Tensor], step: int) -> None:
    """Raise Diverged, naming the tensor, of any shape, if a number is not finite."""
    for name, tensor in named.items():
        if not bool(tensor.isfinite().all()):
            raise Diverged(f"step {step}: {name} holds a number that is not finite.")


def check_visible(rendering: Rendering, step: int) -> None:
    """Raise Diverged if all views of the step's rendering are empty."""
    if float(rendering.alpha.detach().amax()) < FAINTEST:
        raise Diverged(f"step {step}: nothing is left to see of the object.")
