"""A radiance field as an asset: density and colour on a grid of voxels, and its pictures.

The representation that SJC (Wang et al., CVPR 2023) optimises: a NeRF (Mildenhall et al. 2020) without a network, whose
numbers are interpolated first and activated then (DVGO, Sun et al. 2022), so that edges are sharper than voxels.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, grid_sample, max_pool3d, softplus

from dreamsplat.assets.draw import render_asset
from dreamsplat.errors import InvalidInput
from dreamsplat.render.rays import pixel_rays
from dreamsplat.render.volume import Samples, composite, march
from dreamsplat.types import AbstractAsset, Cameras, Gaussians, Rendering, check_shapes

LEAST_DEPTH = 0.02
"""Voxels whose neighbours all have an optical depth below this are empty."""


@dataclass(frozen=True, eq=False)
class RadianceField(AbstractAsset):
    """R x R x R voxels whose outermost centres lie on the faces of the cube from -extent to extent."""

    grid: Tensor
    """[4, R, R, R] over z, y, x: softplus of the first is the optical depth across a voxel; sigmoids of the others are
    red, green and blue."""
    extent: float
    """Half the side of the cube, world units."""

    own_ending: ClassVar[str | None] = ".safetensors"

    def __post_init__(self) -> None:
        """Check the shape."""
        check_shapes(grid=(self.grid, "4 R R R"))
        if self.grid.shape[1] < 2 or not self.extent > 0:
            raise InvalidInput(f"{self.grid.shape[1]} voxels over {self.extent}, expected at least 2 over more than 0.")

    @property
    def voxel(self) -> float:
        """Side of a voxel, world units."""
        return 2 * self.extent / (self.grid.shape[1] - 1)

    @property
    def size(self) -> str:
        """See `AbstractAsset.size`."""
        return " x ".join([f"{self.grid.shape[1]}"] * 3) + " voxels"

    @property
    def reach(self) -> float:
        """From the origin to the farthest voxel that is not empty, world units; 0 if all are."""
        places = (self.depth_of_voxels() >= 0).nonzero() * self.voxel - self.extent
        return float(places.norm(dim=1).max()) if len(places) else 0.0

    def gaussians(self) -> Gaussians:
        """Gaussians fitted to its pictures from all around; takes some seconds."""
        from dreamsplat.assets.field_splats import fitted_gaussians

        return fitted_gaussians(self)

    def depth_of_voxels(self) -> Tensor:
        """The optical depth [R, R, R] across each voxel and its neighbours, on average; -1 where all are empty."""
        depth = softplus(self.grid.detach()[None, :1])
        most, mean = (pool(depth, 3, stride=1, padding=1)[0, 0] for pool in (max_pool3d, avg_pool3d))
        return torch.where(most > LEAST_DEPTH, mean, -1)

    def render(
        self,
        cameras: Cameras,  # C
        background: Tensor,  # [3] display colour
        depth_of_voxels: Tensor | None = None,  # [R, R, R]
        step_voxels: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Rendering, Tensor, Samples]:
        """Pictures of C cameras, differentiable; the weights [S] of samples in their pixels, and the samples.

        Args:
            cameras: Outside or inside the cube.
            background: What is behind it.
            depth_of_voxels: Where to sample, and how far: `depth_of_voxels()`, perhaps of a slightly older field.
            step_voxels: Distance of samples.
            generator: See `march`.
        """
        depth_of_voxels = self.depth_of_voxels() if depth_of_voxels is None else depth_of_voxels
        rays = pixel_rays(cameras)
        samples = march(rays, depth_of_voxels, self.extent, step_voxels * self.voxel, generator)
        raw = self._at(samples)
        optical_depth, rgb = softplus(raw[:, 0]) * step_voxels, raw[:, 1:].sigmoid()
        colour, alpha, depth, weights = composite(samples, optical_depth, rgb, rays)
        colour = colour + (1 - alpha)[:, None] * background
        shape = (len(cameras), cameras.height, cameras.width)
        radii_px = colour.new_zeros(len(cameras), 0)
        return Rendering(colour.view(*shape, 3), alpha.view(shape), depth.view(shape), radii_px), weights, samples

    def _at(self, samples: Samples) -> Tensor:
        """The raw numbers [S, 4] at points, by trilinear interpolation."""
        places = (samples.points / self.extent)[None, None, None]
        return grid_sample(self.grid[None], places, padding_mode="border", align_corners=True)[0, :, 0, 0].T

    def refined(self) -> "RadianceField":
        """The same with voxels of half the side."""
        cells = 2 * self.grid.shape[1] - 1
        grid: Any = torch.nn.functional.interpolate(self.grid[None], (cells,) * 3, mode="trilinear", align_corners=True)
        return replace(self, grid=torch.cat([raw_density(softplus(grid[0, :1]) / 2), grid[0, 1:]]))


def raw_density(optical_depth: Tensor) -> Tensor:
    """What the grid holds for optical depths across a voxel, of any shape, > 0: the inverse of softplus."""
    return optical_depth + torch.log(-torch.expm1(-optical_depth))


@render_asset.register
def _(asset: RadianceField, cameras: Cameras, background: tuple[float, float, float]) -> Rendering:
    with torch.no_grad():
        return asset.render(cameras, asset.grid.new_tensor(background))[0]
