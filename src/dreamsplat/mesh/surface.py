"""The closed surface of an object of Gaussians: where their density crosses a level, without strays and cavities.

The grid shrinks around the parts that are kept, so that strays far away do not cost resolution. Splat objects are often
hollow skins with thin spots. Empty voxels that nobody sees are filled, and so are narrow pits and holes in the skin.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array

from dreamsplat.assets.gaussians import rows
from dreamsplat.errors import InvalidInput, MissingDependency
from dreamsplat.mesh.density import MIN_ALPHA, Grid, bounds, density_on, grid_over
from dreamsplat.mesh.settings import SurfaceSettings
from dreamsplat.mesh.simplify import outer_parts
from dreamsplat.mesh.unseen import seen_space
from dreamsplat.types import Gaussians

_COARSE = 64  # Voxels along the longest side of the grids that only locate the object.


def extract_surface(gaussians: Gaussians, settings: SurfaceSettings) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The surface as triangles, closed and counter-clockwise as seen from outside.

    Returns:
        Vertices [V, 3] in world units and faces [F, 3].

    Raises:
        InvalidInput: if the density never reaches the level.
        MissingDependency: without scikit-image.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise MissingDependency("A mesh needs scikit-image.", advice='Run pip install "dreamsplat[mesh]".') from error
    gaussians = _visible(gaussians)
    grid = _grid_around_object(gaussians, settings)
    density = density_on(grid, gaussians).numpy()
    kept = _kept_pieces(density, settings)
    density = np.where(kept | (density <= settings.level), density, 0)
    filled = _filled(kept, *seen_space(gaussians, grid), settings.gap)
    near = ndimage.binary_dilation(filled & ~kept, iterations=2)
    # Blurred, so that its surface is smooth and not in steps of a voxel.
    blurred = 2 * settings.level * ndimage.gaussian_filter(filled.astype(np.float32), 1)
    density = np.where(near, np.maximum(density, blurred), density)
    # A border of empty voxels closes the surface where the object touches the edge of the grid.
    corners, faces, _, _ = marching_cubes(np.pad(density, 1), settings.level, allow_degenerate=False)
    faces = faces[:, ::-1]  # scikit-image orders axes as z y x, which mirrors the order of corners.
    vertices = grid.origin.double().numpy() + grid.voxel * (corners.astype(np.float64) - 1)
    vertices, faces = outer_parts(vertices, np.ascontiguousarray(faces, np.int64))
    return smoothed(vertices, faces, settings.smoothing), faces


def _visible(gaussians: Gaussians) -> Gaussians:
    """The Gaussians that a renderer draws, detached, as float32 on the CPU."""
    shown = rows(gaussians.detach(), gaussians.opacities >= MIN_ALPHA)
    if len(shown) == 0:
        raise InvalidInput(
            f"A mesh needs visible Gaussians; none of {len(gaussians)} has an opacity of at least 1/255."
        )
    return shown.to("cpu", torch.float32)


def _grid_around_object(gaussians: Gaussians, settings: SurfaceSettings) -> Grid:
    low, high = bounds(gaussians)
    if not bool(torch.isfinite(high - low).all()):
        raise InvalidInput("The extent of the Gaussians exceeds float32.", advice="Remove those with huge scales.")
    while True:
        grid = grid_over(low, high, _COARSE)
        where = torch.from_numpy(np.argwhere(_kept_pieces(density_on(grid, gaussians).numpy(), settings)))
        before = float((high - low).max())
        low = torch.maximum(low, grid.origin + grid.voxel * (where.amin(dim=0) - 1.5))
        high = torch.minimum(high, grid.origin + grid.voxel * (where.amax(dim=0) + 1.5))
        # Otherwise this grid was too coarse to separate strays from the object.
        if float((high - low).max()) >= before / 2:
            return grid_over(low, high, settings.resolution)


def _kept_pieces(density: NDArray[np.float32], settings: SurfaceSettings) -> NDArray[np.bool_]:
    """The voxels [x, y, z] above the level, without pieces that are too small."""
    pieces, count = _pieces(density > settings.level)
    if count == 0:
        raise InvalidInput(
            f"{settings.level:g}, but the density is at most {density.max():.3g}: there is no surface.",
            setting="surface.level",
            advice="Use a lower level.",
        )
    mass = np.bincount(pieces.ravel(), weights=density.ravel())
    mass[0] = 0
    return (mass >= settings.least_share * mass.max())[pieces] & (pieces > 0)


def _filled(
    solid: NDArray[np.bool_],  # [x, y, z]
    seen: NDArray[np.bool_],  # [x, y, z]
    open_space: NDArray[np.bool_],  # [x, y, z]
    gap: int,
) -> NDArray[np.bool_]:
    """The solid [x, y, z] with all that is not seen, and with pits and holes up to `2 gap` voxels wide.

    Whatever a camera looks through to the background stays empty.
    """
    padded = np.pad(solid | ~seen, gap + 1)
    swollen = _distance(~padded) <= gap
    closed = _distance(swollen) > gap
    inner = (slice(gap + 1, -gap - 1),) * 3
    filled: Any = ndimage.binary_fill_holes(solid | (closed[inner] & ~open_space))
    return filled


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """From each voxel [x, y, z] of a mask to the nearest one outside it, voxels."""
    found: Any = ndimage.distance_transform_edt(mask)
    return found


def _pieces(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """The number of the piece that each voxel [x, y, z] belongs to (0 for none), and the number of pieces."""
    found: Any = ndimage.label(mask)
    return found


def smoothed(
    vertices: NDArray[np.float64],  # [V, 3]
    faces: NDArray[np.integer],  # [F, 3]
    steps: int,
) -> NDArray[np.float64]:
    """Vertices [V, 3] pulled towards the mean of their neighbours and pushed back, which preserves the volume.

    Taubin 1995. A step does both; lambda 0.5 and mu -0.53 are the usual factors, with a pass band of 0.1.
    """
    # A closed mesh has each edge in both directions.
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ones = np.ones(len(ends))
    neighbours = coo_array((ones, (ends[:, 0], ends[:, 1])), shape=(len(vertices),) * 2).tocsr()
    shares = neighbours / neighbours.sum(axis=1)[:, None]
    for _ in range(steps):
        for factor in (0.5, -0.53):
            vertices = vertices + factor * (shares @ vertices - vertices)
    return vertices
