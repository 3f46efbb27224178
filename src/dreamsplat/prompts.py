"""Telling a 2D prior which side of the object it should see, in words.

The rule, the suffixes and the negative prompt are those of GaussianDreamer's official code (method.md 2.4).
"""

from __future__ import annotations

from typing import Literal

from dreamsplat.types import Views

ViewWord = Literal["front", "side", "back", "overhead"]
"""What a camera sees of the object."""

# The official code of GaussianDreamer gives this to every view, as the "unconditional" branch (method.md 2.4).
NEGATIVE_PROMPT = (
    "ugly, bad anatomy, blurry, pixelated obscure, unnatural colors, poor lighting, dull, and unclear, cropped, "
    "lowres, low quality, artifacts, duplicate, morbid, mutilated, poorly drawn face, deformed, dehydrated, "
    "bad proportions, unfocused"
)
"""What no view should look like."""

FRONT_HALF_ANGLE_DEG = 45.0
"""The front is seen from azimuths strictly within this of 0."""
BACK_FROM_DEG = 135.0
"""The back is seen from azimuths strictly beyond this on either side."""
OVERHEAD_FROM_DEG = 60.0
"""Strictly above this elevation a view is from overhead, whatever its azimuth; the paper's cameras never get there."""


def view_word(azimuth_deg: float, elevation_deg: float) -> ViewWord:
    """What a camera at these angles sees; the azimuth may be any number of turns off."""
    azimuth_deg = (azimuth_deg + 180) % 360 - 180
    if elevation_deg > OVERHEAD_FROM_DEG:
        return "overhead"
    if abs(azimuth_deg) < FRONT_HALF_ANGLE_DEG:
        return "front"
    if abs(azimuth_deg) > BACK_FROM_DEG:
        return "back"
    return "side"


def view_prompts(prompt: str, views: Views) -> list[str]:
    """The prompt of each of the C views: `"a corgi"` becomes `"a corgi, front view"` and so on."""
    angles = zip(views.azimuth_deg.tolist(), views.elevation_deg.tolist(), strict=True)
    return [f"{prompt}, {view_word(azimuth, elevation)} view" for azimuth, elevation in angles]
