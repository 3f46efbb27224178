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

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.files.atomic import refuse, replacing
from dreamsplat.formats.any_ply import Ply
from dreamsplat.formats.ply_colours import colour_names, display_colours
from dreamsplat.formats.ply_header import Properties, singles
from dreamsplat.maths.harmonics import rgb_to_sh
from dreamsplat.types import Gaussians, PointCloud

_log = logging.getLogger(__name__)

OPACITY_MARGIN = 1e-6
"""Opacities are clamped to [margin, 1 - margin] before they are written as logits: those of 0 and 1 are infinite, which
some readers refuse. 1e-6 is far below the 1/255 at which a renderer starts to draw."""

_LOG_FLATNESS = math.log(1e-3)  # How thin a surfel is, compared with its smaller side.
_SCALES = ("scale_0", "scale_1", "scale_2")
_ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
_PREFIXES = {
    "features_dc_": "f_dc_", "features_rest_": "f_rest_", "scaling_": "scale_", "rotation_": "rot_", "quat_": "rot_",
}  # fmt: skip
"""How properties of other programs begin, and what the standard calls them."""
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
    """Read a PLY of Gaussians in any layout and dialect; centres in float64 where the file has them so, on the CPU.

    Understood besides the standard: text, either byte order, elements before the vertices, names in any case, colours
    as red, green and blue instead of f_dc_*, two scales per Gaussian (2DGS), harmonics above degree 3 (dropped). Extra
    properties and elements are ignored. Values are as they are in the file: `drawable` judges them.

    Raises:
        FileProblem: if the file is missing, damaged, or lacks a property.
    """
    ply = Ply.open(path)
    vertex = ply.header.elements.get("vertex")
    if vertex is None or not vertex.properties:
        refuse(path, "its header declares no vertices", "Export it again.")
    dialect = _dialect(path, vertex.properties)
    columns = ply.columns({"vertex": tuple(name for names in vars(dialect).values() for name in names)})["vertex"]

    def stacked(names: tuple[str, ...], dtype: str = "f4") -> torch.Tensor:
        with np.errstate(over="ignore", invalid="ignore"):  # What is beyond float32 becomes infinite: not drawn.
            table = np.empty((vertex.count, len(names)), dtype)
            for column, name in enumerate(names):
                table[:, column] = columns[name].values
        return torch.from_numpy(table)

    exact = {"f8": "f8", "i4": "f8", "u4": "f8"}.get(vertex.properties[dialect.centre[0]][0], "f4")
    logs = stacked(dialect.scales)
    if len(dialect.scales) == 2:  # A surfel of 2D Gaussian Splatting: flat.
        logs = torch.cat([logs, logs.amin(dim=1, keepdim=True) + _LOG_FLATNESS], dim=1)
    if dialect.rgb:
        first = rgb_to_sh(display_colours(path, columns, dialect.rgb, vertex.properties)).float()
    else:
        first = stacked(dialect.first)
    rest = stacked(dialect.rest).unflatten(1, (3, -1)).mT if dialect.rest else first.new_empty(len(first), 0, 3)
    return Gaussians(
        means=stacked(dialect.centre, exact),
        scales=logs.exp(),
        quats=stacked(dialect.rotation),
        opacities=stacked(dialect.opacity)[:, 0].sigmoid(),
        sh=torch.cat([first[:, None], rest], dim=1),
    )


@dataclass(frozen=True)
class _Dialect:
    """The names that a file gives to its properties."""

    centre: tuple[str, ...]
    rgb: tuple[str, ...]  # instead of `first`
    first: tuple[str, ...]
    rest: tuple[str, ...]  # channel first: all of R, then of G, then of B
    opacity: tuple[str, ...]
    scales: tuple[str, ...]  # three, or two of a surfel
    rotation: tuple[str, ...]


def _dialect(path: Path, properties: Properties) -> _Dialect:
    """The names of a file's properties; refused if some are missing."""
    known = {_standard(name): name for name in singles(properties)}
    rgb = () if "f_dc_0" in known else tuple(colour_names(known.values()) or ())
    first = () if rgb else ("f_dc_0", "f_dc_1", "f_dc_2")
    scales = ("scale_0", "scale_1") if "scale_1" in known and "scale_2" not in known else _SCALES
    needed = ("x", "y", "z", *first, "opacity", *scales, *_ROTATION)
    if missing := [name for name in needed if name not in known]:
        more = " ..." if missing[4:] else ""
        refuse(path, f"not a PLY of Gaussians: it lacks {', '.join(missing[:4])}{more}", "Export it again.")
    rest = _rest(path, sum(name.startswith("f_rest_") for name in known))
    if missing := [name for name in rest if name not in known]:
        refuse(path, f"its f_rest_* have gaps: {missing[0]} is missing", "Export it again.")

    def named(*names: str) -> tuple[str, ...]:
        return tuple(known[name] for name in names)

    return _Dialect(
        centre=named("x", "y", "z"), rgb=rgb, first=named(*first), rest=named(*rest), opacity=named("opacity"),
        scales=named(*scales), rotation=named(*_ROTATION),
    )  # fmt: skip


def _standard(name: str) -> str:
    """What the standard calls a property of this name."""
    name = name.lower()
    return next((new + name.removeprefix(old) for old, new in _PREFIXES.items() if name.startswith(old)), name)


def _rest(path: Path, count: int) -> list[str]:
    """The f_rest_* to read of so many: all of degree 0 to 3, or those of degree 3 of a higher one."""
    each = count // 3
    degree = math.isqrt(each + 1) - 1
    if count % 3 or (degree + 1) ** 2 - 1 != each or degree > 10:
        refuse(path, f"{count} f_rest_* properties; expected 0, 9, 24 or 45 (degree 0 to 3)", "Export it again.")
    if degree > 3:
        _log.warning("%s: harmonics of degree %d: those above 3 are dropped.", path, degree)
    used = (min(degree, 3) + 1) ** 2 - 1
    return [f"f_rest_{channel * each + k}" for channel in range(3) for k in range(used)]


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
