"""Rendering Gaussians to images: one function, several backends with the same semantics.

`reference.py` is the specification; the other backends agree with it and are faster.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsplat import registry
from dreamsplat.errors import DeviceUnavailable, InvalidInput
from dreamsplat.render import cpu, gsplat, gswarp, reference, tiled
from dreamsplat.render.checks import check_form
from dreamsplat.types import Cameras, Gaussians, Rendering

__all__ = ["BACKENDS", "Backend", "backend_choice", "render"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """One way to render, with the semantics of `reference.py`."""

    devices: tuple[str, ...]
    """The types of device, such as "cuda", that it renders on; none means any."""
    available: Callable[[], tuple[bool, str]]
    """Whether it can run here, and why or why not."""
    render: Callable[[Gaussians, Cameras, Tensor, Tensor | None], Rendering]
    """Render Gaussians from cameras over a background [C, 3], with screen offsets [C, N, 2] px or None.

    Shapes, dtypes and devices have been checked. Values are for the backend to check, like `checks.check_values`, so
    that one which reads every value anyway does not read them twice."""
    tolerance: float = 1e-4
    """Largest relative L2 error of images and gradients against the reference in float64. A float32 renderer reaches
    about 1e-6; the rest is room for a pixel that falls on the other side of the 1/255 threshold."""

    def runs_on(self, device: torch.device) -> bool:
        """Whether it renders tensors on such a device."""
        return not self.devices or device.type in self.devices


CPU = Backend(("cpu",), cpu.available, cpu.render)
GSPLAT = Backend(("cuda",), gsplat.available, gsplat.render, gsplat.TOLERANCE)
GSWARP = Backend(("cuda",), gswarp.available, gswarp.render, gswarp.TOLERANCE)
TILED = Backend((), tiled.available, tiled.render)
REFERENCE = Backend((), reference.available, reference.render)
BACKENDS: Mapping[str, Backend] = registry.members("renderers")
"""Backends by name."""


@functools.cache
def backend_choice(device: torch.device) -> tuple[str, str]:
    """The backend that `"auto"` uses for tensors on a device, and the reason. Logged once per device.

    It is the first one for this type of device that runs; otherwise plain torch in tiles, which always beats the
    reference.
    """
    reasons = [f"no faster backend for {device.type}"]
    for name, backend in BACKENDS.items():
        if backend.devices and backend.runs_on(device):
            usable, reason = backend.available()
            if usable:
                _log.info("Rendering on %s with the backend %r (%s).", device, name, reason)
                return name, reason
            reasons.append(reason)
    slow = f"slow: {'; '.join(reasons[1:] or reasons)}"
    _log.warning("Rendering on %s with the backend 'tiled' (%s).", device, slow)
    return "tiled", slow


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
        if not BACKENDS[name].runs_on(gaussians.means.device):
            devices = " or ".join(BACKENDS[name].devices)
            raise InvalidInput(f"backend {name!r} renders tensors on {devices}, received {gaussians.means.device}.")
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
