"""Unit quaternions without their largest component: q and -q are the same rotation, so the other three determine it.

Those lie in [-1/sqrt(2), 1/sqrt(2)], a range that needs fewer bits. If each of them is off by at most e, the quaternion
is off by at most 2 sqrt(3) e, because the largest component is at least 1/2; the rotation is off by twice that angle.
"""

import numpy as np
from numpy.typing import NDArray

HALF_RANGE = 0.5**0.5
"""The largest magnitude of a component that is not the largest of the four."""


def without_largest(quats: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Index [N] of the component of largest magnitude of quaternions [N, 4], not 0; the others [N, 3] of unit ones.

    The sign is chosen so that the omitted component is positive.
    """
    quats = quats / np.linalg.norm(quats, axis=-1, keepdims=True)
    largest = np.abs(quats).argmax(axis=-1)
    chosen = largest[:, None] == np.arange(4)
    quats = np.where(quats[chosen][:, None] < 0, -quats, quats)
    return largest, quats[~chosen].reshape(-1, 3)


def with_largest(
    largest: NDArray[np.integer],  # [N] in 0..3
    parts: NDArray[np.floating],  # [N, 3] in [-1/sqrt(2), 1/sqrt(2)]
) -> NDArray[np.floating]:
    """Unit quaternions [N, 4]; the inverse of `without_largest`, up to sign."""
    squares = (parts * parts).sum(axis=-1)
    chosen = largest[:, None] == np.arange(4)
    quats = np.empty((len(parts), 4), dtype=parts.dtype)
    quats[~chosen] = parts.ravel()
    quats[chosen] = np.sqrt(np.maximum(0, 1 - squares))
    return quats / np.linalg.norm(quats, axis=-1, keepdims=True)  # In damaged files the three may be too long.
