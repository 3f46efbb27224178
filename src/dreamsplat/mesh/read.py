"""Meshes and point clouds of .glb, .gltf, .obj, .off, .stl and textured .ply files, which trimesh reads.

The numbers of the file are taken as display colours. The base colour of a glTF material is converted, since glTF
defines it as linear and exporters comply. glTF defines vertex colours as linear too, but many exporters write display
colours, so they are converted only in files of programs known to comply.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.errors import FileProblem, MissingDependency
from dreamsplat.files.atomic import read_bytes
from dreamsplat.formats.points import GREY
from dreamsplat.maths.srgb import linear_to_srgb
from dreamsplat.mesh.gltf_plain import plain
from dreamsplat.mesh.limits import check_parts, gltf_document
from dreamsplat.mesh.pictures import Neighbours, Textures
from dreamsplat.mesh.sample import Patch, Surface
from dreamsplat.types import PointCloud

if TYPE_CHECKING:
    from PIL.Image import Image

LINEAR_EXPORTERS = ("dreamsplat", "Khronos glTF Blender I/O", "THREE.GLTFExporter")
"""How `asset.generator` begins in glTF files whose vertex colours are linear light, as the standard requires."""


def read_mesh(path: Path, ending: str | None = None) -> Surface | PointCloud:
    """The triangles of a file, in its own axes; its points if it has no triangles. Uses trimesh.

    A missing or broken texture or material file is logged, and colours ignore it.

    Args:
        path: The file.
        ending: What it is, such as ".glb"; by default what its name says.

    Raises:
        FileProblem: if the file is missing, damaged, or of another kind.
        MissingDependency: without trimesh.
    """
    ending = ending or path.suffix.lower()
    content = read_bytes(path)
    try:
        import trimesh
    except ImportError as error:
        advice = 'Run pip install "dreamsplat[mesh]".'
        raise MissingDependency(f"{path}: reading {ending} files needs trimesh.", advice=advice) from error
    neighbours: Any = Neighbours(path)
    kind = ending[1:]
    document = gltf_document(path, content) if kind in ("glb", "gltf") else None
    if document is not None:
        content, document = plain(path, content, document)
    try:
        check_parts(kind, content, document, neighbours)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy warns of text that ends too early.
            scene: Any = trimesh.load(BytesIO(content), kind, resolver=neighbours, force="scene", process=False)
        placed = [(scene.geometry[name], pose) for pose, name in map(scene.graph.get, scene.graph.nodes_geometry)]
        textures = Textures(path, len(content) + neighbours.size)
        meshes = [(item, pose) for item, pose in placed if isinstance(item, trimesh.Trimesh)]
        generator = str(document["asset"].get("generator", "")) if document else ""
        linear = generator.startswith(LINEAR_EXPORTERS)
        surface = tuple(_patch(mesh, pose, kind, textures, linear) for mesh, pose in meshes)
        points = [_points(item, pose) for item, pose in placed if isinstance(item, trimesh.PointCloud)]
    except FileProblem:
        raise
    except Exception as error:  # A parser may fail in any way on a damaged file.
        what = next(iter(str(error).splitlines()), type(error).__name__)[:100]
        reason = f"'{what}' is missing" if isinstance(error, FileNotFoundError) else what
        raise FileProblem(f"{path}: cannot be read as {ending} ({reason}).", advice="Export it again.") from error
    if not surface and points:
        return PointCloud(xyz=torch.cat([p.xyz for p in points]), rgb=torch.cat([p.rgb for p in points]))
    return surface


def _patch(mesh: Any, pose: NDArray[np.float64], kind: str, textures: Textures, linear: bool) -> Patch:
    """A trimesh mesh in the axes of the file; `linear` says whether vertex colours are linear light."""
    faces = np.asarray(mesh.faces, dtype=np.int64).reshape(-1, 3)
    if faces.size and not 0 <= faces.min() <= faces.max() < len(mesh.vertices):
        raise ValueError(f"a face refers to a vertex beyond its {len(mesh.vertices)}")
    corners = torch.from_numpy(_transformed(mesh.vertices, pose)[faces])
    image, material_rgb = _material(mesh)
    uv: Any = getattr(mesh.visual, "uv", None)
    texture = None
    if image is not None and np.shape(uv) == (len(mesh.vertices), 2):
        texture = textures.pixels(image)
    painted = _painted(mesh, faces)
    if painted is not None and linear:
        painted = linear_to_srgb(torch.from_numpy(painted).clamp(0, 1)).numpy()
    given = [colours for colours in (painted, material_rgb) if colours is not None]
    if kind not in ("glb", "gltf"):  # glTF multiplies texture, vertices and material; others use one of them.
        given = [] if texture is not None else given[:1]
    rgb = torch.full_like(corners, GREY if texture is None and not given else 1.0)
    for colours in given:
        rgb = rgb * torch.from_numpy(colours).clamp(0, 1)
    if texture is None:
        return Patch(corners, rgb)
    return Patch(corners, rgb, torch.from_numpy(np.nan_to_num(uv)[faces]), texture)


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
    from trimesh.visual.material import PBRMaterial, SimpleMaterial

    material = getattr(mesh.visual, "material", None)
    if isinstance(material, PBRMaterial):
        factor = material.baseColorFactor  # [4] uint8, or None
        colour = None if factor is None else linear_to_srgb(torch.from_numpy(factor[:3] / 255)).numpy()
        return material.baseColorTexture, colour
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
    else:  # Beside a material, trimesh stores colours of .obj files here and those of glTF there.
        beside = getattr(mesh.visual, "vertex_attributes", {})
        colours = mesh.vertex_attributes.get("color", beside.get("color"))
    if colours is None or np.ndim(colours) != 2 or np.shape(colours)[1] < 3 or len(colours) != len(mesh.vertices):
        return None
    colours = np.asarray(colours)
    scale = np.iinfo(colours.dtype).max if colours.dtype.kind in "iu" else 1.0
    return np.nan_to_num(colours[:, :3].astype(np.float64) / scale)[faces]
