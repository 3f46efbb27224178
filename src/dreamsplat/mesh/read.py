"""Meshes and point clouds of .obj, .off, .stl and textured .ply files, which trimesh reads, and of .glb and .gltf.

The numbers of the file are taken as display colours.
"""

from __future__ import annotations

import logging
import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.errors import FileProblem, MissingDependency
from dreamsplat.files.atomic import read_bytes, refuse
from dreamsplat.formats.ply_colours import scaled_to_1
from dreamsplat.formats.points import GREY
from dreamsplat.mesh.gltf_mesh import read_gltf
from dreamsplat.mesh.lost_colours import obj_in_unit_range, off_colours, stl_colours
from dreamsplat.mesh.pictures import Neighbours, Textures
from dreamsplat.mesh.sample import Patch, Surface
from dreamsplat.types import PointCloud

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PARTS = 2000
"""Uses of materials in an .obj, solids of an .stl: each costs some time."""

_log = logging.getLogger(__name__)


@np.errstate(invalid="ignore", over="ignore")  # What is NaN or infinite is refused later, in one line.
def read_mesh(path: Path, ending: str | None = None) -> Surface | PointCloud:
    """The triangles of a file, in its own axes; its points if it has no triangles.

    What has no colours is grey. That is logged, and so is a missing or broken texture or material file.

    Args:
        path: The file.
        ending: What it is, such as ".glb"; by default what its name says.

    Raises:
        FileProblem: if the file is missing, damaged, or of another kind.
        MissingDependency: without trimesh, which reads all but glTF.
    """
    ending = ending or path.suffix.lower()
    if ending in (".glb", ".gltf"):
        return read_gltf(path)
    content = read_bytes(path)
    try:
        import trimesh
    except ImportError as error:
        advice = 'Run pip install "dreamsplat[mesh]".'
        raise MissingDependency(f"{path}: reading {ending} files needs trimesh.", advice=advice) from error
    neighbours: Any = Neighbours(path)
    kind = ending[1:]
    word = {"stl": b"endsolid", "obj": b"usemtl"}.get(kind)
    if word is not None and (count := content.count(word)) > MOST_PARTS:
        refuse(path, f"{count} times '{word.decode()}', at most {MOST_PARTS}", "Join its parts first.")
    try:
        if kind == "obj":
            content = obj_in_unit_range(path, content.replace(b"\t", b" "))  # trimesh does not split at tabs.
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy warns of text that ends too early.
            scene: Any = trimesh.load(BytesIO(content), kind, resolver=neighbours, force="scene", process=False)
        placed = [(scene.geometry[name], pose) for pose, name in map(scene.graph.get, scene.graph.nodes_geometry)]
        textures = Textures(path, len(content) + neighbours.size)
        meshes = [(item, pose) for item, pose in placed if isinstance(item, trimesh.Trimesh)]
        for item, _ in meshes:
            _add_colours(path, kind, content, item)
        patches = [_patch(path, mesh, pose, textures) for mesh, pose in meshes]
        points = [_points(item, pose) for item, pose in placed if isinstance(item, trimesh.PointCloud)]
    except FileProblem:
        raise
    except Exception as error:  # A parser may fail in any way on a damaged file, and its words explain little.
        raise FileProblem(
            f"{path}: cannot be read as {ending}; it is damaged or of another kind.", advice="Export it again."
        ) from error
    if not patches and points:
        return PointCloud(xyz=torch.cat([p.xyz for p in points]), rgb=torch.cat([p.rgb for p in points]))
    grey = sum(not is_coloured for _, is_coloured in patches)
    if grey and neighbours.is_whole:
        parts = "all of it is" if grey == len(patches) else f"{grey} of {len(patches)} parts are"
        _log.warning("%s: it has no colours: %s grey.", path, parts)
    return tuple(patch for patch, _ in patches)


def _add_colours(path: Path, kind: str, content: bytes, mesh: Any) -> None:
    """Give a mesh the colours that trimesh did not read."""
    if kind == "off" and (rgb := off_colours(path, content, len(mesh.vertices))) is not None:
        mesh.visual.vertex_colors = rgb
    if kind == "stl" and "stl" in mesh.face_attributes:
        rgb = stl_colours(content, mesh.face_attributes["stl"])
        if rgb is not None:
            mesh.visual.face_colors = rgb


def _patch(path: Path, mesh: Any, pose: NDArray[np.float64], textures: Textures) -> tuple[Patch, bool]:
    """A trimesh mesh in the axes of the file, and whether it has a colour."""
    faces = np.asarray(mesh.faces, dtype=np.int64).reshape(-1, 3)
    if faces.size and not 0 <= faces.min() <= faces.max() < len(mesh.vertices):
        refuse(path, f"a face refers to a vertex beyond its {len(mesh.vertices)}", "Export it again.")
    corners = torch.from_numpy(_transformed(mesh.vertices, pose)[faces])
    image, material_rgb = _material(mesh)
    uv: Any = getattr(mesh.visual, "uv", None)
    if image is not None and np.shape(uv) == (len(mesh.vertices), 2):
        texture = textures.pixels(image)
        if texture is not None:
            white = torch.ones_like(corners)
            return Patch(corners, white, torch.from_numpy(np.nan_to_num(uv)[faces]), texture), True
    colours = _painted(mesh, faces)
    if colours is None and material_rgb is not None:
        colours = scaled_to_1(path, torch.from_numpy(material_rgb).nan_to_num(), 1.0).numpy()
    rgb = torch.full_like(corners, GREY if colours is None else 1.0)
    return Patch(corners, rgb if colours is None else rgb * torch.from_numpy(colours).clamp(0, 1)), colours is not None


def _points(points: Any, pose: NDArray[np.float64]) -> PointCloud:
    xyz = torch.from_numpy(_transformed(points.vertices, pose))
    rgb = torch.full_like(xyz, GREY)
    if np.shape(points.colors)[:1] == (len(xyz),):
        rgb = torch.from_numpy(np.asarray(points.colors, np.float64)[:, :3] / 255)
    return PointCloud(xyz=xyz, rgb=rgb)


def _transformed(vertices: Any, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vertices, np.float64).reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3]


def _material(mesh: Any) -> tuple[Image | None, NDArray[np.float64] | None]:
    """The picture and the display colour [3] of the mesh's material, each None if it has none."""
    from trimesh.visual.material import SimpleMaterial

    material = getattr(mesh.visual, "material", None)
    if isinstance(material, SimpleMaterial):
        # A picture without a format is a placeholder by trimesh.
        image = material.image if material.image is not None and material.image.format else None
        kd: Any = material.kwargs.get("kd")
        return image, np.asarray(kd, np.float64) if np.shape(kd) == (3,) else None
    return None, None


def _painted(mesh: Any, faces: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """The colours [F, 3, 3] of the corners, by vertex or face; None if the mesh has none."""
    if mesh.visual.kind == "face":
        return np.repeat(mesh.visual.face_colors[:, None, :3] / 255, 3, axis=1)
    if mesh.visual.kind == "vertex":
        colours = mesh.visual.vertex_colors
    else:  # Beside a material, trimesh stores them here.
        colours = mesh.vertex_attributes.get("color")
    if colours is None or np.ndim(colours) != 2 or np.shape(colours)[1] < 3 or len(colours) != len(mesh.vertices):
        return None
    colours = np.asarray(colours)
    scale = np.iinfo(colours.dtype).max if colours.dtype.kind in "iu" else 1.0
    return np.nan_to_num(colours[:, :3].astype(np.float64) / scale)[faces]
