"""Which device to run on."""

from __future__ import annotations

from typing import Literal

import torch

from dreamsplat.errors import DeviceUnavailable


def resolve_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device that a name asks for; "auto" takes a CUDA device if there is one.

    Raises:
        DeviceUnavailable: for "cuda" where torch finds no CUDA device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(
            "device: 'cuda' was asked for, but torch finds no CUDA device. Use --device cpu or auto."
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
