"""Meshes and points of a glTF: each shown where its nodes or bones put it, in the colours of the standard.

Read with our own opener, since trimesh ignores normalised numbers, skins, instances and all but the first texture
coordinates. Khronos, glTF 2.0 specification, sections 3.7 (meshes and skins) and 3.9 (materials).
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamsplat.files.gltf import COMPONENTS, Glb
from dreamsplat.files.gltf_extensions import DRACO, check_required
from dreamsplat.formats.gltf_nodes import Node, instances, nodes_of
from dreamsplat.formats.ply_colours import scaled_to_1
from dreamsplat.formats.points import GREY
from dreamsplat.maths.srgb import linear_to_srgb
from dreamsplat.mesh.draco import decoded
from dreamsplat.mesh.gltf_material import Material, Materials
from dreamsplat.mesh.sample import Patch, Surface
from dreamsplat.types import PointCloud

LINEAR_EXPORTERS = ("dreamsplat", "Khronos glTF Blender I/O", "THREE.GLTFExporter")
"""How `asset.generator` begins in files whose vertex colours are linear light, as the standard requires."""
MOST_PARTS = 10_000
"""Primitives that a file may hold and show in all; each takes about 0.1 ms."""
FEW_VALUES = 500_000
"""Vertices and indices that a file of any size may show; a larger one may show two for each of its bytes, 16 if Draco
packed them."""

_POINTS, _TRIANGLES, _STRIP, _FAN = 0, 4, 5, 6
_COLOUR = re.compile(r"_?(colou?r|rgba?)(_?\d)?", re.IGNORECASE)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Primitive:
    """V vertices in their own axes, as F triangles or as points."""

    xyz: NDArray[np.float64]  # [V, 3]
    corners: NDArray[np.int64] | None  # [F, 3] indices of vertices; None for points
    rgb: NDArray[np.float64] | None  # [V, 3] display colours
    uv: NDArray[np.float64] | None  # [V, 2] as in `Patch`
    bones: tuple[NDArray[np.int64], NDArray[np.float64]] | None  # [V, J] joints of the skin, [V, J] their weights
    material: Material

    @property
    def is_coloured(self) -> bool:
        return self.rgb is not None or self.material.rgb is not None


class _Budget:
    """How much a file may read and show in proportion to its size; it may refer to the same numbers many times."""

    def __init__(self, glb: Glb) -> None:
        self._glb, self._values, self._parts = glb, 0, 0
        self._per_byte = 16 if DRACO in glb.listing(glb.json, "extensionsUsed") else 2

    def spend(self, values: int) -> None:
        """Count a primitive of so many vertices and indices; refuse it if it is too much."""
        self._values, self._parts = self._values + values, self._parts + 1
        most = max(FEW_VALUES, self._per_byte * sum(map(len, self._glb.buffers.values())))
        if self._values > most or self._parts > MOST_PARTS:
            what = f"over {MOST_PARTS} parts or {most} vertices and indices, too many for its size"
            self._glb.refuse(f"it shows {what}", "Join or drop some of its parts.")


def read_gltf(path: Path) -> Surface | PointCloud:
    """The triangles of a .glb or .gltf, y up; its points if it has no triangles.

    Raises:
        FileProblem: if it is missing, damaged, out of proportion, or requires what cannot be read.
        MissingDependency: if it is compressed by Draco and DracoPy is not installed.
    """
    glb = Glb.open(path)
    check_required(glb)
    nodes, materials = nodes_of(glb), Materials(glb)
    budget = _Budget(glb)
    meshes: dict[int, list[_Primitive]] = {}
    shown: list[tuple[_Primitive, NDArray[np.float64]]] = []
    for node, mesh, world in instances(glb, nodes):
        if mesh not in meshes:
            listed = glb.listing(glb.item("meshes", mesh), "primitives")
            read = (_primitive(glb, glb.mapping(each, "a primitive"), materials, budget) for each in listed)
            meshes[mesh] = [each for each in read if each is not None]
        for each in meshes[mesh]:
            budget.spend(len(each.xyz) + (0 if each.corners is None else each.corners.size))
            shown.append((each, _posed(glb, nodes, node, world, each)))
    owners = [*(node.json for node in nodes.values()), *(glb.item("meshes", mesh) for mesh in meshes)]
    if any(any(glb.listing(owner, "weights")) for owner in owners):
        _log.warning("%s: its morph targets are not applied: parts have their first shape.", path)
    grey = sum(not each.is_coloured for each, _ in shown)
    if grey:
        parts = "all of it is" if grey == len(shown) else f"{grey} of {len(shown)} parts are"
        _log.warning("%s: it has no colours: %s grey.", path, parts)
    triangles = [(each, xyz) for each, xyz in shown if each.corners is not None]
    return _surface(triangles) if triangles or not shown else _cloud(shown)


def _surface(shown: list[tuple[_Primitive, NDArray[np.float64]]]) -> Surface:
    """Patches, one for each picture."""
    groups: dict[object, list[Patch]] = {}
    for each, xyz in shown:
        patch = _patch(each, xyz)
        groups.setdefault(None if patch.texture is None else (id(patch.texture), patch.wrap), []).append(patch)
    return tuple(_joined(patches) for patches in groups.values())


def _joined(patches: list[Patch]) -> Patch:
    uv = torch.cat([each.uv for each in patches if each.uv is not None]) if patches[0].uv is not None else None
    corners, rgb = (torch.cat([getattr(each, name) for each in patches]) for name in ("corners", "rgb"))
    return Patch(corners, rgb, uv, patches[0].texture, patches[0].wrap)


def _patch(each: _Primitive, xyz: NDArray[np.float64]) -> Patch:
    assert each.corners is not None, "points were taken out before"
    rgb = _coloured(each)[each.corners]
    corners = torch.from_numpy(xyz[each.corners])
    if each.uv is None or each.material.picture is None:
        return Patch(corners, rgb)
    return Patch(corners, rgb, torch.from_numpy(each.uv[each.corners]), each.material.picture, each.material.wrap)


def _cloud(shown: list[tuple[_Primitive, NDArray[np.float64]]]) -> PointCloud:
    xyz = torch.cat([torch.from_numpy(xyz) for _, xyz in shown])
    return PointCloud(xyz=xyz, rgb=torch.cat([_coloured(each) for each, _ in shown]).double())


def _coloured(each: _Primitive) -> Tensor:
    """The display colours [V, 3] of vertices and material together."""
    rgb = torch.full((len(each.xyz), 3), 1.0 if each.is_coloured else GREY)
    if each.rgb is not None:
        rgb = rgb * torch.from_numpy(each.rgb).float()
    return rgb if each.material.rgb is None else rgb * torch.tensor(each.material.rgb)


def _posed(
    glb: Glb, nodes: dict[int, Node], node: Node, world: NDArray[np.float64], each: _Primitive
) -> NDArray[np.float64]:
    """Where the vertices [V, 3] are in the world: where the node is or, if it has a skin, where its bones are."""
    if each.bones is None or "skin" not in node.json:
        return each.xyz @ world[:3, :3].T + world[:3, 3]
    skin = glb.item("skins", node.json["skin"])
    joints = glb.listing(skin, "joints")
    if not joints or not all(isinstance(joint, int) and joint in nodes for joint in joints):
        glb.refuse("the bones of a skin are not in its scene; it is damaged")
    poses = np.stack([nodes[joint].world for joint in joints])  # [B, 4, 4]
    if "inverseBindMatrices" in skin:
        bind = glb.accessor(skin["inverseBindMatrices"], 16)
        if len(bind) < len(joints):
            glb.refuse(f"{len(joints)} bones have {len(bind)} inverseBindMatrices; it is damaged")
        poses = poses @ bind[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)  # column by column in the file
    numbers, weights = each.bones
    if not 0 <= numbers.min(initial=0) <= numbers.max(initial=0) < len(joints):
        glb.refuse(f"a vertex follows a bone beyond its {len(joints)}; it is damaged")
    posed = np.zeros_like(each.xyz)
    for column in range(numbers.shape[1]):
        pose = poses[numbers[:, column]]  # [V, 4, 4]
        moved = np.einsum("vij,vj->vi", pose[:, :3, :3], each.xyz) + pose[:, :3, 3]
        posed += weights[:, column, None] * moved
    return posed


def _primitive(glb: Glb, primitive: dict[str, Any], materials: Materials, budget: _Budget) -> _Primitive | None:
    """A primitive; None if it is drawn as lines."""
    mode = primitive.get("mode", _TRIANGLES)
    if mode not in (_POINTS, _TRIANGLES, _STRIP, _FAN):
        return None
    attributes = glb.mapping(primitive.get("attributes"), "attributes")
    unpacked = decoded(glb, primitive)

    def values(name: str, components: int | None = None) -> NDArray[np.float64]:
        """The values [V, components] of an attribute."""
        index = attributes[name]
        accessor = glb.item("accessors", index)
        size = components or COMPONENTS.get(str(accessor.get("type")), 1)
        if name not in unpacked:
            return glb.accessor(index, size).astype(np.float64)
        return glb.fractions(unpacked[name], accessor).astype(np.float64)

    if "POSITION" not in attributes:
        glb.refuse("a mesh lacks POSITION; the file is damaged")
    indices = unpacked.get("indices")
    if indices is None and "indices" in primitive:
        indices = glb.stored(primitive["indices"], 1)
    count = len(unpacked["POSITION"]) if "POSITION" in unpacked else glb.count(attributes["POSITION"], 3)
    budget.spend(count + (count if indices is None else len(indices) * (3 if mode in (_STRIP, _FAN) else 1)))
    xyz = values("POSITION", 3)
    material = materials.get(primitive.get("material"))
    coordinates = f"TEXCOORD_{material.uv_set}"
    uv = values(coordinates, 2) if material.picture is not None and coordinates in attributes else None
    painted = min((name for name in attributes if _COLOUR.fullmatch(name)), default=None)
    bones = None
    sets = [n for n in range(4) if f"JOINTS_{n}" in attributes and f"WEIGHTS_{n}" in attributes]
    if sets:
        numbers, weights = (
            np.concatenate([values(f"{kind}_{n}", 4) for n in sets], 1) for kind in ("JOINTS", "WEIGHTS")
        )
        total = weights.sum(axis=1, keepdims=True)
        bones = numbers.astype(np.int64), weights / np.where(total > 0, total, 1)
    lengths = {len(each) for each in (xyz, uv, *(bones or ())) if each is not None}
    rgb = None if painted is None else _painted(glb, values(painted))
    if len(lengths | ({len(rgb)} if rgb is not None else set())) > 1:
        glb.refuse("the attributes of a mesh differ in length; the file is damaged")
    if uv is not None:
        uv = _upright(uv, material.placed)
    corners = None if mode == _POINTS else _corners(glb, mode, len(xyz), indices)
    return _Primitive(xyz, corners, rgb, uv, bones, material)


def _upright(uv: NDArray[np.float64], placed: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Texture coordinates [V, 2] whose (0, 0) is the lower left; in glTF it is the upper left."""
    if placed is not None:
        uv = uv @ placed[:, :2].T + placed[:, 2]
    return np.nan_to_num(uv) * [1, -1] + [0, 1]


def _painted(glb: Glb, colours: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The display colours [V, 3] of vertices; None if they are no colours."""
    if colours.shape[1] < 3:
        return None
    rgb = scaled_to_1(glb.path, torch.from_numpy(colours[:, :3]).nan_to_num(), 1.0)
    asset = glb.mapping(glb.json.get("asset"), "asset")
    linear = str(asset.get("generator", "")).startswith(LINEAR_EXPORTERS)
    return (linear_to_srgb(rgb) if linear else rgb).numpy()


def _corners(glb: Glb, mode: int, count: int, indices: NDArray[Any] | None) -> NDArray[np.int64]:
    """The triangles [F, 3] of a mesh of `count` vertices."""
    order = np.arange(count) if indices is None else indices[:, 0].astype(np.int64)
    if order.size and not 0 <= order.min() <= order.max() < count:
        glb.refuse(f"a face refers to a vertex beyond its {count}", "Export it again.")
    if mode == _TRIANGLES:
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    first = order[:-2] if mode == _STRIP else np.broadcast_to(order[:1], max(0, len(order) - 2))
    return np.stack([first, order[1:-1], order[2:]], axis=1) if len(order) > 2 else np.zeros((0, 3), np.int64)
