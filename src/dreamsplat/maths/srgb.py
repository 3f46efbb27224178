"""The sRGB transfer curve, between display colours and linear light. IEC 61966-2-1."""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_to_linear(rgb: Tensor) -> Tensor:
    """Linear light of display colours, both in [0, 1], any shape."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Display colours of linear light, both in [0, 1], any shape; inverse of `srgb_to_linear`."""
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
