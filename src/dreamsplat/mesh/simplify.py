"""Fewer triangles for nearly the same shape: quadric error metrics (Garland and Heckbert 1997) by fast-simplification.

Collapsing edges pinches thin parts, where four triangles then meet at an edge. Manifold parts them again, so that the
mesh stays closed.
"""

import numpy as np
from numpy.typing import NDArray

from dreamsplat.errors import MissingDependency

_LEAST_SHARE = 1e-4  # Of the volume of the largest part: what is smaller is a splinter.


def simplified(
    vertices: NDArray[np.float64],  # [V, 3]
    faces: NDArray[np.int64],  # [F, 3] closed
    most: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """At most `most` triangles, as closed as before; all of them if there are no more.

    Raises:
        MissingDependency: without fast-simplification or manifold3d.
    """
    if len(faces) <= most:
        return vertices, faces
    try:
        import fast_simplification
    except ImportError as error:
        raise MissingDependency(
            "A mesh of few triangles needs fast-simplification.", advice='Run pip install "dreamsplat[mesh]".'
        ) from error
    middle, size = vertices.mean(axis=0), float(np.ptp(vertices, axis=0).max())  # It computes in float32.
    unit = ((vertices - middle) / size).astype(np.float32)
    goal = most
    while True:
        points, triangles, *_ = fast_simplification.simplify(unit, faces.astype(np.int32), target_count=goal)
        fewer, triangles = outer_parts(points.astype(np.float64), triangles.astype(np.int64))
        # Parting and collapses that are refused may leave more than the goal.
        if len(triangles) <= most or goal < 4:
            return middle + size * fewer, triangles
        goal = int(0.9 * goal)


def outer_parts(
    vertices: NDArray[np.float64],  # [V, 3]
    faces: NDArray[np.int64],  # [F, 3] each edge in both directions equally often
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The mesh with each edge between two triangles, without parts that enclose nothing, as the walls of cavities do.

    Raises:
        MissingDependency: without manifold3d.
    """
    try:
        from manifold3d import Manifold, Mesh64
    except ImportError as error:
        raise MissingDependency("A mesh needs manifold3d.", advice='Run pip install "dreamsplat[mesh]".') from error
    parts = Manifold(Mesh64(vertices, faces.astype(np.uint64))).decompose()
    least = _LEAST_SHARE * max((part.volume() for part in parts), default=0.0)
    kept = [part.to_mesh64() for part in parts if part.volume() > least]
    counts = np.cumsum([0, *(len(part.vert_properties) for part in kept)])
    shifted = [part.tri_verts.astype(np.int64) + first for part, first in zip(kept, counts, strict=False)]
    return np.concatenate([part.vert_properties[:, :3] for part in kept]), np.concatenate(shifted)
