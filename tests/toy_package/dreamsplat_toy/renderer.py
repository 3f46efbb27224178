"""A renderer: here the reference again; a real one calls its own kernel."""

from __future__ import annotations

from torch import Tensor

from dreamsplat import Cameras, Gaussians, Rendering
from dreamsplat.render import Backend, reference


def available() -> tuple[bool, str]:
    """Whether it can run here, and why."""
    return True, "an example"


def draw(gaussians: Gaussians, cameras: Cameras, background: Tensor, screen_offsets: Tensor | None) -> Rendering:
    """See `Backend.render`."""
    return reference.render(gaussians, cameras, background, screen_offsets)


PLAIN = Backend(devices=("cpu",), available=available, render=draw)
