"""Rendering Gaussians to images: one function, several backends with the same semantics.

`reference.py` is the specification; the other backends agree with it and are faster.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dreamsplat.errors import DeviceUnavailable, InvalidInput
from dreamsplat.render import cpu, gsplat, reference, tiled
from dreamsplat.render.checks import check_form
from dreamsplat.types import Cameras, Gaussians, Rendering

__all__ = ["BACKENDS", "Backend", "backend_choice", "render"]

_log = logging.getLogger(__name__)


class Backend(Protocol):
    """A module that renders."""

    def render(
        self, gaussians: Gaussians, cameras: Cameras, background: Tensor, screen_offsets: Tensor | None
    ) -> Rendering:
        """Render; background is [C, 3], screen_offsets is [C, N, 2] px.

        Shapes, dtypes and devices have been checked. Values are for the backend to check, like `checks.check_values`,
        so that one which reads every value anyway does not read them twice.
        """
        ...

    def available(self) -> tuple[bool, str]:
        """Whether it can run here, and why or why not."""
        ...


BACKENDS: dict[str, Backend] = {"cpu": cpu, "gsplat": gsplat, "tiled": tiled, "reference": reference}
"""Backends by name; add one here."""
DEVICES = {"cpu": "cpu", "gsplat": "cuda"}
"""The one type of device that a backend renders on, if it is bound to one."""


@functools.cache
def backend_choice(device: torch.device) -> tuple[str, str]:
    """The backend that `"auto"` uses for tensors on a device, and the reason. Logged once per device.

    It is the device's own kernel if that runs; otherwise plain torch in tiles, which always beats the reference.
    """
    name = next((name for name, kind in DEVICES.items() if kind == device.type), None)
    usable, reason = BACKENDS[name].available() if name else (False, f"no faster backend for {device.type}")
    level = logging.INFO
    if name is None or not usable:
        name, level, reason = "tiled", logging.WARNING, f"slow: {reason}"
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
        gaussians: What to render, float32 or float64. Gradients flow to all five tensors.
        cameras: Pinhole cameras. They get no gradient.
        background: Colour behind the Gaussians. Gets a gradient if it is a tensor that requires one.
        screen_offsets: Added to the projected centres. Zeros that require a gradient receive the gradient of the image
            with respect to positions on screen, which densification needs.
        backend: A key of BACKENDS, or `"auto"`, see `backend_choice`.

    Returns:
        Images with the dtype and device of `gaussians.means`; `"cpu"` and `"gsplat"` compute in float32 in any case.

    Raises:
        InvalidInput: for shapes, dtypes, devices or values that cannot be rendered.
        DeviceUnavailable: if the requested backend cannot run.
    """
    name = backend_choice(gaussians.means.device)[0] if backend == "auto" else backend
    if name not in BACKENDS:
        raise InvalidInput(f"backend: {backend!r}, expected 'auto' or one of {', '.join(map(repr, BACKENDS))}.")
    if backend != "auto":
        usable, reason = BACKENDS[name].available()
        if not usable:
            raise DeviceUnavailable(f"backend {name!r} cannot run: {reason}")
        kind = DEVICES.get(name)
        if kind and gaussians.means.device.type != kind:
            raise InvalidInput(f"backend {name!r} renders tensors on {kind}, received {gaussians.means.device}.")
    behind = background if isinstance(background, Tensor) else _colour(background, like=gaussians.means)
    if behind.dim() == 1:
        behind = behind.expand(len(cameras), -1)
    check_form(gaussians, cameras, behind, screen_offsets)
    return BACKENDS[name].render(gaussians, cameras, behind, screen_offsets)


def _colour(numbers: Sequence[float], like: Tensor) -> Tensor:
    try:
        return torch.tensor(numbers, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput(f"background: {numbers!r}, expected three numbers or a tensor of colours.") from error
