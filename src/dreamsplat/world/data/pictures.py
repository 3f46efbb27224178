"""Captioned pictures of the world: procedural objects drawn by the package's own renderer, for training and measuring.

The colour of lit points is linear in the caption's colour (`shapes.LitPoints`), and so is a rendering. A pool therefore
keeps each picture in layers, the fixed colour and the weight of the caption's colour, and paints it in a new colour
each time it is used: one rendered view serves all captions of its category.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsplat.method.cameras import sample_views
from dreamsplat.method.prompts import view_word
from dreamsplat.render import render
from dreamsplat.types import Views
from dreamsplat.world.camera_range import WORLD_CAMERAS
from dreamsplat.world.language.palette import draw_colours
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, VIEW_WORDS
from dreamsplat.world.nets.conditions import camera_token
from dreamsplat.world.objects.categories import CATEGORIES
from dreamsplat.world.objects.draw_object import SURFACE_POINTS, surface_gaussians
from dreamsplat.world.objects.shapes import LitPoints, surface_points


def render_layers(surface: LitPoints, views: Views) -> Tensor:
    """The picture of an object in layers [C, 5, H, W]: fixed premultiplied RGB, weight of the main colour, alpha."""
    fixed = render(surface_gaussians(surface, surface.base_rgb), views.cameras)
    main = render(surface_gaussians(surface, surface.main_shade[:, None].expand(-1, 3)), views.cameras)
    layers = torch.cat([fixed.rgb, main.rgb[..., :1], fixed.alpha[..., None]], dim=-1)
    return layers.permute(0, 3, 1, 2).contiguous()


def paint(layers: Tensor, rgb: Tensor) -> Tensor:
    """Model images z = 2 x (premultiplied RGB, alpha) [B, 4, H, W] from layers [B, 5, H, W] and colours rgb [B, 3]."""
    return 2 * torch.cat([layers[:, :3] + layers[:, 3:4] * rgb[:, :, None, None], layers[:, 4:]], dim=1)


@dataclass(frozen=True)
class PicturePool:
    """Rendered views of many procedural objects, in layers, and what a caption says about each."""

    layers: Tensor
    """[M, 5, R, R] uint8, 255 times the layers of `render_layers`."""
    category: Tensor
    """[M] index into CATEGORY_NAMES."""
    view: Tensor
    """[M] index into VIEW_WORDS."""
    camera: Tensor
    """[M, 5] camera tokens."""

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random batch, each picture in a random colour that its category is trained in.

        Returns:
            z [count, 4, R, R] model images and packed conditions [count, 8].
        """
        rows = torch.randint(len(self.category), (count,), generator=generator)
        category = self.category[rows]
        colour, rgb = draw_colours(category, generator)
        words = torch.stack([colour + 1, category + 1, self.view[rows] + 1], dim=1).float()
        z = paint(self.layers[rows].float() / 255, rgb)
        return z, torch.cat([words, self.camera[rows]], dim=1)


def draw_pictures(
    instances: int,
    views: int,
    resolution: int,
    generator: torch.Generator,
    *,
    categories: Sequence[str] = CATEGORY_NAMES,
    progress: Callable[[int, int], None] | None = None,
) -> PicturePool:
    """Build and render `instances` objects of each category from `views` random cameras each.

    Args:
        instances: objects per category.
        views: cameras per object.
        resolution: image size, px.
        generator: source of shapes and cameras; pools from different seeds share no object.
        categories: which categories to draw.
        progress: called with (objects done, objects in all).
    """
    total = instances * len(categories)
    layers = torch.empty(total * views, 5, resolution, resolution, dtype=torch.uint8)
    category = torch.empty(total * views, dtype=torch.long)
    view = torch.empty(total * views, dtype=torch.long)
    camera = torch.empty(total * views, 5)
    for done in range(total):
        name = categories[done % len(categories)]
        surface = surface_points(CATEGORIES[name].build(generator), SURFACE_POINTS, generator)
        seen = sample_views(WORLD_CAMERAS, views, resolution, generator)
        rows = slice(done * views, (done + 1) * views)
        layers[rows] = (render_layers(surface, seen) * 255).round().clamp(0, 255).to(torch.uint8)
        category[rows] = CATEGORY_NAMES.index(name)
        words = [view_word(a, e) for a, e in zip(seen.azimuth_deg.tolist(), seen.elevation_deg.tolist(), strict=True)]
        view[rows] = torch.tensor([VIEW_WORDS.index(word) for word in words])
        camera[rows] = camera_token(seen.azimuth_deg, seen.elevation_deg, seen.distance)
        if progress is not None:
            progress(done + 1, total)
    return PicturePool(layers, category, view, camera)
