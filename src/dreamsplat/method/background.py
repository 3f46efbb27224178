"""What renderings are composited over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Background = Literal["black", "white", "random"]
"""A colour, or "random": a grey level drawn in each step."""


def draw_background(kind: Background, generator: torch.Generator) -> Tensor:
    """The background colour [3] of one step, on the CPU."""
    import torch  # Here and not above: settings are read without waiting for it.

    grey = {"black": 0.0, "white": 1.0}.get(kind)
    return torch.full((3,), float(torch.rand((), generator=generator)) if grey is None else grey)
