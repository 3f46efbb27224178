"""SOG version 2, PlayCanvas's "spatially ordered Gaussians": a zip of lossless WebP pictures and a meta.json.

Gaussians are sorted along a Morton curve; pixel i of every picture, row by row, belongs to Gaussian i:

| picture | channels |
|---|---|
| means_l, means_u | low and high bytes of x y z: 16 bits between mins and maxs of sign(x) log(1 + abs(x)) |
| quats | three of w x y z, from -1/sqrt(2) to 1/sqrt(2), then 252 + the index of the largest, which is omitted |
| scales | three indices into a codebook of 256 natural logarithms |
| sh0 | three indices into a codebook of 256 degree-0 coefficients, then the opacity |
| shN_labels | for degrees 1 to 3: low and high byte of an index into the palette |
| shN_centroids | the palette, 64 entries per row, one pixel per coefficient: indices into a third codebook |

Besides the order and float32 rounding, a round trip changes

| field | by at most |
|---|---|
| means | (1 + abs(x)) (maxs - mins) / 131000 |
| quats | a rotation of 1.15 degrees |
| opacities | 1 / 510 |
| log-scales, degree 0 | range / 512 (root mean square); nothing if there are at most 256 different values |
| higher degrees | no bound, since k-means chooses; as above for up to 1024 Gaussians |

As in the standard PLY, the axes are not named; ours are written unchanged.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.formats.morton import morton_order
from dreamsplat.formats.smallest_three import HALF_RANGE, with_largest, without_largest
from dreamsplat.formats.sog.bundle import Bundle, pack, picture, picture_of
from dreamsplat.formats.sog.codebook import PALETTE_LIMIT, codebook, nearest_codes, palette
from dreamsplat.types import Gaussians

_LOG_RANGE = (-87.0, 88.0)  # exp of these is still a normal float32.
_SMALLEST = float(np.finfo(np.float32).tiny)
_FIRST_MODE = 252  # of the last channel of quats
_ENTRIES_IN_ROW = 64


def write(gaussians: Gaussians, path: Path) -> None:
    """Write Gaussians as SOG, in spatial order; the same Gaussians give the same bytes on the same machine.

    Raises:
        FileProblem: if the file cannot be written.
    """
    means, scales, quats, opacities, sh = (field.float().cpu().numpy() for field in gaussians.tensors().values())
    order = morton_order(means)
    logs = np.sign(means[order]) * np.log1p(np.abs(means[order].astype(np.float64)))
    low, high = (logs.min(axis=0), logs.max(axis=0)) if len(logs) else (np.zeros(3), np.zeros(3))
    steps = np.rint((logs - low) / np.where(high > low, high - low, 1) * 65535).astype(np.uint16)
    largest, parts = without_largest(quats[order].astype(np.float64))
    size_codes, sizes = _coded(np.log(scales[order].astype(np.float64).clip(_SMALLEST)))
    colour_codes, colours = _coded(sh[order, 0])
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "dreamsplat"},
        "count": len(sh),
        "means": {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": size_codes.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": colour_codes.tolist(), "files": ["sh0.webp"]},
    }
    pictures = {
        "means_l.webp": picture_of(steps & 255),
        "means_u.webp": picture_of(steps >> 8),
        "scales.webp": picture_of(sizes),
        "quats.webp": picture_of(np.column_stack([_bytes(parts / (2 * HALF_RANGE) + 0.5), _FIRST_MODE + largest])),
        "sh0.webp": picture_of(np.column_stack([colours, _bytes(opacities[order])])),
    }
    if sh.shape[1] > 1:
        entries, labels = palette(sh[order, 1:].reshape(len(sh), 3 * (sh.shape[1] - 1)))
        codes, places = _coded(entries)
        meta["shN"] = {
            "count": len(entries),
            "bands": gaussians.sh_degree,
            "codebook": codes.tolist(),
            "files": ["shN_centroids.webp", "shN_labels.webp"],
        }
        pictures["shN_labels.webp"] = picture_of(np.column_stack([labels & 255, labels >> 8]))
        pictures["shN_centroids.webp"] = _palette_picture(places.reshape(len(entries), sh.shape[1] - 1, 3))
    pack(path, meta, pictures)


def read(path: Path) -> Gaussians:
    """Read a SOG bundle, version 1 or 2, or the folder of an unpacked one: float32, on the CPU.

    Raises:
        FileProblem: if the file is missing, not a SOG bundle, damaged, or holds numbers that are not finite.
    """
    bundle = Bundle.open(path)
    steps = bundle.pixels("means", 0)[:, :3].astype(np.float64) + 256.0 * bundle.pixels("means", 1)[:, :3]
    low, high = (bundle.numbers("means", key, 3, 3).clip(-_LOG_RANGE[1], _LOG_RANGE[1]) for key in ("mins", "maxs"))
    logs = low + (high - low) * (steps / 65535)
    quats = bundle.pixels("quats", 0)
    if (quats[:, 3] < _FIRST_MODE).any():
        bundle.refuse(f"quats: a last channel is {quats[:, 3].min()}, expected 252 to 255; the file is damaged")
    parts = (quats[:, :3] / 255 - 0.5) * (2 * HALF_RANGE)
    sizes = bundle.decoded("scales", bundle.pixels("scales", 0)[:, :3]).clip(*_LOG_RANGE)
    colours = bundle.pixels("sh0", 0)
    sh = bundle.decoded("sh0", colours[:, :3])[:, None]
    opacities = torch.from_numpy(colours[:, 3].astype(np.float32) / 255)
    if bundle.version == 1 and bundle.channels("sh0") == 4:  # The fourth channel holds logits.
        opacities = torch.from_numpy(bundle.decoded("sh0", colours)[:, 3]).sigmoid()
    if "shN" in bundle.meta:
        sh = np.concatenate([sh, _read_palette(bundle)], axis=1)
    return Gaussians(
        means=torch.from_numpy((np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32)),
        scales=torch.from_numpy(np.exp(sizes)),
        quats=torch.from_numpy(with_largest(quats[:, 3] - _FIRST_MODE, parts).astype(np.float32)),
        opacities=opacities,
        sh=torch.from_numpy(sh),
    )


def _coded(values: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A codebook [256] for values of any shape, and their indices into it, in the same shape."""
    codes = codebook(values)
    return codes, nearest_codes(codes, values)


def _bytes(units: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.rint(units * 255).astype(np.uint8)


def _palette_picture(
    places: NDArray[np.uint8],  # [entries, coefficients, 3]
) -> bytes:
    entries, coefficients, _ = places.shape
    rows = max(1, -(-entries // _ENTRIES_IN_ROW))
    pixels = np.zeros((rows * _ENTRIES_IN_ROW, coefficients, 3), dtype=np.uint8)
    pixels[:entries] = places
    return picture(pixels.reshape(rows, _ENTRIES_IN_ROW * coefficients, 3))


def _read_palette(bundle: Bundle) -> NDArray[np.float32]:
    """The higher coefficients [N, K - 1, 3]."""
    if bundle.version == 1:
        coefficients, rows = bundle.size("shN", 0)[0] // _ENTRIES_IN_ROW, bundle.size("shN", 0)[1]
        if coefficients not in (3, 8, 15):
            bundle.refuse(f"shN: its palette has {coefficients} coefficients, expected 3, 8 or 15")
        entries = rows * _ENTRIES_IN_ROW
    else:
        degree, entries = bundle.whole("shN", "bands", 1, 3), bundle.whole("shN", "count", 0, PALETTE_LIMIT)
        coefficients = (degree + 1) ** 2 - 1
        rows = -(-entries // _ENTRIES_IN_ROW)
    columns = _ENTRIES_IN_ROW * coefficients
    table = bundle.pixels("shN", 0, least=columns * rows, width=columns)[:, :3]
    values = bundle.decoded("shN", table.reshape(-1, coefficients, 3)[:entries])
    labels = bundle.pixels("shN", 1)[:, :2].astype(np.int64) @ np.array([1, 256])
    if labels.size and labels.max() >= entries:
        bundle.refuse(f"shN: a label is {labels.max()}, but the palette has {entries} entries; the file is damaged")
    return values[labels]
