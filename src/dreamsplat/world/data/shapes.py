"""Captioned shapes of the world for training the 3D model, as layers and latents that take any colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamsplat.world.language.palette import draw_colours
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES
from dreamsplat.world.nets.conditions import CONDITION_SIZE
from dreamsplat.world.nets.shape_code import ShapeCode, ShapeGrid, draw_layers, paint_layers, principal_components
from dreamsplat.world.objects.categories import CATEGORIES

SHAPE_LATENT = 96
COLOUR_LATENT = 128
"""Components kept: together they leave 2 % of the variation of shapes and 15 % of that of colours."""


@dataclass(frozen=True)
class ShapePool:
    """Many procedural objects on grids, in layers."""

    distance: Tensor
    """[M, 32^3] half precision."""
    layers: Tensor
    """[M, 16^3, 5] half precision; see `shape_code.draw_layers`."""
    category: Tensor
    """[M] index into CATEGORY_NAMES."""

    def rows(self, index: Tensor) -> ShapePool:
        """The objects that a tensor of indices selects."""
        return ShapePool(self.distance[index], self.layers[index], self.category[index])

    def paint(self, generator: torch.Generator) -> ShapeGrid:
        """Every object once, in a random colour that its category is trained in."""
        _, rgb = draw_colours(self.category, generator)
        return ShapeGrid(self.distance.float(), paint_layers(self.layers.float(), rgb))


def draw_shapes(
    instances: int,
    generator: torch.Generator,
    *,
    categories: Sequence[str] = CATEGORY_NAMES,
    progress: Callable[[int, int], None] | None = None,
) -> ShapePool:
    """Build `instances` objects of each category; `progress` is called with (objects done, objects in all)."""
    total = instances * len(categories)
    distances, layers = [], []
    for done in range(total):
        distance, layer = draw_layers(CATEGORIES[categories[done % len(categories)]].build(generator))
        distances.append(distance.half())
        layers.append(layer.half())
        if progress is not None:
            progress(done + 1, total)
    category = torch.tensor([CATEGORY_NAMES.index(name) for name in categories]).repeat(instances)
    return ShapePool(torch.stack(distances), torch.stack(layers), category)


def fit_code(pool: ShapePool, generator: torch.Generator, rows: int = 2400) -> ShapeCode:
    """The principal components of (at most) `rows` painted objects, scaled so that latents have an rms of 0.5."""
    chosen = pool.rows(torch.randperm(len(pool.category), generator=generator)[:rows])
    grids = chosen.paint(generator)
    shape_mean, shape_basis, shape_scales = principal_components(grids.distance, SHAPE_LATENT)
    rgb_mean, rgb_basis, rgb_scales = principal_components(grids.rgb.flatten(1), COLOUR_LATENT)
    code = ShapeCode(shape_mean, shape_basis, rgb_mean, rgb_basis, torch.cat([shape_scales, rgb_scales]))
    rms = code.encode(grids).square().mean().sqrt() / 0.5
    return ShapeCode(shape_mean, shape_basis * rms, rgb_mean, rgb_basis * rms, code.scales * rms)


@dataclass(frozen=True)
class LatentPool:
    """The latents of many objects, ready to be painted: the colour's latent is affine in the caption's colour."""

    shape: Tensor
    """[M, S]"""
    colour: Tensor
    """[M, T] of the objects in black."""
    colour_by_rgb: Tensor
    """[M, 3, T] added per unit of red, green and blue."""
    category: Tensor
    """[M] index into CATEGORY_NAMES."""

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents [count, S + T] and packed conditions [count, 8] of a random batch in trained colours."""
        rows = torch.randint(len(self.category), (count,), generator=generator)
        colour, rgb = draw_colours(self.category[rows], generator)
        painted = self.colour[rows] + (rgb[:, :, None] * self.colour_by_rgb[rows]).sum(1)
        packed = torch.zeros(count, CONDITION_SIZE)
        packed[:, 0], packed[:, 1] = colour + 1, self.category[rows] + 1
        return torch.cat([self.shape[rows], painted], dim=1), packed


def encode_pool(pool: ShapePool, code: ShapeCode, block: int = 256) -> LatentPool:
    """The latents of a pool's objects."""
    shapes, colours, slopes = [], [], []
    for rows in torch.arange(len(pool.category)).split(block):
        part = pool.rows(rows)
        layers, distance = part.layers.float(), part.distance.float()
        in_black, *in_primaries = (
            code.encode(ShapeGrid(distance, paint_layers(layers, rgb.expand(len(rows), 3))))
            for rgb in (torch.zeros(3), *torch.eye(3))
        )
        shapes.append(in_black[:, : code.shape_size])
        colours.append(in_black[:, code.shape_size :])
        slopes.append(torch.stack([(z - in_black)[:, code.shape_size :] for z in in_primaries], dim=1))
    return LatentPool(torch.cat(shapes), torch.cat(colours), torch.cat(slopes), pool.category)
