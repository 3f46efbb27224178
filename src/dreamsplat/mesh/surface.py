"""The closed surface of an object of Gaussians: where their density passes a level, without strays and hollows.

The grid follows the object: it shrinks around what is kept, so that strays far away do not take its resolution. A
splat object is often a hollow skin. Empty voxels that the outside cannot reach are filled, since nobody sees them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array

from dreamsplat.assets.gaussians import rows
from dreamsplat.errors import InvalidInput, MissingDependency
from dreamsplat.mesh.density import MIN_ALPHA, Grid, bounds, density_on, grid_over
from dreamsplat.types import Gaussians

_COARSE = 64  # Voxels along the longest side of the grids that only find out where the object is.


@dataclass(frozen=True)
class SurfaceSettings:
    """How a surface is taken from Gaussians."""

    resolution: int = 128
    """Voxels along the longest side of the object, 16 to 512."""
    level: float = 0.4
    """Density at the surface: sum of opacity times Gaussian. Of the bundled models' assets 0.4 gives the outlines that
    a renderer draws with alpha 0.5, to 1 % of their area."""
    gap: int = 4
    """Holes of up to twice this many voxels in the skin do not make its hollow inside a surface."""
    smoothing: int = 10
    """Steps of Taubin smoothing, >= 0; each Gaussian is a bump otherwise. The volume stays."""
    least_share: float = 0.02
    """Separate pieces with less than this share of the largest piece's mass (density times volume) are dropped."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not (16 <= self.resolution <= 512 and self.level > 0 and 0 <= self.gap <= 8):
            raise InvalidInput(f"{self}: expected resolution 16 to 512, level > 0 and gap 0 to 8.")
        if self.smoothing < 0 or not 0 <= self.least_share <= 1:
            raise InvalidInput(f"{self}: expected smoothing >= 0 and least_share 0 to 1.")


def extract_surface(gaussians: Gaussians, settings: SurfaceSettings) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The surface as triangles: closed, and counter-clockwise as seen from outside.

    Returns:
        Vertices [V, 3] in world units and faces [F, 3].

    Raises:
        InvalidInput: if the density reaches the level nowhere.
        MissingDependency: without scikit-image.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise MissingDependency('A mesh needs scikit-image: pip install "dreamsplat[mesh]".') from error
    gaussians = _visible(gaussians)
    grid = _grid_around_object(gaussians, settings)
    density = density_on(grid, gaussians).numpy()
    kept = _kept_pieces(density, settings)
    density = np.where(kept | (density <= settings.level), density, 0)
    density = np.where(_hollows(kept, settings.gap), np.maximum(density, 2 * settings.level), density)
    # Empty voxels all around close the surface where the object touches the end of the grid.
    corners, faces, _, _ = marching_cubes(np.pad(density, 1), settings.level, allow_degenerate=False)
    faces = faces[:, ::-1]  # scikit-image counts axes as z y x, which mirrors the order of corners.
    vertices = grid.origin.double().numpy() + grid.voxel * (corners.astype(np.float64) - 1)
    return smoothed(vertices, faces, settings.smoothing), np.ascontiguousarray(faces, np.int64)


def _visible(gaussians: Gaussians) -> Gaussians:
    """The Gaussians that a renderer draws, detached, as float32 on the CPU."""
    shown = rows(gaussians.detach(), gaussians.opacities >= MIN_ALPHA)
    if len(shown) == 0:
        raise InvalidInput(
            f"A mesh needs Gaussians that show; none of {len(gaussians)} has an opacity of 1/255 or more."
        )
    return shown.to("cpu", torch.float32)


def _grid_around_object(gaussians: Gaussians, settings: SurfaceSettings) -> Grid:
    low, high = bounds(gaussians)
    if not bool(torch.isfinite(high - low).all()):
        raise InvalidInput("A mesh needs Gaussians of a size that float32 holds; remove those with huge scales.")
    while True:
        grid = grid_over(low, high, _COARSE)
        where = torch.from_numpy(np.argwhere(_kept_pieces(density_on(grid, gaussians).numpy(), settings)))
        before = float((high - low).max())
        low = torch.maximum(low, grid.origin + grid.voxel * (where.amin(dim=0) - 1.5))
        high = torch.minimum(high, grid.origin + grid.voxel * (where.amax(dim=0) + 1.5))
        if float((high - low).max()) >= before / 2:  # Else this grid was too coarse to tell strays from the object.
            return grid_over(low, high, settings.resolution)


def _kept_pieces(density: NDArray[np.float32], settings: SurfaceSettings) -> NDArray[np.bool_]:
    """The voxels [x, y, z] above the level, in pieces that are not too small."""
    pieces, count = _pieces(density > settings.level)
    if count == 0:
        raise InvalidInput(
            f"No surface: the density is {density.max():.3g} at most, the level is {settings.level:g}. Lower the level."
        )
    mass = np.bincount(pieces.ravel(), weights=density.ravel())
    mass[0] = 0
    return (mass >= settings.least_share * mass.max())[pieces] & (pieces > 0)


def _hollows(solid: NDArray[np.bool_], gap: int) -> NDArray[np.bool_]:
    """Empty voxels of rooms that the outside cannot reach through openings wider than `2 gap` voxels.

    A room is wider than its opening, so a groove, however narrow, is none. Openings of every width up to the gap are
    closed in turn, since a room that is left over by a narrow one may be too small for a wide one.
    """
    empty = ~np.pad(solid, gap + 1)  # One layer of empty voxels stays, which joins everything outside.
    hollow = np.zeros_like(empty)
    for steps in range(gap + 1):
        pieces, _ = _pieces(~_swollen(~empty, steps))
        outside = pieces == pieces[0, 0, 0]
        hollow |= _swollen(~outside & (pieces > 0), steps) & ~_swollen(outside, steps) & empty
    inner = (slice(gap + 1, -gap - 1),) * 3
    return hollow[inner]


def _pieces(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """The number of the piece [x, y, z] that each voxel belongs to, 0 for none, and how many pieces there are."""
    found: Any = ndimage.label(mask)
    return found


def _swollen(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """The mask [x, y, z] with all voxels that are up to `steps` faces away."""
    wider: Any = ndimage.binary_dilation(mask, iterations=steps) if steps else mask
    return wider


def smoothed(
    vertices: NDArray[np.float64],  # [V, 3]
    faces: NDArray[np.integer],  # [F, 3]
    steps: int,
) -> NDArray[np.float64]:
    """Vertices [V, 3] drawn towards the mean of their neighbours and pushed back, which keeps the volume. Taubin 1995.

    Each step is one of both; lambda 0.5 and mu -0.53 are the usual factors, with a pass band of 0.1.
    """
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])  # In a closed mesh, both ways.
    ones = np.ones(len(ends))
    neighbours = coo_array((ones, (ends[:, 0], ends[:, 1])), shape=(len(vertices),) * 2).tocsr()
    shares = neighbours / neighbours.sum(axis=1)[:, None]
    for _ in range(steps):
        for factor in (0.5, -0.53):
            vertices = vertices + factor * (shares @ vertices - vertices)
    return vertices
