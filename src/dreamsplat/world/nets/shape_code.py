"""Shapes on grids, and the linear code in which the bundled 3D model imagines them.

A shape is a truncated signed distance on a 32^3 grid and a colour on a 16^3 grid, both over the cube [-1, 1]^3. All
objects of the world stand in the same axes, so shapes vary along few directions: their principal components are the
latent space of the 3D diffusion model (linear, exact to invert, and fitted in seconds).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dreamsplat.types import PointCloud
from dreamsplat.world.objects.shapes import Part, nearest_part_colour, signed_distance

SHAPE_GRID = 32
COLOUR_GRID = 16
TRUNCATION = 0.16
"""Distances are cut at this far from the surface, world units: 2.5 cells, so that every surface crosses full cells."""


def cell_centres(cells: int) -> Tensor:
    """Centres [cells^3, 3] of a grid over [-1, 1]^3, x slowest."""
    axis = (torch.arange(cells) + 0.5) * (2 / cells) - 1
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)


@dataclass(frozen=True)
class ShapeGrid:
    """Objects on grids; B of them."""

    distance: Tensor
    """[B, 32^3] signed distance / TRUNCATION, in [-1, 1], negative inside."""
    rgb: Tensor
    """[B, 16^3, 3] display colour near the surface, fading to grey (0.5) away from it."""


def draw_layers(parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """One object as layers that any caption colour can be painted into.

    Returns:
        distance [32^3] as `ShapeGrid` holds it; and [16^3, 5]: fixed rgb, weight of the caption's colour, and how close
        to the surface the cell is (1 on it, 0 away from it).
    """
    distance = (signed_distance(parts, cell_centres(SHAPE_GRID)) / TRUNCATION).clamp(-1, 1)
    cells = cell_centres(COLOUR_GRID)
    closeness = (1.6 - signed_distance(parts, cells).abs() / TRUNCATION).clamp(0, 1)
    base, main = nearest_part_colour(parts, cells)
    return distance, torch.cat([base, main[:, None], closeness[:, None]], dim=1)


def paint_layers(layers: Tensor, rgb: Tensor) -> Tensor:
    """Colours [B, 16^3, 3] of layers [B, 16^3, 5] in the caption colours rgb [B, 3]."""
    colour = layers[..., :3] + layers[..., 3:4] * rgb[:, None, :]
    return 0.5 + layers[..., 4:] * (colour - 0.5)


def _sample(grid: Tensor, xyz: Tensor) -> Tensor:
    """Trilinear values [P, c] of a grid [c, n, n, n] at points [P, 3] of [-1, 1]^3."""
    where = xyz.flip(-1)[None, None, None]
    return F.grid_sample(grid[None], where, padding_mode="border", align_corners=False)[0, :, 0, 0].T


def surface_cloud(distance: Tensor, rgb: Tensor, count: int, generator: torch.Generator) -> PointCloud:
    """Points on the zero level of one shape, coloured by it.

    Candidates are drawn in the cells that the surface may cross and moved onto it along the gradient of the distance.

    Args:
        distance: [32^3].
        rgb: [16^3, 3].
        count: number of points; none are returned if the shape has no surface.
        generator: source of randomness.
    """
    n = SHAPE_GRID
    shape = distance.reshape(1, n, n, n)
    colour = rgb.T.reshape(3, COLOUR_GRID, COLOUR_GRID, COLOUR_GRID)
    near = cell_centres(n)[distance.abs() < 0.9]
    kept: list[Tensor] = []
    for _ in range(40):
        if len(near) == 0 or sum(map(len, kept)) >= count:
            break
        rows = torch.randint(len(near), (2 * count,), generator=generator)
        xyz = near[rows] + (torch.rand(len(rows), 3, generator=generator) - 0.5) * (2 / n)
        for _ in range(3):
            xyz = _towards_surface(shape, xyz)
        kept.append(xyz[(_sample(shape, xyz)[:, 0].abs() < 0.08) & (xyz.abs() < 1).all(1)])
    xyz = torch.cat([*kept, near[:0]])[:count]
    return PointCloud(xyz, _sample(colour, xyz).clamp(0, 1))


def _towards_surface(shape: Tensor, xyz: Tensor, step: float = 1 / SHAPE_GRID) -> Tensor:
    """One Newton step of points [P, 3] towards the zero level of a distance grid [1, n, n, n]."""
    shifts = torch.eye(3) * step
    gradient = torch.cat([_sample(shape, xyz + s) - _sample(shape, xyz - s) for s in shifts], dim=1) / (2 * step)
    value = _sample(shape, xyz)
    move = value * gradient / gradient.square().sum(1, keepdim=True).clamp_min(1e-2)
    return xyz - move.clamp(-step, step)


@dataclass(frozen=True)
class ShapeCode:
    """Principal components of shapes: latents z [B, S + T] <-> `ShapeGrid`."""

    shape_mean: Tensor
    """[32^3]"""
    shape_basis: Tensor
    """[S, 32^3] orthonormal rows times the scale of their latent."""
    rgb_mean: Tensor
    """[16^3 x 3]"""
    rgb_basis: Tensor
    """[T, 16^3 x 3] likewise."""
    scales: Tensor
    """[S + T] length of each basis row; latents are coordinates divided by it."""

    @property
    def shape_size(self) -> int:
        """S, the length of the shape's part of a latent."""
        return len(self.shape_basis)

    def encode(self, grid: ShapeGrid) -> Tensor:
        """Latents [B, S + T]."""
        shape = (grid.distance - self.shape_mean) @ self.shape_basis.T
        colour = (grid.rgb.flatten(1) - self.rgb_mean) @ self.rgb_basis.T
        return torch.cat([shape, colour], dim=1) / self.scales**2

    def decode(self, z: Tensor) -> ShapeGrid:
        """Shapes of latents z [B, S + T]."""
        shape, colour = z.tensor_split([self.shape_size], dim=1)
        distance = self.shape_mean + shape @ self.shape_basis
        rgb = self.rgb_mean + colour @ self.rgb_basis
        return ShapeGrid(distance.clamp(-1, 1), rgb.reshape(len(z), -1, 3).clamp(0, 1))


def principal_components(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [D], basis [count, D] and scales [count] of data rows [M, D], by the eigenvectors of the M x M products.

    A row of the basis is a unit direction times its scale, the square root of the standard deviation of the data along
    it: a compromise between equal variance of all latents (which would let noise in the last ones count as much as the
    outline) and true variance (where the last ones would never be learned).
    """
    mean = rows.mean(0)
    centred = rows - mean
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    values, vectors = values.flip(0)[:count].clamp_min(1e-6), vectors.flip(1)[:, :count]
    directions = (vectors.T @ centred) / values.sqrt()[:, None]
    scales = (values / len(rows)).sqrt().sqrt()
    return mean, directions * scales[:, None], scales
