"""The nodes of a glTF: which meshes its scene shows, and where. Khronos, glTF 2.0 specification, section 3.5."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.files.checked_json import NUMBER_LIMIT
from dreamsplat.files.gltf import Glb
from dreamsplat.maths.rotations import rotation_from_quats

_MOST = 30_000  # Nodes of a scene; each that has a rotation takes 30 microseconds.


@dataclass(frozen=True)
class Node:
    """A node of the scene."""

    json: dict[str, Any]
    """What the file says of it."""
    world: NDArray[np.float64]
    """[4, 4] its axes to the world."""
    is_visible: bool
    """Whether neither it nor a node above is hidden (KHR_node_visibility)."""


def nodes_of(glb: Glb) -> dict[int, Node]:
    """Every node of the scene by its index, in the order of the scene.

    Raises:
        FileProblem: if they form no trees, are too many, or are moved too far.
    """
    waiting = [(root, np.eye(4), True) for root in reversed(_few(glb, _roots(glb)))]
    found: dict[int, Node] = {}
    while waiting:
        index, above, is_visible = waiting.pop()
        json = glb.item("nodes", index)
        if index in found:
            glb.refuse(f"node {index} is reached twice; nodes must form trees, so the file is damaged")
        is_visible &= (glb.extension(json, "KHR_node_visibility") or {}).get("visible") is not False
        found[index] = Node(json, _moved(glb, above, json, index), is_visible)
        children = _few(glb, glb.listing(json, "children"), besides=len(found) + len(waiting))
        waiting += [(child, found[index].world, is_visible) for child in reversed(children)]
    return found


def instances(glb: Glb, nodes: dict[int, Node]) -> Iterator[tuple[Node, int, NDArray[np.float64]]]:
    """Each time that a mesh is shown: its node, its index, and its matrix [4, 4] to the world."""
    for node in nodes.values():
        if "mesh" in node.json and node.is_visible:
            glb.item("meshes", node.json["mesh"])
            copies = glb.extension(node.json, "EXT_mesh_gpu_instancing")
            for world in [node.world] if copies is None else node.world @ _copies(glb, copies):
                yield node, node.json["mesh"], world


def _copies(glb: Glb, copies: dict[str, Any]) -> NDArray[np.float64]:
    """The matrices [n, 4, 4] of a node's instances to the node."""
    named = glb.mapping(copies.get("attributes", {}), "attributes")
    sizes = {"TRANSLATION": 3, "ROTATION": 4, "SCALE": 3}
    given = {key: glb.accessor(named[key], size) for key, size in sizes.items() if key in named}
    counts = {len(values) for values in given.values()}
    if len(counts) != 1:
        glb.refuse("the instances of a node differ in number; the file is damaged")
    local = np.tile(np.eye(4), (*counts, 1, 1))
    if "ROTATION" in given:
        local[:, :3, :3] = rotation_from_quats(torch.from_numpy(given["ROTATION"][:, [3, 0, 1, 2]]).double()).numpy()
    if "SCALE" in given:
        local[:, :3, :3] *= given["SCALE"][:, None, :]
    if "TRANSLATION" in given:
        local[:, :3, 3] = given["TRANSLATION"]
    return local


def _roots(glb: Glb) -> list[Any]:
    """The root nodes: those of the scene to show or, in a file without scenes, all that have no parent."""
    if glb.json.get("scenes"):
        return glb.listing(glb.item("scenes", glb.json.get("scene", 0)), "nodes")
    nodes = _few(glb, glb.listing(glb.json, "nodes"))
    children = [glb.listing(glb.mapping(node, f"node {i}"), "children") for i, node in enumerate(nodes)]
    below = {child for each in children for child in each if type(child) is int}
    return [index for index in range(len(nodes)) if index not in below]


def _few(glb: Glb, nodes: list[Any], besides: int = 0) -> list[Any]:
    """The nodes; refused if a scene may not have this many, together with `besides` others."""
    if len(nodes) + besides > _MOST:
        glb.refuse(f"it has more than {_MOST} nodes", "Join or drop some of them.")
    return nodes


def _moved(glb: Glb, above: NDArray[np.float64], node: dict[str, Any], index: int) -> NDArray[np.float64]:
    """A node's matrix [4, 4] to the world, given its parent's; in large scenes most nodes move nothing."""
    if "matrix" in node:
        world = above @ glb.list_of_numbers(node, "matrix", 16).reshape(4, 4).T  # column by column in the file
    elif "rotation" in node or "scale" in node or "translation" in node:
        world = above @ _local(glb, node, index)
    else:
        return above
    if not np.abs(world).max() < NUMBER_LIMIT:
        glb.refuse(f"node {index} is moved or scaled too far; the file is damaged")
    return world


def _local(glb: Glb, node: dict[str, Any], index: int) -> NDArray[np.float64]:
    """A node's matrix [4, 4] to its parent, from its rotation, scale and translation."""
    local = np.eye(4)
    if "rotation" in node:
        local[:3, :3] = _rotation(glb, node, index)
    if "scale" in node:
        local[:3, :3] *= glb.list_of_numbers(node, "scale", 3)
    if "translation" in node:
        local[:3, 3] = glb.list_of_numbers(node, "translation", 3)
    return local


def _rotation(glb: Glb, node: dict[str, Any], index: int) -> NDArray[np.float64]:
    """A node's rotation as a matrix [3, 3]. `maths.rotations` does this for tensors, at more cost per node."""
    quat = glb.list_of_numbers(node, "rotation", 4)
    length = float(np.linalg.norm(quat))
    if not length > 1e-6:
        glb.refuse(f"node {index}: its rotation is 0 0 0 0; the file is damaged")
    x, y, z, w = (quat / length).tolist()
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.array(rows)
