"""Coloured points on the surface of a mesh, uniform by area; files other than .ply are read by trimesh.

A mesh becomes patches: triangles with a colour at each corner and, where the file has one, a texture. Colours are the
numbers of the file, taken as display colours. The base colour of a glTF material is converted: glTF says that it is
linear, and exporters agree. glTF says so of vertex colours too, but there many exporters write display colours, so they
are converted only in files of programs that are known to follow it.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamsplat.errors import FileProblem, MissingDependency
from dreamsplat.formats.atomic import read_bytes
from dreamsplat.srgb import linear_to_srgb
from dreamsplat.types import PointCloud, check_shapes

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

GREY = 0.5
"""Every channel of a point whose file gives it no colour; the paper's avatars start so."""
LINEAR_EXPORTERS = ("dreamsplat", "Khronos glTF Blender I/O", "THREE.GLTFExporter")
"""Beginnings of `asset.generator` in glTF files whose vertex colours are linear light, as the standard wants."""


@dataclass(frozen=True)
class Patch:
    """F triangles that share one texture, or have none."""

    corners: Tensor
    """[F, 3, 3] corner positions (triangle, corner, coordinate)."""
    rgb: Tensor
    """[F, 3, 3] display colours of the corners; with a texture, what its colours are multiplied by."""
    uv: Tensor | None = None
    """[F, 3, 2] texture coordinates of the corners: (0, 0) is the lower left of the texture, which repeats."""
    texture: Tensor | None = None
    """[h, w, 3] uint8 display colours, first row on top."""

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shapes(corners=(self.corners, "F 3 3"), rgb=(self.rgb, "F 3 3"))
        assert (self.uv is None) == (self.texture is None), "a texture needs texture coordinates, and they need it"


Surface = tuple[Patch, ...]
"""A whole mesh."""


def triangle_areas(surface: Surface) -> Tensor:
    """The area [F] of every triangle of every patch, in their order."""
    corners = torch.cat([patch.corners for patch in surface])
    sides = corners[:, 1:] - corners[:, :1]  # [F, 2, 3]
    return torch.linalg.cross(sides[:, 0], sides[:, 1]).norm(dim=-1) / 2


def sample_surface(surface: Surface, count: int, generator: torch.Generator) -> PointCloud:
    """Points drawn uniformly by area, coloured by the texture or between the corners' colours: float32, on the CPU.

    Args:
        surface: Patches whose areas are finite and not all 0.
        count: Points to draw, >= 1.
        generator: Source of all randomness: triangles, then places in them.
    """
    ends = triangle_areas(surface).cumsum(dim=0)
    drawn = torch.rand(count, generator=generator, dtype=torch.float64) * ends[-1]
    # `right` passes over triangles without area; the clamp is for a product that was rounded up to the total.
    index = torch.searchsorted(ends, drawn, right=True).clamp_max(len(ends) - 1)
    # Uniform in a triangle: Osada et al. 2002, "Shape Distributions", eq. 1.
    root, share = torch.rand((count, 2), generator=generator, dtype=torch.float64).unbind(dim=1)
    root = root.sqrt()
    weights = torch.stack([1 - root, root * (1 - share), root * share], dim=1)  # [P, 3]
    xyz, rgb = torch.empty(count, 3), torch.empty(count, 3)
    first = 0
    for patch in surface:
        here = ((index >= first) & (index < first + len(patch.corners))).nonzero()[:, 0]
        rows, share_of = index[here] - first, weights[here, :, None]
        xyz[here] = (patch.corners[rows] * share_of).sum(dim=1).float()
        rgb[here] = _colours(patch, rows, share_of)
        first += len(patch.corners)
    return PointCloud(xyz=xyz, rgb=rgb)


def _colours(patch: Patch, rows: Tensor, weights: Tensor) -> Tensor:
    """The colours [P, 3] of points in triangles `rows` [P], at `weights` [P, 3, 1] of the corners."""
    rgb = (patch.rgb[rows] * weights).sum(dim=1).float()
    if patch.uv is None or patch.texture is None:
        return rgb
    u, v = (patch.uv[rows] * weights).sum(dim=1).unbind(dim=1)
    height, width = patch.texture.shape[:2]
    # The nearest texel: between texels lie the seams of an atlas.
    column = (u.remainder(1) * width).long().clamp_max(width - 1)
    row = ((1 - v).remainder(1) * height).long().clamp_max(height - 1)
    return rgb * patch.texture[row, column].float() / 255


def polygon_patch(
    path: Path,
    xyz: Tensor,  # [V, 3]
    polygons: NDArray[Any] | list[NDArray[Any]],  # M of [vertices]
    vertex_rgb: Tensor | None,  # [V, 3]
    face_rgb: Tensor | None,  # [M, 3], used without vertex_rgb
) -> Patch:
    """Polygons of any length as fans of triangles; lines and single points among them are left out.

    Raises:
        FileProblem: naming `path`, if a polygon names a vertex that is not there.
    """
    lengths = np.fromiter(map(len, polygons), np.int64, len(polygons))
    fans, owners = [np.empty((0, 3), np.int64)], [np.empty(0, np.int64)]
    for length in np.unique(lengths[lengths >= 3]):
        alike = np.flatnonzero(lengths == length)
        with np.errstate(invalid="ignore"):  # What is no integer fails the test below.
            rows = polygons[alike] if isinstance(polygons, np.ndarray) else np.stack([polygons[i] for i in alike])
            vertices = rows.astype(np.int64)
        fans += [vertices[:, [0, i, i + 1]] for i in range(1, length - 1)]
        owners += [alike] * (length - 2)
    corners, owner = np.concatenate(fans), np.concatenate(owners)
    if corners.size and not 0 <= corners.min() <= corners.max() < len(xyz):
        raise FileProblem(f"{path}: a face names a vertex that is not among its {len(xyz)}. Export it again.")
    rgb = torch.full((len(corners), 3, 3), GREY, dtype=torch.float64)
    if vertex_rgb is not None:
        rgb = vertex_rgb[corners]
    elif face_rgb is not None:
        rgb = face_rgb[owner][:, None].repeat(1, 3, 1)
    return Patch(xyz[corners], rgb)


def read_mesh(path: Path) -> Surface | PointCloud:
    """The triangles of a file that trimesh reads, in the frame of the file; its points if it holds nothing else.

    A texture or material file that is missing or broken is logged, and colours are taken without it.

    Raises:
        FileProblem: if the file is missing, or is not what its suffix says.
        MissingDependency: without trimesh.
    """
    content = read_bytes(path)
    try:
        import trimesh
        from trimesh.resolvers import FilePathResolver
    except ImportError as error:
        raise MissingDependency(
            f'{path}: reading {path.suffix} files needs trimesh: pip install "dreamsplat[mesh]".'
        ) from error
    neighbours: Any = _Neighbours(path, FilePathResolver(str(path.absolute())).get)
    kind = path.suffix.lower()[1:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy warns of text that ends in the middle.
            scene: Any = trimesh.load(BytesIO(content), kind, resolver=neighbours, force="scene", process=False)
        placed = [(scene.geometry[name], pose) for pose, name in map(scene.graph.get, scene.graph.nodes_geometry)]
        pixels: dict[int, Tensor | None] = {}
        meshes = [(item, pose) for item, pose in placed if isinstance(item, trimesh.Trimesh)]
        linear = kind in ("glb", "gltf") and _generator(content).startswith(LINEAR_EXPORTERS)
        surface = tuple(_patch(mesh, pose, path, pixels, linear) for mesh, pose in meshes)
        points = [_points(item, pose) for item, pose in placed if isinstance(item, trimesh.PointCloud)]
    except Exception as error:  # A parser may fail in any way on a file that is damaged.
        what = next(iter(str(error).splitlines()), type(error).__name__)[:100]
        reason = f"'{what}' is not beside it" if isinstance(error, FileNotFoundError) else what
        raise FileProblem(f"{path}: cannot be read as {path.suffix} ({reason}). Export it again.") from error
    if not surface and points:
        return PointCloud(xyz=torch.cat([p.xyz for p in points]), rgb=torch.cat([p.rgb for p in points]))
    return surface


class _Neighbours:
    """Files that a mesh names, such as textures: found where trimesh looks; what cannot be used is logged once."""

    def __init__(self, path: Path, get: Callable[[str], bytes]) -> None:
        self.path, self._get, self._reported = path, get, set[str]()

    def get(self, name: str) -> bytes:
        """The content of a file beside the mesh. Windows separators and options before the name are understood."""
        for candidate in (name, name.replace("\\", "/"), name.split()[-1] if name.split() else name):
            try:
                content = self._get(candidate)
            except (OSError, ValueError):
                continue
            self._check_image(name, content)
            return content
        if Path(name).suffix.lower() != ".bin":  # Without its numbers a mesh is no mesh: that becomes an error.
            self._report(name, "is not there")
        raise FileNotFoundError(name)

    __getitem__ = get

    def _check_image(self, name: str, content: bytes) -> None:
        if Path(name).suffix.lower() in (".mtl", ".bin"):
            return
        from PIL import Image

        try:
            Image.open(BytesIO(content)).close()
        except Exception:  # Pillow fails in many ways; trimesh then goes on without the picture.
            self._report(name, "is no picture that can be read")

    def _report(self, name: str, why: str) -> None:
        if name not in self._reported:
            self._reported.add(name)
            log.warning("%s: '%s' %s; colours are taken without it.", self.path, name, why)


def _generator(content: bytes) -> str:
    """The program that wrote a .glb or .gltf that could be read; empty if it does not say."""
    text = content[20 : 20 + int.from_bytes(content[12:16], "little")] if content[:4] == b"glTF" else content
    return str(json.loads(text)["asset"].get("generator", ""))


def _patch(mesh: Any, pose: NDArray[np.float64], path: Path, pixels: dict[int, Tensor | None], linear: bool) -> Patch:
    """A trimesh mesh in the frame of the file.

    `pixels` remembers textures that several meshes share; `linear` says that vertex colours are linear light.
    """
    faces = np.asarray(mesh.faces, dtype=np.int64).reshape(-1, 3)
    corners = torch.from_numpy(_transformed(mesh.vertices, pose)[faces])
    image, material_rgb = _material(mesh)
    uv: Any = getattr(mesh.visual, "uv", None)
    texture = None
    if image is not None and np.shape(uv) == (len(mesh.vertices), 2):
        if id(image) not in pixels:
            pixels[id(image)] = _pixels(image, path)
        texture = pixels[id(image)]
    painted = _painted(mesh, faces)
    if painted is not None and linear:
        painted = linear_to_srgb(torch.from_numpy(painted).clamp(0, 1)).numpy()
    given = [colours for colours in (painted, material_rgb) if colours is not None]
    if path.suffix.lower() not in (".glb", ".gltf"):  # glTF multiplies texture, vertices and material; others choose.
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
    """The picture and the display colour [3] that the mesh's material gives, where it gives one."""
    from trimesh.visual.material import PBRMaterial, SimpleMaterial

    material = getattr(mesh.visual, "material", None)
    if isinstance(material, PBRMaterial):
        factor = material.baseColorFactor  # [4] uint8, or None
        colour = None if factor is None else linear_to_srgb(torch.from_numpy(factor[:3] / 255)).numpy()
        return material.baseColorTexture, colour
    if isinstance(material, SimpleMaterial):
        # A picture without a format did not come from a file: it is trimesh's stand-in.
        image = material.image if material.image is not None and material.image.format else None
        kd: Any = material.kwargs.get("kd")
        return image, np.asarray(kd, np.float64) if np.shape(kd) == (3,) else None
    return None, None


def _painted(mesh: Any, faces: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """The colours [F, 3, 3] that a mesh gives its corners by vertex or face, or None."""
    if mesh.visual.kind == "face":
        return np.repeat(mesh.visual.face_colors[:, None, :3] / 255, 3, axis=1)
    if mesh.visual.kind == "vertex":
        colours = mesh.visual.vertex_colors
    else:  # trimesh puts colours beside a material in one of two places: .obj in the first, glTF in the second.
        beside = getattr(mesh.visual, "vertex_attributes", {})
        colours = mesh.vertex_attributes.get("color", beside.get("color"))
    if colours is None or np.ndim(colours) != 2 or np.shape(colours)[1] < 3 or len(colours) != len(mesh.vertices):
        return None
    colours = np.asarray(colours)
    scale = np.iinfo(colours.dtype).max if colours.dtype.kind in "iu" else 1.0
    return np.nan_to_num(colours[:, :3].astype(np.float64) / scale)[faces]


def _pixels(image: Image, path: Path) -> Tensor | None:
    try:
        return torch.from_numpy(np.array(image.convert("RGB")))
    except Exception as error:  # Pillow decodes late, and fails in many ways on a picture that is cut off.
        log.warning("%s: a texture cannot be read (%s); colours are taken without it.", path, error)
        return None
