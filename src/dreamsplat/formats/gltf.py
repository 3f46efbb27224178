"""glTF 2.0 files, binary (.glb) or as text (.gltf): JSON, numbers, accessors that locate numbers, and nodes.

Only what lies inside the file, or beside a .gltf, is read, and every size is first checked against it. Khronos, glTF
2.0 specification, sections 3.5 (nodes), 3.6 (accessors) and 4 (the container).
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from dreamsplat.files.atomic import read_bytes, refuse
from dreamsplat.files.checked_json import NUMBER_LIMIT, are_numbers, is_whole, parse, shown

MAGIC = b"glTF"
"""What a .glb begins with."""
COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
"""Shape of an accessor's values -> numbers in each."""
TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
"""Component type of an accessor -> numpy type."""

JSON_CHUNK, BINARY_CHUNK = b"JSON", b"BIN\0"
"""Kinds of chunks."""
SIZE_LIMIT = 2**32 - 1
"""Most bytes of a .glb, whose header holds 32 bits."""
_BLANK = b"\xef\xbb\xbf \t\r\n"
_EMBEDDED = re.compile(rb'"data:[^"]*"')  # Numbers as base64.
_JSON_LIMIT = 2 << 20  # bytes; scenes have some KB, and a MB of brackets becomes 50 MB of objects.
_CHUNKS = 8  # JSON comes first and numbers second; others may follow, but not without end.
_NODES = 30_000  # Most nodes of a scene; each that has a rotation takes 30 microseconds.


def chunks_of(path: Path, content: bytes) -> tuple[bytes, memoryview]:
    """The JSON text and the numbers of a .glb; empty where a chunk is missing.

    Raises:
        FileProblem: if the content is not binary glTF 2.0, or truncated.
    """
    if len(content) < 12 or content[:4] != MAGIC:
        refuse(path, "not a .glb file: it does not start with 'glTF'")
    _, version, total = struct.unpack_from("<4sII", content)
    if version != 2:
        refuse(path, f"glTF version {version}; only 2 can be read", "Convert the file first.")
    if total > len(content):
        refuse(path, f"truncated: the header says {total} bytes, the file has {len(content)}")
    whole, chunks, start = memoryview(content)[:total], dict[bytes, memoryview](), 12
    for _ in range(_CHUNKS):
        if start + 8 > total:
            break
        size, kind = struct.unpack_from("<I4s", whole, start)
        if size > total - start - 8:
            refuse(path, f"a chunk of {size} bytes does not fit the file's {total}; it is damaged")
        chunks.setdefault(kind, whole[start + 8 : start + 8 + size])  # The standard says to ignore unknown kinds.
        start += 8 + size
    return bytes(chunks.get(JSON_CHUNK, b"")), chunks.get(BINARY_CHUNK, memoryview(b""))


def json_of(path: Path, text: bytes) -> dict[str, Any]:
    """The JSON object in a text.

    Raises:
        FileProblem: if there is no valid one.
    """
    document = parse(text)
    if document is None:
        refuse(path, "its JSON chunk is missing or damaged")
    return document


@dataclass(frozen=True)
class Glb:
    """A glTF file being read; its methods refuse whatever violates the standard, naming the file."""

    path: Path
    """For messages."""
    json: dict[str, Any]
    """The JSON chunk, or all of a .gltf."""
    body: memoryview
    """The binary chunk; empty if there is none."""
    buffers: dict[int, memoryview] = field(default_factory=dict)
    """The numbers of each buffer that was asked for."""

    @classmethod
    def open(cls, path: Path) -> Glb:
        """Read a file.

        Raises:
            FileProblem: if it is missing, not glTF 2.0, truncated, or its JSON is damaged.
        """
        content = read_bytes(path)
        is_text = content.lstrip(_BLANK).startswith(b"{")
        text, body = (content, memoryview(b"")) if is_text else chunks_of(path, content)
        size = len(text) - sum(map(len, _EMBEDDED.findall(text)))
        if size > _JSON_LIMIT:
            refuse(path, f"its JSON has {size} bytes, expected at most {_JSON_LIMIT}", "Save only the splats.")
        document = json_of(path, text.removeprefix(_BLANK[:3]))
        asset = document.get("asset")
        version = asset.get("version") if isinstance(asset, dict) else None
        if not str(version).startswith("2."):
            refuse(path, f"glTF version {shown(version)}; only 2 can be read", "Convert the file first.")
        return cls(path, document, body)

    def numbers(self, index: object) -> memoryview:
        """The bytes of a buffer: in the file, as base64 in its JSON, or in a file beside it."""
        buffer = self.item("buffers", index)
        assert isinstance(index, int), "or there was no such item"
        if index not in self.buffers:
            self.buffers[index] = self._located(index, buffer.get("uri"))
        return self.buffers[index]

    def _located(self, index: int, uri: object) -> memoryview:
        if uri is None and index == 0:
            return self.body
        if not isinstance(uri, str):
            self.refuse(f"buffer {index} is not in the file; it is damaged")
        if uri.startswith("data:"):
            try:
                return memoryview(base64.b64decode(uri.partition(",")[2], validate=True))
            except ValueError:
                self.refuse(f"buffer {index}: its base64 is damaged")
        place = (self.path.parent / unquote(uri)).resolve()
        if "://" in uri or not place.is_relative_to(self.path.parent.resolve()):
            self.refuse(f"its numbers lie outside its folder, in {shown(uri)}", "Save it as a single .glb.")
        return memoryview(read_bytes(place))

    def item(self, kind: str, index: object) -> dict[str, Any]:
        """Entry `index` of the top-level list `kind`, such as "meshes"."""
        items = self.json.get(kind)
        if not isinstance(items, list) or not isinstance(index, int) or not is_whole(index, 0, len(items) - 1):
            self.refuse(f"{kind} {shown(index)} does not exist; the file is damaged")
        return self.mapping(items[index], f"{kind} {index}")

    def accessor(self, index: object, components: int) -> NDArray[np.float32]:
        """The values [count, components] of an accessor; normalised integers become fractions of their range."""
        stored = self._stored(index, components)
        values = stored.astype(np.float32)
        if self.item("accessors", index).get("normalized") is True and stored.dtype.kind != "f":
            values = np.maximum(values / np.float32(np.iinfo(stored.dtype).max), -1)
        return values

    def count(self, index: object, components: int) -> int:
        """The length of an accessor, whose values are all in the file; several accessors may share the same bytes."""
        return len(self._stored(index, components))

    def _stored(self, index: object, components: int) -> NDArray[Any]:
        """The values [count, components] of an accessor as stored, not copied."""
        accessor = self.item("accessors", index)
        if "bufferView" not in accessor or "sparse" in accessor:
            self.refuse(f"accessor {index} is compressed or sparse", "Save the file without compression.")
        view = self.item("bufferViews", accessor["bufferView"])
        code, shape = accessor.get("componentType"), accessor.get("type")
        kind = TYPES.get(code) if isinstance(code, int) else None
        if kind is None or not isinstance(shape, str) or COMPONENTS.get(shape) != components:
            self.refuse(f"accessor {index} is {shown(shape)} of type {shown(code)}, expected {components} components")
        body = self.numbers(view.get("buffer"))
        dtype = np.dtype(kind)
        count = self._whole(accessor, "count", None)
        stride = self._whole(view, "byteStride", components * dtype.itemsize)
        inside = self._whole(accessor, "byteOffset", 0)
        start, length = self._whole(view, "byteOffset", 0), self._whole(view, "byteLength", None)
        needed = inside + stride * max(0, count - 1) + components * dtype.itemsize
        if not components * dtype.itemsize <= stride <= 252 or needed > length or start + length > len(body):
            self.refuse(
                f"accessor {index}: {shown(count)} values do not fit the file's bytes; it is damaged or cut short"
            )
        strides = (stride, dtype.itemsize)
        return np.ndarray((count, components), dtype, body, start + inside, strides)

    def instances(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Every node with a mesh, in the order of the scene: the mesh's index and its matrix [4, 4] to the world."""
        still = np.eye(4)
        waiting = [(root, still) for root in reversed(self._few(self._roots()))]
        seen: set[int] = set()
        while waiting:
            index, above = waiting.pop()
            node = self.item("nodes", index)
            if index in seen:
                self.refuse(f"node {index} is reached twice; nodes must form trees, so the file is damaged")
            seen.add(index)
            world = self._moved(above, node, index)
            if "mesh" in node:
                self.item("meshes", node["mesh"])
                yield node["mesh"], world
            children = self._few(self.listing(node, "children"), besides=len(seen) + len(waiting))
            waiting += [(child, world) for child in reversed(children)]

    def listing(self, owner: dict[str, Any], key: str) -> list[Any]:
        """The list under a key; empty if there is none."""
        found = owner.get(key, [])
        if not isinstance(found, list):
            self.refuse(f"{key} is not a list; the file is damaged")
        return found

    def mapping(self, value: object, name: str) -> dict[str, Any]:
        """The value, which must be a JSON object."""
        if not isinstance(value, dict):
            self.refuse(f"{name} is not a JSON object; the file is damaged")
        return value

    def refuse(self, reason: str, advice: str = "") -> NoReturn:
        """Raise a FileProblem that names the file."""
        refuse(self.path, reason, advice)

    def _roots(self) -> list[Any]:
        """The root nodes: those of the scene to show or, in a file without scenes, all that have no parent."""
        if self.json.get("scenes"):
            return self.listing(self.item("scenes", self.json.get("scene", 0)), "nodes")
        nodes = self._few(self.listing(self.json, "nodes"))
        children = [self.listing(self.mapping(node, f"node {i}"), "children") for i, node in enumerate(nodes)]
        below = {child for each in children for child in each if type(child) is int}
        return [index for index in range(len(nodes)) if index not in below]

    def _few(self, nodes: list[Any], besides: int = 0) -> list[Any]:
        """The nodes; refused if a scene may not have this many, together with `besides` others."""
        if len(nodes) + besides > _NODES:
            self.refuse(f"it has more than {_NODES} nodes", "Join or drop some of them.")
        return nodes

    def _moved(self, above: NDArray[np.float64], node: dict[str, Any], index: int) -> NDArray[np.float64]:
        """A node's matrix [4, 4] to the world, given its parent's; in large scenes most nodes move nothing."""
        if "matrix" in node:
            world = above @ self._numbers(node, "matrix", 16).reshape(4, 4).T  # column by column in the file
        elif "rotation" in node or "scale" in node or "translation" in node:
            world = above @ self._local(node, index)
        else:
            return above
        if not np.abs(world).max() < NUMBER_LIMIT:
            self.refuse(f"node {index} is moved or scaled too far; the file is damaged")
        return world

    def _local(self, node: dict[str, Any], index: int) -> NDArray[np.float64]:
        """A node's matrix [4, 4] to its parent, from its rotation, scale and translation."""
        local = np.eye(4)
        if "rotation" in node:
            local[:3, :3] = self._rotation(node, index)
        if "scale" in node:
            local[:3, :3] *= self._numbers(node, "scale", 3)
        if "translation" in node:
            local[:3, 3] = self._numbers(node, "translation", 3)
        return local

    def _rotation(self, node: dict[str, Any], index: int) -> NDArray[np.float64]:
        """A node's rotation as a matrix [3, 3]. `maths.rotations` does this for tensors, at more cost per node."""
        quat = self._numbers(node, "rotation", 4)
        length = float(np.linalg.norm(quat))
        if not length > 1e-6:
            self.refuse(f"node {index}: its rotation is 0 0 0 0; the file is damaged")
        x, y, z, w = (quat / length).tolist()
        rows = (
            (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        )
        return np.array(rows)

    def _numbers(self, owner: dict[str, Any], key: str, count: int) -> NDArray[np.float64]:
        values = owner[key]
        if not isinstance(values, list) or len(values) != count or not are_numbers(values):
            self.refuse(f"{key} is not a list of {count} numbers; the file is damaged")
        return np.array(values, dtype=np.float64)

    def _whole(self, owner: dict[str, Any], key: str, default: int | None) -> int:
        value = owner.get(key, default)
        if not is_whole(value, 0, SIZE_LIMIT):
            self.refuse(f"{key} is {shown(value)}, expected an integer of at least 0; the file is damaged")
        return value
