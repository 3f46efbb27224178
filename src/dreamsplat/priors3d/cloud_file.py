"""A coloured point cloud, Gaussians or a mesh in a file: read, turned upright, centred, scaled and sampled."""

import dataclasses
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dreamsplat import formats
from dreamsplat.assets.frame import Z_UP_TO_Y_UP
from dreamsplat.assets.gaussians import rows, solid_points
from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files.atomic import refuse
from dreamsplat.formats.any_ply import Ply
from dreamsplat.formats.drawable import drawable_points
from dreamsplat.formats.ply_colours import colour_names, display_colours
from dreamsplat.formats.ply_header import singles
from dreamsplat.formats.points import GREY, read_points
from dreamsplat.mesh.read import read_mesh
from dreamsplat.mesh.sample import Surface, polygon_patch, sample_surface, triangle_areas
from dreamsplat.priors3d.base import AbstractCloudPrior
from dreamsplat.priors3d.from_file import UP, FromFile, start_kind
from dreamsplat.types import PointCloud

_log = logging.getLogger(__name__)
_FEW_TRIANGLES = 200_000
"""So many triangles may be in a PLY of any size; more of them take at least 4 bytes each, or it is a bomb."""


class CloudFile(AbstractCloudPrior):
    """What a file holds, upright and of the size that the settings ask for."""

    def __init__(self, spec: FromFile, device: torch.device) -> None:
        """Read the file.

        Raises:
            FileProblem: if it is damaged or empty.
            InvalidInput: if it is a mesh and the settings do not say how many points to draw.
            MissingDependency: if it is a mesh, and trimesh is not installed.
        """
        shape = read_shape(spec.file, spec.strict)
        if spec.count is None and not isinstance(shape, PointCloud):
            raise InvalidInput(
                f"None, but {spec.file} is a mesh.", setting="prior3d.count", advice="Say how many points to draw."
            )
        self.spec, self.shape, self.device = spec, _posed(shape, spec), device

    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        """See `AbstractCloudPrior.sample`; the prompt is ignored."""
        count, cloud = self.spec.count, self.shape
        if not isinstance(cloud, PointCloud):
            assert count is not None, "a mesh without a count was refused when it was loaded"
            cloud = sample_surface(cloud, count, generator)
        elif count is not None and len(cloud) > count:
            kept = torch.randperm(len(cloud), generator=generator)[:count].sort().values
            cloud = rows(cloud, kept)
        if self.spec.colour == "grey":
            cloud = dataclasses.replace(cloud, rgb=torch.full_like(cloud.rgb, GREY))
        return cloud.to(self.device, torch.float32)


def read_shape(path: Path, strict: bool = False) -> PointCloud | Surface:
    """What a file holds, in its own frame: at least one point, or one triangle with an area; all of it finite."""
    kind = start_kind(path)
    if kind.holds in ("gaussians", "field"):
        shape = solid_points(formats.read(path, strict=strict))
        if kind.ending == ".glb":  # back to the axes of the file
            shape = dataclasses.replace(shape, xyz=shape.xyz @ Z_UP_TO_Y_UP.T.to(shape.xyz))
    elif kind.holds == "points":
        shape = drawable_points(path, read_points(path), strict)
    elif kind.ending == ".ply":
        shape = _read_ply_mesh(path)
    else:
        shape = read_mesh(path, kind.ending)
        if isinstance(shape, PointCloud):
            shape = drawable_points(path, shape, strict)
    xyz = _positions(shape)
    if len(xyz) == 0:
        raise FileProblem(f"{path}: it holds no points and no triangles. Export the object again.")
    if not bool(xyz.float().isfinite().all()):
        raise FileProblem(f"{path}: a coordinate is NaN, infinite or beyond float32. Remove such points first.")
    if not isinstance(shape, PointCloud) and not float(triangle_areas(shape).sum()) > 0:
        raise FileProblem(f"{path}: its triangles have no area. Expected a mesh with a surface.")
    return shape


def _posed(shape: PointCloud | Surface, spec: FromFile) -> PointCloud | Surface:
    """The shape with +z up and its front towards -y, centred and scaled as the settings say."""
    up = UP.get(start_kind(spec.file).ending, "z") if spec.up == "auto" else spec.up
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
        raise FileProblem(
            f"{spec.file}: all points are in one place, which has no size.", advice="Set `prior3d.size` to None."
        )
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


def _read_ply_mesh(path: Path) -> PointCloud | Surface:
    """The surface of a PLY with faces; colours of vertices or else of faces.

    Raises:
        FileProblem: if the file is damaged, or lacks x, y and z.
        MissingDependency: if it has a texture, and trimesh is not installed.
    """
    ply = Ply.open(path)
    if any(words[:1] == ["TextureFile"] for words in ply.header.comments):
        return read_mesh(path)
    kinds = {name: element.properties for name, element in ply.header.elements.items()}
    known = {name.lower(): name for name in singles(kinds.get("vertex", {}))}
    if not {"x", "y", "z"} <= known.keys():
        refuse(path, "its header declares no vertices with x, y and z")
    places = tuple(known[axis] for axis in "xyz")
    colours = {part: colour_names(singles(kinds.get(part, {}))) or [] for part in ("vertex", "face")}
    columns = ply.columns({
        "vertex": (*places, *colours["vertex"]),
        "face": ("vertex_indices", "vertex_index", *colours["face"]),
    })  # fmt: skip
    with np.errstate(invalid="ignore"):  # a signalling NaN, which is refused later like any other
        xyz = [columns["vertex"][name].values.astype(np.float64) for name in places]
    corner_rgb, face_rgb = (
        display_colours(path, columns[part], names, kinds[part]) if names else None for part, names in colours.items()
    )
    if corner_rgb is None and face_rgb is None:
        _log.warning("%s: it has no colours: all of it is grey.", path)
    polygons = columns["face"].get("vertex_indices", columns["face"].get("vertex_index"))
    if polygons is None:
        refuse(path, "its faces list no vertices")
    most = max(_FEW_TRIANGLES, len(ply.body) // 4)
    return (polygon_patch(path, torch.from_numpy(np.stack(xyz, axis=1)), polygons, corner_rgb, face_rgb, most),)
