"""Standard normal noise that is the same on every device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape, dtype and device of x, drawn on the CPU from `generator`."""
    import torch  # Here and not above: settings are read without waiting for it.

    return torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)
