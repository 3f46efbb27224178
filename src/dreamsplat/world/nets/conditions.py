"""What the bundled 2D model is given besides the noisy image: the caption's words, the view word, the exact camera.

A condition is packed into one float tensor [B, 8], so that it can be stacked, cut and sent like any other tensor:
(colour id, category id, view-word id, camera known?, sin azimuth, cos azimuth, elevation, distance). Id 0 means
"not given"; ids of words are their index + 1. Elevation is in units of 90 degrees; distance is relative to the middle
of the trained range.
"""

import math
from dataclasses import astuple

import torch
from torch import Tensor, nn

from dreamsplat.types import Views
from dreamsplat.world.camera_range import WORLD_DISTANCE
from dreamsplat.world.language.captions import Caption
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOUR_NAMES, VIEW_WORDS

CONDITION_SIZE = 8


def camera_token(azimuth_deg: Tensor, elevation_deg: Tensor, distance: Tensor) -> Tensor:
    """The exact camera [B, 5]: (1, sin azimuth, cos azimuth, elevation / 90, relative distance), from three [B]."""
    azimuth = azimuth_deg * math.pi / 180
    middle = sum(WORLD_DISTANCE) / 2
    relative = (distance - middle) / (WORLD_DISTANCE[1] - middle)
    return torch.stack([torch.ones_like(azimuth), azimuth.sin(), azimuth.cos(), elevation_deg / 90, relative], dim=1)


def pack_condition(captions: list[Caption], views: Views | None = None) -> Tensor:
    """[B, 8] conditions that hold the captions' words and, if given, the views' exact cameras."""
    packed = torch.zeros(len(captions), CONDITION_SIZE)
    for row, caption in zip(packed, captions, strict=True):
        row[:3] = torch.tensor([0.0 if index is None else index + 1.0 for index in astuple(caption)])
    if views is not None:
        packed[:, 3:] = camera_token(views.azimuth_deg, views.elevation_deg, views.distance).cpu()
    return packed


def drop_conditions(
    packed: Tensor, generator: torch.Generator, *, words: float, word: float, view: float, camera: float
) -> Tensor:
    """Forget parts of conditions [B, 8] at random, so that each part can later be used, or left out, alone.

    Classifier-free guidance (Ho & Salimans 2022) needs captions that can be dropped; seeing a colour without its
    object, and an object without its colour, teaches that they combine; and comparing the paper's view words with exact
    cameras needs each without the other.

    Args:
        packed: the conditions.
        generator: source of randomness.
        words: probability of dropping the whole caption.
        word: probability of dropping the colour, and of dropping the category, on top of that.
        view: probability of dropping the view word.
        camera: probability of dropping the exact camera.
    """
    probabilities = torch.tensor([words, word, word, view, camera])
    keep = (torch.rand(len(packed), 5, generator=generator) >= probabilities).float()
    both, colour, category, view_word, exact_camera = keep.split(1, dim=1)
    kept = torch.cat([both * colour, both * category, view_word, exact_camera.expand(-1, 5)], dim=1)
    return packed * kept


class ConditionEncoder(nn.Module):
    """Packed conditions [B, 8] -> embedding [B, E]: the sum of word embeddings and a camera projection."""

    def __init__(self, size: int) -> None:
        """Create the tables; `size` is E."""
        super().__init__()
        self.colour = nn.Embedding(len(COLOUR_NAMES) + 1, size)
        self.category = nn.Embedding(len(CATEGORY_NAMES) + 1, size)
        self.view = nn.Embedding(len(VIEW_WORDS) + 1, size)
        self.camera = nn.Linear(17, size)

    def forward(self, packed: Tensor) -> Tensor:
        """Embed [B, 8] -> [B, E]."""
        colour, category, view = packed[:, :3].round().long().unbind(1)
        known, sin, cos, elevation, distance = packed[:, 3:].unbind(1)
        azimuth = torch.atan2(sin, cos)
        harmonics = [f(k * azimuth) for k in (1, 2, 3, 4) for f in (torch.sin, torch.cos)]
        tilt = [f(k * math.pi / 2 * elevation) for k in (1, 2, 4) for f in (torch.sin, torch.cos)]
        features = torch.stack([torch.ones_like(known), *harmonics, *tilt, distance, distance**2], dim=1)
        camera = self.camera(features * known[:, None])
        return self.colour(colour) + self.category(category) + self.view(view) + camera
