"""Codebooks for SOG: 256 codes for many numbers, and a palette of vectors, both by Lloyd's iterations (k-means).

Nothing is random: initial centres are spread evenly over the values, so the same input gives the same codes.
"""

import numpy as np
import torch
from numpy.typing import NDArray

CODES = 256
"""Entries of a codebook of numbers."""
PALETTE_LIMIT = 1 << 16
"""Most entries of a palette, since labels have 16 bits."""

_NUMBER_ROUNDS = 100  # Each costs 256 binary searches, however many values there are.
_VECTOR_ROUNDS = 4  # Later ones reduce the error by only a few per cent.
_BLOCK = 1 << 20  # Distances held at once, few enough for a core's cache.


def codebook(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """256 ascending codes for finite numbers of any shape: the numbers themselves if they are no more than 256.

    Otherwise Lloyd's iterations from equal steps and from quantiles, whichever ends better; so the root mean square
    error never exceeds that of 256 equal steps, range / 512.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    if not len(ordered):
        return np.zeros(CODES, dtype=np.float32)
    distinct = ordered[np.flatnonzero(np.diff(ordered, prepend=-np.inf))]
    if len(distinct) <= CODES:
        return np.pad(distinct, (0, CODES - len(distinct)), mode="edge").astype(np.float32)
    steps = (np.arange(CODES) + 0.5) / CODES
    starts = ordered[0] + steps * (ordered[-1] - ordered[0]), ordered[(steps * len(ordered)).astype(np.int64)]
    return min((_lloyd_1d(ordered, start) for start in starts), key=lambda found: found[0])[1].astype(np.float32)


def nearest_codes(
    codes: NDArray[np.float32],  # [256] ascending
    values: NDArray[np.floating],  # any shape
) -> NDArray[np.uint8]:
    """The index of the code nearest to each value, in the shape of `values`."""
    return np.searchsorted((codes[1:] + codes[:-1]) / 2, values, side="left").astype(np.uint8)


def palette(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A palette [K, D] for vectors [N, D], and the entry [N] of each of them.

    Up to 1024 vectors are their own palette. For more, K is the largest power of two up to N and 65536, as in other
    writers. Two levels of k-means find it (a tree, after Nister and Stewenius 2006): about sqrt(K) coarse clusters, and
    in each a number of fine ones in proportion to its vectors; that takes sqrt(K) comparisons per vector instead of K.
    """
    size = len(vectors) if len(vectors) <= 1024 else min(PALETTE_LIMIT, 1 << (len(vectors).bit_length() - 1))
    if size == len(vectors):
        return vectors, np.arange(size)
    sample = np.ascontiguousarray(vectors[:: max(1, len(vectors) >> 16)])
    coarse = _nearest(_lloyd(sample, round(size**0.5))[0], vectors)[0]
    members = np.split(np.argsort(coarse, kind="stable"), np.cumsum(np.bincount(coarse))[:-1])
    members = [rows for rows in members if len(rows)]
    # Besides the one that every cluster has.
    spare = np.cumsum([0, *map(len, members)]) * (size - len(members)) // len(vectors)
    entries, labels, used = [], np.empty(len(vectors), dtype=np.int64), 0
    for rows, share in zip(members, 1 + np.diff(spare), strict=True):
        found, fine = _lloyd(vectors[rows], int(share))
        entries.append(found)
        labels[rows] = fine + used
        used += len(found)
    return np.concatenate(entries), labels


def _lloyd_1d(
    ordered: NDArray[np.float64],  # [N] ascending
    codes: NDArray[np.float64],  # [256] ascending
) -> tuple[float, NDArray[np.float64]]:
    """Squared error and codes after Lloyd's iterations; a code without values stays where it is."""
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(_NUMBER_ROUNDS):
        ends = np.concatenate([[0], np.searchsorted(ordered, (codes[1:] + codes[:-1]) / 2), [len(ordered)]])
        counts = np.diff(ends)
        codes = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), codes)
    codes = np.sort(codes)
    served = codes[nearest_codes(codes.astype(np.float32), ordered)]
    return float(((ordered - served) ** 2).sum()), codes


def _lloyd(
    vectors: NDArray[np.float32],  # [N, D]
    count: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`count` centres (at most N) and the nearest one of each vector [N]; unused centres move to the worst vectors."""
    from scipy.sparse import csr_array  # Here and not above: scipy is slow to import.

    if count >= len(vectors):
        return vectors, np.arange(len(vectors))
    centres = vectors[np.arange(count) * len(vectors) // count]
    for _ in range(_VECTOR_ROUNDS):
        labels, errors = _nearest(centres, vectors)
        sizes = np.bincount(labels, minlength=count)
        picks = csr_array((np.ones(len(labels), np.float32), labels, np.arange(len(labels) + 1)), (len(labels), count))
        centres = (picks.T @ vectors) / np.maximum(sizes, 1)[:, None].astype(np.float32)
        idle = np.flatnonzero(sizes == 0)
        centres[idle] = vectors[np.argsort(-errors, kind="stable")[: len(idle)]]
    return centres, _nearest(centres, vectors)[0]


def _nearest(
    centres: NDArray[np.float32],  # [K, D]
    vectors: NDArray[np.float32],  # [N, D]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest centre [N] and the squared distance to it [N]."""
    points, queries = torch.from_numpy(centres), torch.from_numpy(vectors)
    lengths = (points * points).sum(dim=1)
    blocks = queries.split(max(1, _BLOCK // len(centres)))
    found = [torch.addmm(lengths, block, points.mT, alpha=-2).min(dim=1) for block in blocks]
    errors = torch.cat([f.values for f in found]) + (queries * queries).sum(dim=1)
    return torch.cat([f.indices for f in found]).numpy(), errors.numpy()
