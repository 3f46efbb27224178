"""Refusing mesh files that would become much larger in memory, before trimesh builds them.

Such a file is small: it refers to the same numbers many times, or claims numbers that it does not hold.
"""

from pathlib import Path
from typing import Any

from dreamsplat.formats import gltf
from dreamsplat.mesh.pictures import Neighbours

MOST_PARTS = 2000
"""Nodes and primitives of a glTF, uses of materials in an .obj, solids of an .stl: each costs some time."""
DEEPEST = 100
"""Depth of the nodes of a glTF; trimesh walks up to the root from each."""
FEW_VALUES = 500_000
"""Vertices and indices that a glTF of any size may use; a larger one may use one for each of its bytes."""

_WIDTHS = gltf.COMPONENTS | {"MAT2": 4, "MAT3": 9, "MAT4": 16}
_BYTES = {code: int(kind[-1]) for code, kind in gltf.TYPES.items()}


def check_parts(kind: str, content: bytes, document: dict[str, Any] | None, neighbours: Neighbours) -> None:
    """Refuse a file that is out of proportion. Other damage is left to trimesh.

    Args:
        kind: The suffix without its dot.
        content: The file.
        document: Its JSON, if it is a glTF.
        neighbours: The files beside it.

    Raises:
        ValueError: saying what there is too much of.
        FileNotFoundError: naming a buffer that is not beside the file.
    """
    if document is not None:
        buffers = [buffer.get("uri", "data:") for buffer in document.get("buffers", [])]
        size = len(content) + sum(len(neighbours.get(uri)) for uri in {*buffers} if not uri.startswith("data:"))
        _check_gltf(document, size)
    else:
        word = {"stl": b"endsolid", "obj": b"usemtl"}.get(kind)
        if word is not None and (count := content.count(word)) > MOST_PARTS:
            raise ValueError(f"{count} times '{word.decode()}', at most {MOST_PARTS}; join its parts first")


def gltf_document(path: Path, content: bytes) -> dict[str, Any]:
    """The JSON of a .glb or .gltf.

    Raises:
        FileProblem: if it is damaged.
    """
    return gltf.json_of(path, gltf.chunks_of(path, content)[0] if content.startswith(gltf.MAGIC) else content)


def _check_gltf(document: dict[str, Any], size: int) -> None:
    accessors, meshes = document.get("accessors", []), document.get("meshes", [])
    claimed = sum(int(a["count"]) * _WIDTHS[a["type"]] * _BYTES[a["componentType"]] for a in accessors)
    viewed = sum(int(view["byteLength"]) for view in document.get("bufferViews", []))
    if max(claimed, viewed) > 4 * size + (1 << 20):
        raise ValueError(f"its accessors claim {max(claimed, viewed)} bytes, the file has {size}")
    values = [_values(mesh, accessors) for mesh in meshes]
    parts = sum(len(mesh["primitives"]) for mesh in meshes)
    shown = [node["mesh"] for node in _nodes(document) if "mesh" in node]
    if len(shown) + parts > MOST_PARTS:
        raise ValueError(f"{len(shown)} nodes and {parts} primitives, at most {MOST_PARTS}; join its parts first")
    total = sum(values) + sum(values[mesh] for mesh in shown)
    if total > max(FEW_VALUES, size):
        raise ValueError(f"it uses its vertices and indices {total} times, too often for a file of {size} bytes")


def _values(mesh: dict[str, Any], accessors: list[dict[str, Any]]) -> int:
    """Vertices and indices of a mesh; strips and fans count three for each index."""
    total = 0
    for primitive in mesh["primitives"]:
        vertices = int(accessors[primitive["attributes"]["POSITION"]]["count"])
        corners = int(accessors[primitive["indices"]]["count"]) if "indices" in primitive else vertices
        total += vertices + corners * (3 if primitive.get("mode") in (5, 6) else 1)
    return total


def _nodes(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every node of every scene, as often as it is shown."""
    nodes = document.get("nodes", [])
    if len(nodes) > MOST_PARTS:
        raise ValueError(f"{len(nodes)} nodes, at most {MOST_PARTS}; join its parts first")
    level = [root for scene in document.get("scenes", []) for root in scene.get("nodes", [])]
    found = list[dict[str, Any]]()
    for _ in range(DEEPEST):
        found += [nodes[index] for index in level]
        level = [child for index in level for child in nodes[index].get("children", [])]
        if len(found) + len(level) > MOST_PARTS:
            raise ValueError(f"its scenes show over {MOST_PARTS} nodes; join its parts first")
    if level:
        raise ValueError(f"its nodes are over {DEEPEST} deep; join its parts first")
    return found
