"""One object of the world as opaque Gaussians, by caption: ground truth for teachers, oracles and measurements."""

from __future__ import annotations

import torch

from dreamsplat.types import Gaussians
from dreamsplat.world.data.pictures import SURFACE_POINTS, surface_gaussians
from dreamsplat.world.language.captions import Caption
from dreamsplat.world.language.palette import COLOUR_RGB
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES
from dreamsplat.world.objects.categories import CATEGORIES
from dreamsplat.world.objects.shapes import Surface, surface_points


def draw_surface(caption: Caption, generator: torch.Generator, count: int = SURFACE_POINTS) -> Surface:
    """`count` surface points of a new object; a category that the caption leaves open is drawn too."""
    drawn = int(torch.randint(len(CATEGORY_NAMES), (), generator=generator))
    name = CATEGORY_NAMES[drawn if caption.category is None else caption.category]
    return surface_points(CATEGORIES[name].build(generator), count, generator)


def draw_instance(caption: Caption, generator: torch.Generator) -> Gaussians:
    """A new object as Gaussians; a colour or category that the caption leaves open is drawn too."""
    surface = draw_surface(caption, generator)
    drawn = int(torch.randint(len(COLOUR_RGB), (), generator=generator))
    rgb = COLOUR_RGB[drawn if caption.colour is None else caption.colour]
    return surface_gaussians(surface, surface.colours(rgb))
