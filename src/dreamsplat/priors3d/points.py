"""A file as the start of the method: a coloured point cloud, Gaussians or a mesh in place of a 3D diffusion model.

With a posed human body this is the avatar mode of GaussianDreamer (Yi et al., CVPR 2024); docs/starting-points.md.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamsplat import formats
from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.formats.atomic import read_bytes, refuse
from dreamsplat.priors3d.base import AbstractCloudPrior
from dreamsplat.priors3d.mesh_surface import GREY, Surface, polygon_patch, read_mesh, sample_surface, triangle_areas
from dreamsplat.spherical_harmonics import sh_to_rgb
from dreamsplat.types import PointCloud

UP: dict[str, Literal["y", "z"]] = {".glb": "y", ".gltf": "y", ".obj": "y", ".off": "z", ".ply": "z", ".stl": "z"}
"""The suffixes that can be read, and which axis points up in them: by the standard (glTF) or by custom."""
FAINT = 0.05
"""Gaussians of less opacity are no points; the same bound at which the method itself removes them."""


@dataclass(frozen=True)
class Points:
    """Settings of a start from a file. The prompt says what to make of it; nothing is taken from a 3D model."""

    file: Path = Path()
    """A coloured point cloud (.ply), Gaussians (.ply), or a mesh (.glb, .gltf, .obj, .off, .ply, .stl)."""
    count: int | None = 50_000
    """Points drawn on the surface of a mesh, uniformly by area; a larger cloud is thinned to as many at random. None
    keeps all points of a cloud."""
    up: Literal["auto", "y", "z"] = "auto"
    """The file's axis that points up; its front is then +z or -y. auto: y for .glb, .gltf and .obj, z for others."""
    turn_deg: float = 0.0
    """Turn about the vertical axis, counter-clockwise seen from above: 90 brings what faced -x to the front."""
    centre: bool = True
    """Whether the middle of the bounding box goes to the origin, where cameras look; else the file's origin does."""
    size: float | None = 1.0
    """Half of the longest side of the bounding box, before `lift.world_scale`; None keeps the file's units."""
    colour: Literal["file", "grey"] = "file"
    """Colours of the file, where it has any, or grey for all points."""

    def load(self, device: torch.device) -> AbstractCloudPrior:
        """Read the file.

        Raises:
            InvalidInput: if a setting is out of range, or there is no file named.
            FileProblem: if the file is missing, damaged, empty, or of an unknown kind.
            MissingDependency: if the file is a mesh, and trimesh is not installed.
        """
        self._check()
        shape = _read(self.file)
        if self.count is None and not isinstance(shape, PointCloud):
            raise InvalidInput(f"count: None, but {self.file} is a mesh; say how many points to draw, such as 50000.")
        return _FromFile(self, _posed(shape, self), device)

    def _check(self) -> None:
        """Refuse what cannot be used. Not in `__post_init__`: this prior may be a default that nobody asked for."""
        if self.file == Path():
            raise InvalidInput("prior3d: points needs a file, such as --prior3d.file chair.glb.")
        if self.count is not None and not 1 <= self.count <= 10**8:
            raise InvalidInput(f"count: {self.count}, expected 1 to 100000000, or None for all points of a cloud.")
        if self.size is not None and not 0 < self.size < math.inf:
            raise InvalidInput(f"size: {self.size}, expected a number above 0, or None to keep the units of the file.")
        if not math.isfinite(self.turn_deg):
            raise InvalidInput(f"turn_deg: {self.turn_deg}, expected a finite number of degrees.")
        if self.up not in ("auto", "y", "z") or self.colour not in ("file", "grey"):
            raise InvalidInput(f"up '{self.up}', colour '{self.colour}': expected auto, y or z; and file or grey.")


class _FromFile(AbstractCloudPrior):
    def __init__(self, spec: Points, shape: PointCloud | Surface, device: torch.device) -> None:
        self.spec, self.shape, self.device = spec, shape, device

    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        count, cloud = self.spec.count, self.shape
        if not isinstance(cloud, PointCloud):
            assert count is not None, "a mesh without a count was refused when it was loaded"
            cloud = sample_surface(cloud, count, generator)
        elif count is not None and len(cloud) > count:
            kept = torch.randperm(len(cloud), generator=generator)[:count].sort().values
            cloud = PointCloud(xyz=cloud.xyz[kept], rgb=cloud.rgb[kept])
        if self.spec.colour == "grey":
            cloud = dataclasses.replace(cloud, rgb=torch.full_like(cloud.rgb, GREY))
        return cloud.to(self.device, torch.float32)


def _read(path: Path) -> PointCloud | Surface:
    """What a file holds, in its own frame: at least one point, or one triangle with an area; all of it finite."""
    suffix = path.suffix.lower()
    if suffix not in UP:
        raise FileProblem(f"{path}: points cannot be read from '{path.suffix}'. Known suffixes: {', '.join(UP)}.")
    shape = read_ply(path) if suffix == ".ply" else read_mesh(path)
    xyz = _positions(shape)
    if len(xyz) == 0:
        raise FileProblem(f"{path}: it holds no points and no triangles. Export the object again.")
    if not bool(xyz.float().isfinite().all()):
        raise FileProblem(f"{path}: a coordinate is NaN, infinite or beyond float32. Remove such points first.")
    if not isinstance(shape, PointCloud) and not float(triangle_areas(shape).sum()) > 0:
        raise FileProblem(f"{path}: its triangles have no area. Expected a mesh with a surface.")
    return shape


def _posed(shape: PointCloud | Surface, spec: Points) -> PointCloud | Surface:
    """The shape with +z up and its front towards -y, centred and scaled as the settings say."""
    up = UP[spec.file.suffix.lower()] if spec.up == "auto" else spec.up
    cos, sin = math.cos(math.radians(spec.turn_deg)), math.sin(math.radians(spec.turn_deg))
    rotation = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)
    if up == "y":  # +y becomes +z, and +z, the front of glTF, becomes -y.
        rotation = rotation @ torch.tensor([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    shape = _map_positions(shape, lambda xyz: xyz.double() @ rotation.T)
    xyz = _positions(shape)
    low, high = xyz.amin(dim=0), xyz.amax(dim=0)
    middle = (low + high) / 2 if spec.centre else torch.zeros(3, dtype=torch.float64)
    half = float((high - low).max()) / 2
    if spec.size is not None and half < 1e-30:
        raise FileProblem(f"{spec.file}: all points are in one place, which has no size. Use --prior3d.size None.")
    scale = 1.0 if spec.size is None else spec.size / half
    return _map_positions(shape, lambda xyz: (xyz - middle) * scale)


def _positions(shape: PointCloud | Surface) -> Tensor:
    """All points [P, 3], or the corners of all triangles [3 F, 3]."""
    if isinstance(shape, PointCloud):
        return shape.xyz
    return torch.cat([patch.corners.reshape(-1, 3) for patch in shape] or [torch.empty(0, 3)])


def _map_positions(shape: PointCloud | Surface, change: Callable[[Tensor], Tensor]) -> PointCloud | Surface:
    if isinstance(shape, PointCloud):
        return dataclasses.replace(shape, xyz=change(shape.xyz))
    return tuple(dataclasses.replace(patch, corners=change(patch.corners)) for patch in shape)


_KINDS = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_Properties = dict[str, tuple[str, str | None]]  # Name -> (numpy type, for a list also the type of its length).
_Column = NDArray[Any] | list[NDArray[Any]]  # [count, length], or arrays of their own lengths.


def read_ply(path: Path) -> PointCloud | Surface:
    """A PLY of any layout: its surface if it has faces, else its points, or the centres of its Gaussians.

    Colours are red, green, blue of vertices or else of faces: float (0 to 1), ushort (0 to 65535), others 0 to 255.

    Raises:
        FileProblem: if the file is missing, damaged, or lacks x, y and z.
        MissingDependency: if it has a texture, and trimesh is not installed.
    """
    content = read_bytes(path)
    end = content.find(b"end_header", 0, 1 << 16)
    newline = content.find(b"\n", end, end + 12)
    if not content.startswith((b"ply\n", b"ply\r\n")) or end < 0 or newline < 0:
        refuse(path, "not a PLY file, or its header has no end")
    lines = [line.split() for line in content[:end].decode("ascii", errors="replace").splitlines()[1:]]
    order, elements = _parse_header(path, lines)
    properties = elements.get("vertex", (0, {}))[1]
    if not {"x", "y", "z"} <= _single(properties):
        refuse(path, "its header declares no vertices with x, y and z")
    if "f_dc_0" in properties:
        return _read_gaussians(path)
    if any(line[:2] == ["comment", "TextureFile"] for line in lines):
        return read_mesh(path)
    body = _Body(path, content[newline + 1 :], order)
    columns = {name: body.element(count, properties) for name, (count, properties) in elements.items()}
    vertex, face = columns["vertex"], columns.get("face", {})
    xyz, rgb = _stack(vertex, ("x", "y", "z")), _rgb(path, vertex, properties)
    polygons = face.get("vertex_indices", face.get("vertex_index", []))
    if len(polygons) == 0:
        return PointCloud(xyz=xyz, rgb=torch.full_like(xyz, GREY) if rgb is None else rgb)
    return (polygon_patch(path, xyz, polygons, rgb, _rgb(path, face, elements["face"][1])),)


def _read_gaussians(path: Path) -> PointCloud:
    """The centres of Gaussians that are not faint, in the colour that they have on average over all sides."""
    gaussians = formats.load(path)
    solid = gaussians.opacities >= FAINT
    return PointCloud(xyz=gaussians.means[solid], rgb=sh_to_rgb(gaussians.sh[solid, 0]).clamp(0, 1))


def _parse_header(path: Path, lines: list[list[str]]) -> tuple[str, dict[str, tuple[int, _Properties]]]:
    """The byte order ("" is text), and of each element how many there are and their properties."""
    order, elements, inside = None, dict[str, tuple[int, _Properties]](), None
    for words in lines:
        match words:
            case ["format", kind, "1.0"] if kind in _ORDERS:
                order = _ORDERS[kind]
            case ["element", name, number] if number.isascii() and number.isdigit() and len(number) < 16:
                inside = _Properties()
                elements[name] = (int(number), inside)
            case ["property", "list", length, kind, name] if inside is not None and {length, kind} <= _KINDS.keys():
                inside[name] = (_KINDS[kind], _KINDS[length])
            case ["property", kind, name] if inside is not None and kind in _KINDS:
                inside[name] = (_KINDS[kind], None)
            case ["comment" | "obj_info", *_] | []:
                pass
            case _:
                refuse(path, f"its header has an unknown line {' '.join(words)[:60]!r}")
    if order is None:
        refuse(path, "its header names no format")
    return order, elements


class _Body:
    """What follows the header of a PLY: the records of one element after another."""

    def __init__(self, path: Path, content: bytes, order: str) -> None:
        self.path, self.content, self.order, self.at = path, content, order, 0
        if not order:  # Text becomes binary, all of it float64: then there is one kind to read.
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # numpy warns, and stops, at a word that is no number.
                    self.content = np.fromstring(content.decode("ascii", errors="replace"), sep=" ").tobytes()
            except (ValueError, DeprecationWarning):
                refuse(path, "a word after its header is no number")

    def element(self, count: int, properties: _Properties) -> dict[str, _Column]:
        """The values of each property."""
        if count == 0 or not properties:
            return {}
        start = self.at
        widths = [len(values) for values in self._record(properties).values()]
        self.at = start
        # Mostly every record is laid out as the first, and the element is one table. A single value has no length.
        fields = []
        for (kind, length_kind), width in zip(properties.values(), widths, strict=True):
            fields += [(length_kind or "u1", int(length_kind is not None)), (kind, width)]
        if taken := self._take(fields, count):
            lengths, values = taken[::2], taken[1::2]
            if all(bool((length == width).all()) for length, width in zip(lengths, widths, strict=True)):
                return {name: column for name, column in zip(properties, values, strict=True)}
        if _single(properties) == properties.keys():
            refuse(self.path, f"truncated: it ends before the last of {count} records")
        self.at = start
        records = [self._record(properties) for _ in range(count)]
        return {name: [record[name] for record in records] for name in properties}

    def _record(self, properties: _Properties) -> dict[str, NDArray[Any]]:
        values = {}
        for name, (kind, length_kind) in properties.items():
            length = 1 if length_kind is None else self._one(length_kind, 1)[0]
            if not 0 <= length <= len(self.content):
                refuse(self.path, f"a list '{name[:40]}' of length {length}; the file is damaged")
            values[name] = self._one(kind, int(length))
        return values

    def _one(self, kind: str, width: int) -> NDArray[Any]:
        taken = self._take([(kind, width)], 1)
        if taken is None:
            refuse(self.path, "truncated: it ends within a record")
        return taken[0][0]

    def _take(self, fields: list[tuple[str, int]], rows: int) -> list[NDArray[Any]] | None:
        """Arrays [rows, width] for (type, width), or None if the file is too short."""
        types = ((kind if self.order else "f8", width) for kind, width in fields)
        record = np.dtype([(str(i), self.order + kind, (width,)) for i, (kind, width) in enumerate(types)])
        if (end := self.at + rows * record.itemsize) > len(self.content):
            return None
        table = np.ndarray(rows, record, self.content, self.at)
        self.at = end
        return [table[str(i)] for i in range(len(fields))]


def _single(properties: _Properties) -> set[str]:
    """The properties that are no lists."""
    return {name for name, (_, length_kind) in properties.items() if length_kind is None}


def _stack(columns: dict[str, _Column], names: tuple[str, ...]) -> Tensor:
    if not columns:
        return torch.empty(0, len(names), dtype=torch.float64)
    with np.errstate(invalid="ignore"):  # a signalling NaN, which is refused later like any other
        wide = [np.reshape(columns[name], -1).astype(np.float64) for name in names]
    return torch.from_numpy(np.stack(wide, axis=1))


def _rgb(path: Path, columns: dict[str, _Column], properties: _Properties) -> Tensor | None:
    names = ("red", "green", "blue")
    if not columns or not set(names) <= _single(properties):
        return None
    tops = [{"f4": 1, "f8": 1, "u2": 65535}.get(properties[name][0], 255) for name in names]
    rgb = _stack(columns, names) / torch.tensor(tops)
    if not bool((rgb <= 2).all()):
        refuse(path, f"its colours reach {float(rgb.max()):.4g} of full; store them as uchar, or as float from 0 to 1")
    return rgb.clamp(0, 1)
