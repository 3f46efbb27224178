"""Describing to a 2D prior, in words, which side of the object it sees.

The rule, the suffixes and the negative prompt are those of GaussianDreamer's official code.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

    from dreamsplat.types import Views

ViewWord = Literal["front", "side", "back", "overhead"]
"""What a camera sees of the object."""
VIEW_WORDS: tuple[ViewWord, ...] = get_args(ViewWord)
"""All of them."""

# The official code of GaussianDreamer gives this to every view, as the "unconditional" branch.
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


def blended_views(views: Views) -> tuple[list[str], list[str], Tensor]:
    """The two view words nearest to each of C cameras, and the share [C] of the first, linear in the azimuth.

    The front at azimuth 0, the side at 90, the back at 180 degrees; from overhead that word alone.
    """
    import torch  # Here and not above: settings are read without waiting for it.

    words = [_blend(*angles) for angles in _angles(views)]
    return [near for near, _, _ in words], [far for _, far, _ in words], torch.tensor([share for _, _, share in words])


def opposed_views(views: Views) -> tuple[list[str], list[str], Tensor]:
    """For each of C cameras two view words that it should not show, and their weights [2, C], <= 0.

    Perp-Neg (Armandpour et al. 2023, section 4.2) with the decay constants that threestudio uses: between front and
    side both are held apart; between side and back the front is. From overhead nothing is.
    """
    import torch

    words = [_oppose(*angles) for angles in _angles(views)]
    firsts, seconds, weights = zip(*words, strict=True)
    return list(firsts), list(seconds), torch.tensor(weights).T


def _angles(views: Views) -> list[tuple[float, float]]:
    """Distance in degrees from the front, 0 to 180, and elevation of each camera."""
    turned = [abs((azimuth + 180) % 360 - 180) for azimuth in views.azimuth_deg.tolist()]
    return list(zip(turned, views.elevation_deg.tolist(), strict=True))


def _blend(from_front_deg: float, elevation_deg: float) -> tuple[ViewWord, ViewWord, float]:
    if elevation_deg > OVERHEAD_FROM_DEG:
        return "overhead", "overhead", 1.0
    if from_front_deg <= 90:
        return "front", "side", 1 - from_front_deg / 90
    return "side", "back", 2 - from_front_deg / 90


def _oppose(from_front_deg: float, elevation_deg: float) -> tuple[ViewWord, ViewWord, tuple[float, float]]:
    near, far, share = _blend(from_front_deg, elevation_deg)
    if near == "overhead":
        return "front", "back", (0.0, 0.0)
    if near == "front":
        return near, far, (-_decay(4, 0.5, -2.426, share), -_decay(4, 0.5, -2.426, 1 - share))
    return "side", "front", (-_decay(1, 0.5, -0.606, share), -_decay(1, 0.5, 0.967, share))


def _decay(height: float, rate: float, offset: float, share: float) -> float:
    return height * exp(-rate * share) + offset
