"""The standard 3D Gaussian splatting PLY (Kerbl et al. 2023), and plain coloured point clouds.

One `vertex` element, binary little-endian, float32, in this order; splat viewers and editors read it:

| properties | content |
|---|---|
| x y z | centre, world units |
| nx ny nz | zeros, written because readers expect them |
| f_dc_0..2 | degree-0 coefficients of R, G, B: colour = 0.5 + 0.28209479 f_dc |
| f_rest_0.. | higher coefficients, all of R, then all of G, then all of B: 0, 9, 24 or 45 of them for degree 0 to 3 |
| opacity | logit |
| scale_0..2 | natural logarithm of the standard deviations |
| rot_0..3 | quaternion w x y z, length 1 |

The file does not name its axes; ours have +z up and the front towards -y.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.files.atomic import read_bytes, refuse, replacing
from dreamsplat.formats.ply_header import read_header
from dreamsplat.types import Gaussians, PointCloud

OPACITY_MARGIN = 1e-6
"""Opacities are clamped to [margin, 1 - margin] before they are written as logits: those of 0 and 1 are infinite, which
some readers refuse. 1e-6 is far below the 1/255 at which a renderer starts to draw."""

_LOG_SCALE_RANGE = (-87.0, 88.0)  # exp of these is still a normal float32.
_BLOCK = 1 << 14  # Gaussians copied at a time, few enough for the processor's cache.


def write(gaussians: Gaussians, path: Path) -> None:
    """Write Gaussians as a standard PLY; the same Gaussians always give the same bytes.

    Raises:
        FileProblem: if the file cannot be written.
    """
    fields = [field.cpu() for field in gaussians.tensors().values()]
    blocks = (slice(start, start + _BLOCK) for start in range(0, len(gaussians), _BLOCK))
    tables = (_table(*(field[block].double().numpy() for field in fields)) for block in blocks)
    properties = [f"float {name}" for name in _property_names(3 * (gaussians.sh.shape[1] - 1))]
    _write_vertices(path, len(gaussians), properties, tables)


def _table(
    means: NDArray[np.float64],  # [B, 3]
    scales: NDArray[np.float64],  # [B, 3]
    quats: NDArray[np.float64],  # [B, 4]
    opacities: NDArray[np.float64],  # [B]
    sh: NDArray[np.float64],  # [B, K, 3]
) -> NDArray[np.float32]:
    """The properties [B, 14 + 3 K] of B Gaussians."""
    table = np.zeros((len(means), 14 + 3 * sh.shape[1]), dtype="<f4")
    table[:, 0:3] = means
    table[:, 6:9] = sh[:, 0]
    table[:, 9:-8] = sh[:, 1:].transpose(0, 2, 1).reshape(len(sh), table.shape[1] - 17)  # channel first
    probability = opacities.clip(OPACITY_MARGIN, 1 - OPACITY_MARGIN)
    table[:, -8] = np.log(probability) - np.log1p(-probability)
    table[:, -7:-4] = np.log(scales)
    table[:, -4:] = quats / np.linalg.norm(quats, axis=-1, keepdims=True)
    return table


def read(path: Path) -> Gaussians:
    """Read a standard PLY: float32, on the CPU. Extra properties and elements are ignored.

    A log-scale below -87, where exp would give 0, is raised to -87; an opacity logit may be infinite.

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
    count = len(vertices)
    means, log_scales, quats = (np.empty((count, width), np.float32) for width in (3, 3, 4))
    logits, sh = np.empty(count, np.float32), np.empty((count, 1 + rest // 3, 3), np.float32)
    columns = {
        **{name: means[:, axis] for axis, name in enumerate("xyz")},
        **{f"f_dc_{channel}": sh[:, 0, channel] for channel in range(3)},
        **{f"f_rest_{i}": sh[:, 1 + i % (rest // 3), i // (rest // 3)] for i in range(rest)},  # channel first
        "opacity": logits,
        **{f"scale_{axis}": log_scales[:, axis] for axis in range(3)},
        **{f"rot_{part}": quats[:, part] for part in range(4)},
    }
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # Values beyond float32 become infinite or NaN, which is refused below.
        for block in (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK)):
            for name, column in columns.items():
                column[block] = vertices[name][block]
    for name, values in {"x, y, z": means, "f_*": sh, "scale_*": log_scales, "rot_*": quats}.items():
        _check_every(path, name, np.isfinite(values))
    _check_every(path, "opacity", ~np.isnan(logits))
    if count and log_scales.max() > _LOG_SCALE_RANGE[1]:
        _refuse(path, f"scale_*: {log_scales.max():.4g} is not the logarithm of a length; expected at most 88")
    lengths = np.sqrt(
        np.einsum("ni,ni->n", quats, quats, dtype=np.float64)
    )  # The squares of tiny ones underflow in float32.
    if not lengths.all():
        _refuse(path, "rot_*: a quaternion is 0 0 0 0; the file is damaged")
    return Gaussians(
        means=torch.from_numpy(means),
        scales=torch.from_numpy(log_scales.clip(*_LOG_SCALE_RANGE)).exp(),
        quats=torch.from_numpy(np.divide(quats, lengths[:, None], out=quats, casting="same_kind")),
        opacities=torch.from_numpy(logits).sigmoid(),
        sh=torch.from_numpy(sh),
    )


def save_points(cloud: PointCloud, path: Path) -> None:
    """Write a coloured point cloud: x y z as float32; red green blue as 0..255, clamped.

    Raises:
        FileProblem: if the file cannot be written.
    """
    record = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    table = np.empty(len(cloud), dtype=record)
    table["xyz"] = cloud.xyz.detach().float().cpu().numpy()
    table["rgb"] = (cloud.rgb.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    properties = ["float x", "float y", "float z", "uchar red", "uchar green", "uchar blue"]
    _write_vertices(path, len(table), properties, [table])


def _property_names(rest: int) -> list[str]:
    return [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{i}" for i in range(rest)),
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip


def _write_vertices(path: Path, count: int, properties: list[str], tables: Iterable[np.ndarray]) -> None:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
    lines += [f"property {declaration}" for declaration in properties] + ["end_header", ""]
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join(lines).encode("ascii"))
        for table in tables:
            file.write(table.data)


def _read_vertices(path: Path) -> np.ndarray:
    """The records [count] of the vertex element, one named field per property."""
    content = read_bytes(path)
    header = read_header(path, content)
    vertex = header.elements.get("vertex")
    if vertex is None or not vertex.properties:
        _refuse(path, "its header declares no vertices")
    _refuse_other_content(path, set(vertex.properties))
    return header.table(content, "vertex")


def _refuse_other_content(path: Path, names: set[str]) -> None:
    """Refuse a PLY that was never meant to hold Gaussians, and say what to do with it."""
    if "packed_position" in names:
        _refuse(path, "a compressed PLY", "Rename it to end in .compressed.ply.")
    if {"x", "y", "z"} <= names and not names & set(_property_names(0)[6:]):
        use = "To start a run from it, choose prior3d:points and set `prior3d.file`."
        _refuse(path, "a point cloud or a mesh, not 3D Gaussians", use)


def _check_every(path: Path, name: str, good: NDArray[np.bool_]) -> None:
    """Refuse the file unless every value of every Gaussian, the first axis, is good."""
    if not good.all():
        row = int((~good).reshape(len(good), -1).any(axis=-1).argmax())
        _refuse(path, f"{name}: a value of Gaussian {row} is NaN or infinite; the file is damaged")


def _refuse(path: Path, reason: str, advice: str = "Export it again.") -> NoReturn:
    refuse(path, reason, advice)
