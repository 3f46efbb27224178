"""What a file holds, by its content; its name decides only where the content says nothing."""

import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreamsplat.files.atomic import read_bytes, read_start

_START = 1 << 21  # Bytes that are looked at: more than the JSON of any scene of Gaussians.
FIELD_MARK = "dreamsplat_voxel_field"
"""What the header of a radiance field's file says."""
_SPLATTING = b"KHR_gaussian_splatting"


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    holds: Literal["gaussians", "points", "field", "mesh", "other"]
    """What is in it."""
    ending: str
    """The ending that its name should have; of Gaussians, the name of their format in the registry."""
    words: str
    """What it is called, with its article."""


PLY = Kind("gaussians", ".ply", "a PLY of Gaussians")
COMPRESSED_PLY = Kind("gaussians", ".compressed.ply", "a compressed PLY")
GLB = Kind("gaussians", ".glb", "a glTF file with Gaussians")
SOG = Kind("gaussians", ".sog", "a SOG file")
SPZ = Kind("gaussians", ".spz", "an .spz file")
SPLAT = Kind("gaussians", ".splat", "a .splat file")
FIELD = Kind("field", ".safetensors", "a radiance field")
PLY_POINTS = Kind("points", ".ply", "a PLY of points")
PLY_MESH = Kind("mesh", ".ply", "a PLY mesh")
_MESHES = {end: Kind("mesh", end, f"a mesh as {end}") for end in (".glb", ".gltf", ".obj", ".off", ".stl")}

EXPORTS = (".points.ply", ".mesh.glb", ".obj", ".stl")
"""Endings of files without Gaussians that `dreamsplat convert` writes."""

_OTHERS = {
    b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"GIF8": "a GIF picture", b"%PDF": "a PDF document",
    b"\x93NUMPY": "a numpy array", b"\x80\x02": "a Python pickle", b"\x80\x04": "a Python pickle",
    b"<!DOCTYPE": "a web page", b"<!doctype": "a web page", b"<html": "a web page", b"\x7fELF": "a program",
    b"PAR1": "a Parquet table", b"SQLite": "a database", b"version https://git-lfs": "a Git LFS pointer, not the file",
}  # fmt: skip
"""First bytes of files that are given by mistake."""


def kind_of(path: Path) -> Kind | None:
    """What a file or an unpacked SOG folder holds; None if neither content nor name says.

    Raises:
        FileProblem: if it cannot be read.
    """
    if os.path.isfile(path / "meta.json"):
        return SOG
    start = read_start(path, _START)
    return _by_content(path, start) or _by_name(path)


def _by_content(path: Path, start: bytes) -> Kind | None:
    if re.match(rb"ply\r?\n", start):
        return _kind_of_ply(start)
    if start.startswith(b"glTF"):
        return GLB if _SPLATTING in start else _MESHES[".glb"]
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _kind_of_json(path, start)
    if start.startswith(b"PK\x03\x04"):
        is_sog = b"meta.json" in start or _has_meta(path)
        return SOG if is_sog else Kind("other", ".zip", "a zip archive")
    if start.startswith(b"\x1f\x8b"):
        return SPZ if _unzipped(start).startswith(b"NGSP") else Kind("other", ".gz", "a gzip archive")
    if start.startswith(b"NGSP"):
        return SPZ
    if start[8:9] == b"{" and (length := int.from_bytes(start[:8], "little")) < 1 << 32:
        is_field = FIELD_MARK.encode() in start[8 : 8 + length]
        return FIELD if is_field else Kind("other", ".safetensors", "a safetensors file, such as weights of a model")
    if re.match(rb"(ST|C|N|4|n)*OFF\b", start):
        return _MESHES[".off"]
    if re.match(rb"\s*solid\b[^\n]*\n\s*(facet|endsolid)\b", start):
        return _MESHES[".stl"]
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return Kind("other", ".webp", "a WebP picture")
    if start[4:8] == b"ftyp":
        return Kind("other", ".mp4", "a film")
    return next((Kind("other", "", words) for begin, words in _OTHERS.items() if start.startswith(begin)), None)


def _kind_of_ply(start: bytes) -> Kind:
    header = start.partition(b"end_header")[0].lower()
    if b"element chunk " in header and b" packed_position" in header:
        return COMPRESSED_PLY
    names = set(re.findall(rb"property\s+\w+\s+(\w+)", header))
    if b"f_dc_0" in names or ({b"rot_0", b"scale_0"} <= names):
        return PLY
    faces = re.search(rb"element\s+face\s+0*[1-9]", header)
    return PLY_MESH if faces else PLY_POINTS


def _kind_of_json(path: Path, start: bytes) -> Kind:
    if _SPLATTING in start or (len(start) == _START and _SPLATTING in read_bytes(path)):
        return GLB
    if re.search(rb'"means"\s*:\s*\{', start) and b'"quats"' in start:
        return SOG
    return _MESHES[".gltf"] if b'"asset"' in start else Kind("other", ".json", "a JSON file")


def _has_meta(path: Path) -> bool:
    """Whether a zip archive holds a meta.json, which other programs write last."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("meta.json") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _unzipped(start: bytes) -> bytes:
    """The first bytes of a gzip stream; none if it is damaged."""
    try:
        return zlib.decompressobj(31).decompress(start, 16)
    except zlib.error:
        return b""


def _by_name(path: Path) -> Kind | None:
    """Binary .stl, .obj and .splat files have no mark of their own."""
    ending = path.suffix.lower()
    return SPLAT if ending == ".splat" else _MESHES[ending] if ending in (".obj", ".stl") else None
