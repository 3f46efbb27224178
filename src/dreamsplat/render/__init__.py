"""Rendering Gaussians to images: one function, several backends with the same semantics.

`reference.py` is the specification; the other backends are faster and agree with it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dreamsplat.errors import DeviceUnavailable, InvalidInput
from dreamsplat.render import cpu, reference
from dreamsplat.types import Cameras, Gaussians, Rendering, check_shapes

__all__ = ["BACKENDS", "Backend", "backend_choice", "render"]

_log = logging.getLogger(__name__)


class Backend(Protocol):
    """A module that renders."""

    def render(
        self, gaussians: Gaussians, cameras: Cameras, background: Tensor, screen_offsets: Tensor | None
    ) -> Rendering:
        """Render valid inputs; background is [C, 3], screen_offsets is [C, N, 2] px."""
        ...

    def available(self) -> tuple[bool, str]:
        """Whether it can run here, and why."""
        ...


BACKENDS: dict[str, Backend] = {"cpu": cpu, "reference": reference}
"""Backends by name; add one here."""


@functools.cache
def backend_choice(device: torch.device) -> tuple[str, str]:
    """The backend that `"auto"` takes for tensors on a device, and the reason. Logs it, once per device."""
    usable, reason = cpu.available()
    if device.type == "cpu" and usable:
        name, level = "cpu", logging.INFO
    else:
        name, level = "reference", logging.WARNING
        reason = f"slow: {reason}" if device.type == "cpu" else f"slow: no faster backend for {device.type}"
    _log.log(level, "Rendering on %s with the backend %r (%s).", device, name, reason)
    return name, reason


def render(
    gaussians: Gaussians,  # N
    cameras: Cameras,  # C
    *,
    background: Tensor | Sequence[float] = (0.0, 0.0, 0.0),  # [3] or [C, 3] display colours
    screen_offsets: Tensor | None = None,  # [C, N, 2] px
    backend: str = "auto",
) -> Rendering:
    """Render N Gaussians from C cameras by front-to-back blending. Kerbl et al. 2023, section 6.

    Args:
        gaussians: What to render; float32 or float64. Gradients flow to all five tensors.
        cameras: Pinhole cameras. They get no gradient.
        background: Colour behind the Gaussians. Gets a gradient if it is a tensor that requires one.
        screen_offsets: Added to the projected centres. Zeros that require a gradient measure how the image moves the
            Gaussians on screen, which densification needs.
        backend: A key of BACKENDS, or `"auto"`, see `backend_choice`.

    Returns:
        Images with the dtype and device of `gaussians.means`; the backend `"cpu"` computes in float32 all the same.

    Raises:
        InvalidInput: for shapes, dtypes, devices or values that cannot be rendered.
        DeviceUnavailable: when the backend asked for cannot run.
    """
    name = backend_choice(gaussians.means.device)[0] if backend == "auto" else backend
    if name not in BACKENDS:
        raise InvalidInput(f"backend: {backend!r}, expected 'auto' or one of {', '.join(map(repr, BACKENDS))}.")
    if backend != "auto":
        usable, reason = BACKENDS[name].available()
        if not usable:
            raise DeviceUnavailable(f"backend {name!r} cannot run: {reason}")
        if name == "cpu" and gaussians.means.device.type != "cpu":
            raise InvalidInput(f"backend 'cpu' renders tensors on the CPU, received {gaussians.means.device}.")
    behind = background if isinstance(background, Tensor) else _colour(background, like=gaussians.means)
    if behind.dim() == 1:
        behind = behind.expand(len(cameras), -1)
    _check(gaussians, cameras, behind, screen_offsets)
    return BACKENDS[name].render(gaussians, cameras, behind, screen_offsets)


def _colour(numbers: Sequence[float], like: Tensor) -> Tensor:
    try:
        return torch.tensor(numbers, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"background: {numbers!r}, expected three numbers or a tensor of colours.") from error


def _check(gaussians: Gaussians, cameras: Cameras, background: Tensor, screen_offsets: Tensor | None) -> None:
    """Raise InvalidInput unless all tensors agree in dtype and device and hold values that can be rendered."""
    ranges: dict[str, tuple[Tensor, float, float]] = {  # name: (tensor, least, greatest)
        "means": (gaussians.means, -torch.inf, torch.inf),
        "scales": (gaussians.scales, 0.0, torch.inf),
        "quats": (gaussians.quats, -torch.inf, torch.inf),
        "opacities": (gaussians.opacities, 0.0, 1.0),
        "sh": (gaussians.sh, -torch.inf, torch.inf),
        "world_to_camera": (cameras.world_to_camera, -torch.inf, torch.inf),
        "intrinsics": (cameras.intrinsics, -torch.inf, torch.inf),
        "background": (background, -torch.inf, torch.inf),
    }
    shapes = {"means": (gaussians.means, "N 3"), "world_to_camera": (cameras.world_to_camera, "C 4 4")}
    shapes["background"] = (background, "C 3")
    if screen_offsets is not None:
        ranges["screen_offsets"] = (screen_offsets, -torch.inf, torch.inf)
        shapes["screen_offsets"] = (screen_offsets, "C N 2")
    check_shapes(**shapes)
    if len(cameras) == 0:
        raise InvalidInput("cameras: none, expected at least one.")
    like = gaussians.means
    if like.dtype not in (torch.float32, torch.float64):
        raise InvalidInput(f"means: dtype {like.dtype}, expected torch.float32 or torch.float64.")
    for name, (tensor, least, greatest) in ranges.items():
        if tensor.dtype != like.dtype or tensor.device != like.device:
            raise InvalidInput(
                f"{name}: {tensor.dtype} on {tensor.device}, expected {like.dtype} on {like.device} as for means."
            )
        _check_values(name, tensor, least, greatest)
    if len(gaussians) and _bounds(gaussians.scales)[0] == 0:
        raise InvalidInput("scales: a value of 0, expected values above 0.")
    if _has_zero_row(gaussians.quats.detach()):
        raise InvalidInput("quats: a quaternion of length 0, expected any other length.")
    if not cameras.intrinsics.detach().diagonal(dim1=-2, dim2=-1)[:, :2].amin() > 0:
        raise InvalidInput("intrinsics: a focal length of 0 px or less, expected more than 0.")


def _check_values(name: str, tensor: Tensor, least: float, greatest: float) -> None:
    if tensor.numel() == 0:
        return
    low, high = _bounds(tensor)  # not-a-number, if any, shows in both
    if -torch.inf < low and high < torch.inf and least <= low and high <= greatest:
        return
    if not (-torch.inf < low and high < torch.inf):
        row = int((~torch.isfinite(tensor)).reshape(len(tensor), -1).any(dim=1).nonzero()[0])
        raise InvalidInput(f"{name}: row {row} holds a value that is not finite; look upstream for a division by zero.")
    raise InvalidInput(f"{name}: values from {low:g} to {high:g}, expected {least:g} to {greatest:g}.")


def _bounds(tensor: Tensor) -> tuple[float, float]:
    if tensor.device.type != "cpu":
        low, high = torch.aminmax(tensor.detach())
        return low.item(), high.item()
    # Not torch: on busy cores its thread team takes milliseconds to assemble, for microseconds of work.
    values = tensor.detach().numpy()
    with np.errstate(invalid="ignore"):
        return values.min().item(), values.max().item()


def _has_zero_row(tensor: Tensor) -> bool:
    if tensor.device.type != "cpu":
        return not bool(tensor.any(dim=-1).all())
    values = tensor.numpy()  # see _bounds; counting is far quicker than a reduction over short rows
    return bool(np.count_nonzero(values) < values.size and not values.any(axis=-1).all())
