"""The colours of captions as numbers, and which of them each category is trained in."""

import torch
from torch import Tensor

from dreamsplat.world.language.captions import trained_pairs
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOUR_NAMES, COLOURS

COLOUR_RGB = torch.tensor(list(COLOURS.values()))
"""[10, 3] display colours of the captions."""
COLOUR_JITTER = 0.03
"""Standard deviation of the difference between a caption's colour and the colour of one object."""

_PAIRS = set(trained_pairs())
_TRAINED = torch.tensor([[float((colour, name) in _PAIRS) for colour in COLOUR_NAMES] for name in CATEGORY_NAMES])
"""[categories, colours] 1 where the pair is trained, 0 where it is held out."""


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
