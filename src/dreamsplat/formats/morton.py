"""Sorting Gaussians along a Z-shaped (Morton) curve, so that neighbours in space are neighbours in the file.

That makes formats smaller and more precise that quantise blocks of Gaussians within their own range, or store them as
pictures.
"""

import numpy as np
from numpy.typing import NDArray

_BITS = 21  # per axis; three of them fill a 64-bit key.


def morton_order(means: NDArray[np.floating]) -> NDArray[np.int64]:
    """Indices [N] that sort finite means [N, 3] along a Morton curve through a grid of cubes, stable in a cube."""
    if len(means) == 0:
        return np.empty(0, dtype=np.int64)
    low = means.min(axis=0).astype(np.float64)
    extent = (means.max(axis=0) - low).max()  # One for all axes, so that cells are cubes and blocks stay compact.
    cells = (means - low) * ((2**_BITS - 1) / extent if extent > 0 else 0.0)
    keys = np.zeros(len(means), dtype=np.uint64)
    for axis in range(3):
        keys |= _spread(cells[:, axis].astype(np.uint64)) << np.uint64(2 - axis)
    return np.argsort(keys, kind="stable")


def _spread(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Put two zeros between neighbouring bits of numbers [N] below 2^21."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        bits = (bits | bits << np.uint64(shift)) & np.uint64(mask)
    return bits
