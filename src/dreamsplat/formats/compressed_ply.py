"""PlayCanvas's compressed PLY: 16 bytes per Gaussian, plus one for each higher coefficient of its colour.

Gaussians are sorted along a Morton curve and quantised in chunks of 256, within the ranges of each chunk (float32):

| element | content |
|---|---|
| chunk | min and max of x y z, of the log-scales, and of the colour 0.5 + 0.28209479 f_dc |
| vertex | uint32 packed_position 11-10-11 bits, packed_rotation 2-10-10-10, packed_scale 11-10-11, packed_color 4 x 8 |
| sh | for degrees 1 to 3: 9, 24 or 45 bytes f_rest_0.., all of R, then all of G, then all of B |

Besides the order and float32 rounding, a round trip changes

| field | by at most |
|---|---|
| means x, z (y) | the chunk's extent / 4094 (/ 2046) |
| log-scales x, z (y) | the chunk's extent / 4094 (/ 2046); log-scales are clamped to [-20, 20] |
| quats | a rotation of 0.28 degrees |
| colour of degree 0 | the chunk's extent / 510 |
| opacities | 1 / 510 |
| higher coefficients | 1/64, or 3/128 near 4 and -4, to which they are clamped |

As in the standard PLY, the axes are not named; ours are written unchanged.
"""

from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.files.atomic import refuse, replacing
from dreamsplat.formats.any_ply import Ply
from dreamsplat.formats.morton import morton_order
from dreamsplat.formats.ply_header import singles
from dreamsplat.formats.smallest_three import HALF_RANGE, with_largest, without_largest
from dreamsplat.maths.harmonics import DC
from dreamsplat.types import Gaussians

CHUNK = 256
"""Gaussians in a chunk; the last one may have fewer."""

_VECTOR_BITS, _ROTATION_BITS, _COLOUR_BITS = (11, 10, 11), (10, 10, 10), (8, 8, 8, 8)  # from the highest bit down
_RANGES = (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
_BOUNDS = [f"{end}_{name}" for names in _RANGES for end in ("min", "max") for name in names]
_PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
_SCALE_RANGE = (exp(-20), exp(20))  # Other writers clamp to this; e^-20 is far below anything visible.
_LOG_SCALE_RANGE = (-87.0, 88.0)  # exp of these is still a normal float32.
_SH_LIMIT = 4.0
_LARGEST = float(np.finfo(np.float32).max)


def write(gaussians: Gaussians, path: Path) -> None:
    """Write Gaussians as a compressed PLY, in spatial order; the same Gaussians always give the same bytes.

    Raises:
        FileProblem: if the file cannot be written.
    """
    means, scales, quats, opacities, sh = (field.float().cpu().numpy() for field in gaussians.tensors().values())
    order = morton_order(means)
    logs = np.log(scales.astype(np.float64).clip(*_SCALE_RANGE))
    ranged = np.concatenate([means, logs, 0.5 + DC * sh[:, 0].astype(np.float64)], axis=1)[order]
    bounds, units = _in_chunks(ranged)
    largest, parts = without_largest(quats[order].astype(np.float64))
    packed = [
        _pack(units[:, :3], _VECTOR_BITS),
        largest.astype(np.uint32) << np.uint32(30) | _pack(parts / (2 * HALF_RANGE) + 0.5, _ROTATION_BITS),
        _pack(units[:, 3:6], _VECTOR_BITS),
        _pack(np.column_stack([units[:, 6:], opacities[order]]), _COLOUR_BITS),
    ]
    rest = _sh_bytes(sh[:, 1:])[order].transpose(0, 2, 1).reshape(len(sh), 3 * (sh.shape[1] - 1))  # channel first
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"element chunk {len(bounds)}", *(f"property float {name}" for name in _BOUNDS)]
    lines += [f"element vertex {len(sh)}", *(f"property uint {name}" for name in _PACKED)]
    if rest.shape[1]:
        lines += [f"element sh {len(sh)}", *(f"property uchar f_rest_{i}" for i in range(rest.shape[1]))]
    header = "\n".join([*lines, "end_header", ""]).encode("ascii")
    body = [bounds.astype("<f4").tobytes(), np.stack(packed, axis=1).astype("<u4").tobytes(), rest.tobytes()]
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join([header, *body]))


def read(path: Path) -> Gaussians:
    """Read a compressed PLY: float32, on the CPU. Chunks without colour ranges, as in old files, use [0, 1].

    Raises:
        FileProblem: if the file is missing, not a compressed PLY, truncated, or holds ranges that are not finite.
    """
    ply = Ply.open(path)
    _check_elements(path, ply)
    names = {name: tuple(singles(element.properties)) for name, element in ply.header.elements.items()}
    elements = {name: {n: c.values for n, c in columns.items()} for name, columns in ply.columns(names).items()}
    count, bounds = ply.header.elements["vertex"].count, _read_bounds(elements["chunk"])
    position, rotation, scale, colour = (elements["vertex"][name].astype(np.uint32) for name in _PACKED)
    colours = _unpack(colour, _COLOUR_BITS)
    units = [_unpack(position, _VECTOR_BITS), _unpack(scale, _VECTOR_BITS), colours[:, :3]]
    low, high = (np.repeat(bounds[:, :, end], CHUNK, axis=0)[:count] for end in (0, 1))  # [N, 3 ranges, 3]
    with np.errstate(invalid="ignore", over="ignore"):  # What comes of a range that is not finite is not drawn.
        means, logs, rgb = (low[:, i] * (1 - unit) + high[:, i] * unit for i, unit in enumerate(units))
    quats = with_largest(rotation >> np.uint32(30), (_unpack(rotation, _ROTATION_BITS) - 0.5) * (2 * HALF_RANGE))
    sh = _read_sh(elements.get("sh"), (rgb - 0.5) / DC)
    return Gaussians(
        means=torch.from_numpy(means.astype(np.float32)),
        scales=torch.from_numpy(np.exp(logs.clip(*_LOG_SCALE_RANGE)).astype(np.float32)),
        quats=torch.from_numpy(quats.astype(np.float32)),
        opacities=torch.from_numpy(colours[:, 3].astype(np.float32)),
        sh=torch.from_numpy(sh),
    )


def _in_chunks(values: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Ranges [C, 18] of chunks (three minima, then their maxima), and the values [N, 9] relative to them, in 0..1."""
    chunks = -(-len(values) // CHUNK)
    filled = np.minimum(np.arange(chunks * CHUNK), len(values) - 1)  # The last chunk repeats its last Gaussian.
    blocks = values[filled].reshape(chunks, CHUNK, 9)
    low, high = blocks.min(axis=1).astype(np.float32), blocks.max(axis=1).astype(np.float32)
    start = np.repeat(low.astype(np.float64), CHUNK, axis=0)[: len(values)]
    span = np.repeat(high.astype(np.float64), CHUNK, axis=0)[: len(values)] - start
    units = ((values - start) / np.where(span > 0, span, 1)).clip(0, 1)
    return np.stack([low.reshape(chunks, 3, 3), high.reshape(chunks, 3, 3)], axis=2).reshape(chunks, 18), units


def _pack(
    units: NDArray[np.floating],  # [N, k] in 0..1
    bits: tuple[int, ...],  # k widths
) -> NDArray[np.uint32]:
    packed = np.zeros(len(units), dtype=np.uint32)
    for column, width in zip(units.T, bits, strict=True):
        packed = packed << np.uint32(width) | np.rint(column * (2**width - 1)).astype(np.uint32)
    return packed


def _unpack(
    packed: NDArray[np.uint32],  # [N]
    bits: tuple[int, ...],  # k widths
) -> NDArray[np.float64]:  # [N, k] in 0..1
    columns, shift = [], 0
    for width in reversed(bits):
        columns.append((packed >> np.uint32(shift) & np.uint32(2**width - 1)) / (2**width - 1))
        shift += width
    return np.stack(columns[::-1], axis=1)


def _sh_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The nearest levels: 0 and 255 stand for -4 and 4, the others for the middles of 256 equal steps."""
    steps = values.clip(-_SH_LIMIT, _SH_LIMIT) * np.float32(128 / _SH_LIMIT) + np.float32(128)
    levels = steps.clip(1, 254).astype(np.uint8)  # Truncated, not rounded: a level is the middle of its step.
    levels[steps < 0.75] = 0
    levels[steps > 255.25] = 255
    return levels


def _check_elements(path: Path, ply: Ply) -> None:
    """Refuse elements that lack a property or whose sizes do not match, before any of them is decoded."""
    if ply.order != "<":
        refuse(path, f"{ply.header.format!r}; only binary_little_endian 1.0 can be read", "Convert the file first.")
    elements = ply.header.elements
    wanted = {("chunk", name): "f4" for name in _BOUNDS[:12]} | {("vertex", name): "u4" for name in _PACKED}
    for (element, name), kind in wanted.items():
        if element not in elements or elements[element].properties.get(name) != (kind, None):
            refuse(path, f"not a compressed PLY: element '{element}' lacks {name}, or it is of another type")
    count, chunks, sh = elements["vertex"].count, elements["chunk"].count, elements.get("sh")
    if chunks != -(-count // CHUNK):
        refuse(path, f"{chunks} chunks for {count} vertices, expected one per {CHUNK}")
    if sh is None:
        return
    size = len(sh.properties)
    if size not in (9, 24, 45) or sh.properties != {f"f_rest_{i}": ("u1", None) for i in range(size)}:
        refuse(path, f"element sh: {size} properties, expected 9, 24 or 45 uchar: f_rest_0 and so on")
    if sh.count != count:
        refuse(path, f"element sh: {sh.count} rows for {count} vertices, expected one each")


def _read_sh(
    table: dict[str, NDArray[Any]] | None,  # f_rest_* [N] each
    dc: NDArray[np.float64],  # [N, 3]
) -> NDArray[np.float32]:  # [N, K, 3]
    first = dc.clip(-_LARGEST, _LARGEST).astype(np.float32)[:, None]  # Ranges may reach the limits of float32.
    if table is None:
        return first
    levels = ((np.arange(256) + 0.5) / 256 - 0.5) * (2 * _SH_LIMIT)
    levels[[0, 255]] = -_SH_LIMIT, _SH_LIMIT
    codes = np.stack([table[f"f_rest_{i}"].astype(np.uint8) for i in range(len(table))], axis=1)
    codes = codes.reshape(len(codes), 3, len(table) // 3).transpose(0, 2, 1)  # channel first in the file
    return np.concatenate([first, levels.astype(np.float32)[codes]], axis=1)


def _read_bounds(table: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Ranges [C, 3, 2, 3] of columns [C]: of position, log-scale, colour; minimum, maximum; three axes."""
    bounds = np.zeros((len(table[_BOUNDS[0]]), 18))
    bounds[:, 15:] = 1  # The range of colours where the chunks name none.
    for column, name in enumerate(_BOUNDS):
        if name in table:
            with np.errstate(invalid="ignore"):  # a signalling NaN, whose Gaussians are not drawn
                bounds[:, column] = table[name]
    return bounds.reshape(-1, 3, 2, 3)
