"""Display colours as linear light, by the sRGB curve (IEC 61966-2-1), and as bytes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def srgb_to_linear(rgb: Tensor) -> Tensor:
    """Linear light of display colours, both in [0, 1], any shape."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """Display colours of linear light, both in [0, 1], any shape; inverse of `srgb_to_linear`."""
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """Display colours [..., 3] as bytes: clamped to [0, 1], times 255, rounded to nearest."""
    return (image.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()
