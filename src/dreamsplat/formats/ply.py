"""The standard 3D Gaussian splatting PLY (Kerbl et al. 2023), and plain coloured point clouds.

One `vertex` element, binary little-endian, float32, in this order; splat viewers and editors read it:

| properties | content |
|---|---|
| x y z | centre, world units |
| nx ny nz | zeros, kept because readers expect them |
| f_dc_0..2 | degree-0 coefficients of R, G, B: colour = 0.5 + 0.28209479 f_dc |
| f_rest_0.. | higher coefficients, all of R, then all of G, then all of B: 0, 9, 24 or 45 of them for degree 0 to 3 |
| opacity | logit |
| scale_0..2 | natural logarithm of the standard deviations |
| rot_0..3 | quaternion w x y z, length 1 |

The file names no frame of reference: ours has +z up and the front towards -y.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.errors import FileProblem
from dreamsplat.formats.atomic import read_bytes, replacing
from dreamsplat.types import Gaussians, PointCloud

OPACITY_MARGIN = 1e-6
"""Opacities are written as logits of values in [margin, 1 - margin]: 0 and 1 have no finite logit, and some readers
refuse infinities. 1e-6 is far below the 1/255 at which a renderer starts to draw."""

_LOG_SCALE_RANGE = (-87.0, 88.0)  # exp of these is still a normal float32.
_HEADER_LIMIT = 1 << 16  # bytes; a degree-3 header has about 1,500.
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "float64": "f8",
}  # fmt: skip


def write(gaussians: Gaussians, path: Path) -> None:
    """Write Gaussians as a standard PLY; the same Gaussians always give the same bytes.

    Raises:
        FileProblem: if the file cannot be written.
    """
    means, scales, quats, opacities, sh = (
        getattr(gaussians, name).double().cpu().numpy() for name in ("means", "scales", "quats", "opacities", "sh")
    )
    rest = 3 * (sh.shape[1] - 1)
    probability = opacities.clip(OPACITY_MARGIN, 1 - OPACITY_MARGIN)
    columns = [
        means,
        np.zeros_like(means),
        sh[:, 0],
        sh[:, 1:].transpose(0, 2, 1).reshape(len(sh), rest),  # channel first
        (np.log(probability) - np.log1p(-probability))[:, None],
        np.log(scales),
        quats / np.linalg.norm(quats, axis=-1, keepdims=True),
    ]
    table = np.concatenate(columns, axis=1).astype("<f4")
    properties = [f"float {name}" for name in _property_names(rest)]
    _write_vertices(path, len(table), properties, table.tobytes())


def read(path: Path) -> Gaussians:
    """Read a standard PLY: float32, on the CPU. Extra properties and elements are ignored.

    A logarithm of scale below -87, where exp would give 0, is raised to that; an opacity logit may be infinite.

    Raises:
        FileProblem: if the file is missing, not a binary little-endian PLY, truncated, lacks a property, or holds a
            value that is not finite.
    """
    vertices = _read_vertices(path)
    names = vertices.dtype.names or ()
    rest = sum(name.startswith("f_rest_") for name in names)
    if rest not in (0, 9, 24, 45):
        _refuse(path, f"{rest} f_rest_* properties; expected 0, 9, 24 or 45 (degree 0 to 3)")
    missing = [n for n in _property_names(rest) if n not in names and n not in ("nx", "ny", "nz")]
    if missing:
        _refuse(path, f"not a 3D Gaussian splatting PLY: lacks {', '.join(missing[:4])}{' ...' if missing[4:] else ''}")

    def column(*wanted: str) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):  # A double beyond float32 becomes infinite and is refused below.
            values = np.stack([vertices[name].astype(np.float32) for name in wanted], axis=-1)
        bad = np.isnan(values) if wanted == ("opacity",) else ~np.isfinite(values)
        if bad.any():
            row = int(bad.any(axis=-1).argmax())
            _refuse(path, f"{wanted[0]}..: a value of Gaussian {row} is NaN or infinite; the file is damaged")
        return values

    means = column("x", "y", "z")
    dc = column("f_dc_0", "f_dc_1", "f_dc_2")[:, None, :]
    sh = dc
    if rest:
        coefficients = column(*(f"f_rest_{i}" for i in range(rest)))
        sh = np.concatenate([dc, coefficients.reshape(len(dc), 3, rest // 3).transpose(0, 2, 1)], axis=1)
    log_scales = column("scale_0", "scale_1", "scale_2")
    if log_scales.size and log_scales.max() > _LOG_SCALE_RANGE[1]:
        _refuse(path, f"scale_*: {log_scales.max():.4g} is not the logarithm of a length; expected at most 88")
    quats = column("rot_0", "rot_1", "rot_2", "rot_3").astype(np.float64)  # Squares of tiny numbers are 0 in float32.
    lengths = np.linalg.norm(quats, axis=-1, keepdims=True)
    if not lengths.all():
        _refuse(path, "rot_*: a quaternion is 0 0 0 0; the file is damaged")
    return Gaussians(
        means=torch.from_numpy(means),
        scales=torch.from_numpy(log_scales.clip(*_LOG_SCALE_RANGE)).exp(),
        quats=torch.from_numpy((quats / lengths).astype(np.float32)),
        opacities=torch.from_numpy(column("opacity")[:, 0]).sigmoid(),
        sh=torch.from_numpy(np.ascontiguousarray(sh)),
    )


def save_points(cloud: PointCloud, path: Path) -> None:
    """Write a coloured point cloud: x y z float32, red green blue in 0..255 (colours beyond [0, 1] are clamped).

    Raises:
        FileProblem: if the file cannot be written.
    """
    record = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    table = np.empty(len(cloud), dtype=record)
    table["xyz"] = cloud.xyz.detach().float().cpu().numpy()
    table["rgb"] = (cloud.rgb.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    properties = ["float x", "float y", "float z", "uchar red", "uchar green", "uchar blue"]
    _write_vertices(path, len(table), properties, table.tobytes())


def _property_names(rest: int) -> list[str]:
    return [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(rest)),
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip


def _write_vertices(path: Path, count: int, properties: list[str], body: bytes) -> None:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    lines += [f"property {declaration}" for declaration in properties] + ["end_header", ""]
    with replacing(path) as temporary:
        temporary.write_bytes("\n".join(lines).encode("ascii") + body)


def _read_vertices(path: Path) -> np.ndarray:
    """The records of the vertex element, one named field per property."""
    content = read_bytes(path)
    if not content.startswith((b"ply\n", b"ply\r\n")):
        _refuse(path, "not a PLY file: it does not start with 'ply'")
    end = content.find(b"end_header", 0, _HEADER_LIMIT)
    newline = content.find(b"\n", end, end + 12)
    if end < 0 or newline < 0:
        _refuse(path, "not a PLY file: its header has no end")
    header = content[:end].decode("ascii", errors="replace").splitlines()[1:]
    count, fields = _parse_header(path, [line.split() for line in header])
    record = np.dtype(fields)
    available = len(content) - (newline + 1)
    if (needed := count * record.itemsize) > available:
        _refuse(path, f"truncated: {count} vertices need {needed} bytes after the header, the file has {available}")
    return np.frombuffer(content, dtype=record, count=count, offset=newline + 1)


def _parse_header(path: Path, lines: list[list[str]]) -> tuple[int, list[tuple[str, str]]]:
    """The number of vertices and the (name, numpy type) of each of their properties."""
    count = None
    fields: dict[str, str] = {}
    inside = False  # The vertex element must come first, so what other elements declare can be passed over.
    formats = [words[1:] for words in lines if words[:1] == ["format"]]
    if formats != [["binary_little_endian", "1.0"]]:
        found = " ".join(formats[0]) if formats else "no format line"
        _refuse(path, f"{found}; only binary_little_endian 1.0 can be read, so convert the file first")
    for words in lines:
        match words:
            case ["element", "vertex", number] if count is None:
                if not (number.isascii() and number.isdigit()) or len(number) > 18:
                    _refuse(path, f"'element vertex {number[:40]}' is no number of vertices")
                count, inside = int(number), True
            case ["element", name, *_]:
                if count is None:
                    _refuse(path, f"element '{name[:40]}' comes before 'vertex'; expected the vertices first")
                inside = False
            case ["property", kind, name] if inside:
                if kind not in _TYPES or name in fields:
                    _refuse(path, f"'property {kind[:40]} {name[:40]}' is of an unknown type or occurs twice")
                fields[name] = "<" + _TYPES[kind]
            case ["property", *_] if inside:
                _refuse(path, f"'{' '.join(words)[:60]}': vertices with lists cannot be read")
            case ["property" | "format" | "comment" | "obj_info", *_] | []:
                pass
            case _:
                _refuse(path, f"unknown header line '{' '.join(words)[:60]}'")
    if count is None or not fields:
        _refuse(path, "its header declares no vertices")
    return count, list(fields.items())


def _refuse(path: Path, reason: str) -> NoReturn:
    raise FileProblem(f"{path}: {reason}.")
