"""One object of the world as opaque Gaussians, by caption: ground truth for teachers, the judge and measurements."""

import torch
from torch import Tensor

from dreamsplat.maths.harmonics import rgb_to_sh
from dreamsplat.maths.neighbours import nearest_neighbours
from dreamsplat.types import Gaussians
from dreamsplat.world.language.captions import Caption
from dreamsplat.world.language.palette import COLOUR_RGB
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES
from dreamsplat.world.objects.categories import CATEGORIES
from dreamsplat.world.objects.shapes import LitPoints, surface_points

SURFACE_POINTS = 8192
"""Points per object: their spacing stays under a pixel up to 128 px."""


def surface_gaussians(surface: LitPoints, rgb: Tensor) -> Gaussians:
    """Opaque round Gaussians on the points of a surface, in the colours rgb [P, 3]; their size follows the spacing.

    Points drawn at random with a mean spacing d are on average d / 2 from their nearest neighbour.
    """
    count = len(surface.xyz)
    distances, _ = nearest_neighbours(surface.xyz, surface.xyz, 2)
    spacing = 2 * float(distances[:, 1].mean())
    return Gaussians(
        means=surface.xyz,
        scales=torch.full((count, 3), 0.6 * spacing),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4).contiguous(),
        opacities=torch.full((count,), 0.95),
        sh=rgb_to_sh(rgb)[:, None, :],
    )


def draw_object(caption: Caption, generator: torch.Generator) -> Gaussians:
    """A new object as Gaussians; a colour or category that the caption leaves open is drawn too."""
    drawn = int(torch.randint(len(CATEGORY_NAMES), (), generator=generator))
    name = CATEGORY_NAMES[drawn if caption.category is None else caption.category]
    surface = surface_points(CATEGORIES[name].build(generator), SURFACE_POINTS, generator)
    drawn = int(torch.randint(len(COLOUR_RGB), (), generator=generator))
    rgb = COLOUR_RGB[drawn if caption.colour is None else caption.colour]
    return surface_gaussians(surface, surface.colours(rgb))
