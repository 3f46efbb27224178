"""The colours of captions as numbers, and which of them each category is trained in."""

import torch
from torch import Tensor

from dreamsplat.world.language.captions import trained_pairs
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOUR_NAMES, COLOURS

COLOUR_RGB = torch.tensor(list(COLOURS.values()))
"""[10, 3] display colours of the captions."""
COLOUR_JITTER = 0.03
"""Standard deviation of the difference between a caption's colour and the colour of one object."""


def trained_colours() -> Tensor:
    """[categories, colours] 1 where the pair is trained, 0 where it is held out."""
    allowed = torch.zeros(len(CATEGORY_NAMES), len(COLOUR_NAMES))
    for colour, category in trained_pairs():
        allowed[CATEGORY_NAMES.index(category), COLOUR_NAMES.index(colour)] = 1
    return allowed


_TRAINED = trained_colours()


def draw_colours(category: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random trained colour for each of B objects.

    Args:
        category: [B] category indices.
        generator: source of randomness.

    Returns:
        Colour indices [B] and the objects' own display colours [B, 3], a little off the caption's, in [0, 1].
    """
    colour = torch.multinomial(_TRAINED[category], 1, generator=generator)[:, 0]
    rgb = COLOUR_RGB[colour] + COLOUR_JITTER * torch.randn(len(colour), 3, generator=generator)
    return colour, rgb.clamp(0, 1)
