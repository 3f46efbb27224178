"""Damaged copies of valid files, and what a reader may do with them: refuse in one line, or return usable Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from dreamsplat.errors import FileProblem
from dreamsplat.types import Gaussians

repeatable = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
"""For tests of damaged files: the same damage on every run, so that no change elsewhere makes one fail by chance."""


def damaged(content: bytes, data: st.DataObject, pieces: list[bytes], start: int = 0) -> bytes:
    """A copy of `content` with 1 to 4 places flipped, cut out or filled with one of `pieces`, or its end cut off."""
    copy = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        if len(copy) <= start:
            break
        # Half of the places are near the start, where headers lie.
        last = data.draw(st.sampled_from([min(len(copy) - 1, start + 400), len(copy) - 1]))
        place = data.draw(st.integers(min(start, last), last))
        match data.draw(st.sampled_from(["flip", "remove", "insert", "cut"])):
            case "flip":
                copy[place] = data.draw(st.integers(0, 255))
            case "remove":
                del copy[place : place + data.draw(st.integers(1, 8))]
            case "insert":
                copy[place:place] = data.draw(st.sampled_from(pieces))
            case "cut":
                del copy[place:]
    return bytes(copy)


def assert_usable_or_refused(read: Callable[[Path], Gaussians], path: Path) -> None:
    """Read a file; anything but a one-line FileProblem or Gaussians with finite, physical values fails."""
    try:
        loaded = read(path)
    except FileProblem as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        return
    assert all(bool(torch.isfinite(values).all()) and values.dtype == torch.float32 for values in vars(loaded).values())
    assert bool((loaded.scales > 0).all()) and bool(((loaded.opacities >= 0) & (loaded.opacities <= 1)).all())
    torch.testing.assert_close(loaded.quats.norm(dim=-1), torch.ones(len(loaded)))
