"""Standard normal noise that is the same on every device."""

from __future__ import annotations

import torch
from torch import Tensor


def normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape, dtype and device of x, drawn on the CPU from `generator`."""
    return torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)
