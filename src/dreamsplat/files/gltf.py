"""glTF 2.0 files, binary (.glb) or as text (.gltf): JSON, numbers, and accessors that locate numbers.

Only what lies inside the file, or beside a .gltf, is read, and every size is first checked against it. Khronos, glTF
2.0 specification, sections 3.6 (accessors) and 4 (the container).
"""

from __future__ import annotations

import base64
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import read_bytes, refuse
from dreamsplat.files.checked_json import are_numbers, is_whole, parse, shown

MAGIC = b"glTF"
"""What a .glb begins with."""
COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
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
_ZEROS = 1 << 20  # Most values of a sparse accessor that starts from zeros.
_MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")


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
        size, limit = len(text) - sum(map(len, _EMBEDDED.findall(text))), max(_JSON_LIMIT, len(content) // 2)
        if size > limit:
            refuse(path, f"its JSON has {size} bytes, expected at most {limit}", "Drop or join some of its parts.")
        document = json_of(path, text.removeprefix(_BLANK[:3]))
        asset = document.get("asset")
        asset = asset if isinstance(asset, dict) else {}
        if "version" not in asset:
            refuse(path, "it states no glTF version", "Convert it to glTF 2.0 first.")
        for key in ("version", "minVersion"):
            version = str(asset.get(key, "2.0"))
            if version.partition(".")[0] != "2" or (key == "minVersion" and version != "2.0"):
                refuse(path, f"glTF version {shown(asset[key])}; only 2.0 can be read", "Convert the file first.")
        return cls(path, document, body)

    def numbers(self, index: object) -> memoryview:
        """The bytes of a buffer: in the file, as base64 in its JSON, or in a file beside it."""
        buffer = self.item("buffers", index)
        assert isinstance(index, int), "or there was no such item"
        if index not in self.buffers:
            self.buffers[index] = self._located(index, buffer.get("uri"))
        return self.buffers[index]

    def _located(self, index: int, uri: object) -> memoryview:
        if uri is None and index == 0 and len(self.body):
            return self.body
        if not isinstance(uri, str):
            if any(name in self.listing(self.json, "extensionsUsed") for name in _MESHOPT):
                advice = "Export it without meshopt compression, gltfpack without -c."
                self.refuse("its numbers are compressed by meshopt, which cannot be read", advice)
            self.refuse(f"buffer {index} is not in the file; it is damaged")
        if uri.startswith("data:"):
            try:
                return memoryview(base64.b64decode(uri.partition(",")[2], validate=True))
            except ValueError:
                self.refuse(f"buffer {index}: its base64 is damaged")
        place = (self.path.parent / unquote(uri).replace("\\", "/")).resolve()
        if "://" in uri or not place.is_relative_to(self.path.parent.resolve()):
            self.refuse(f"its numbers lie outside its folder, in {shown(uri)}", "Save it as a single .glb.")
        try:
            return memoryview(read_bytes(place))
        except FileProblem:
            self.refuse(f"{shown(uri)} is missing or cannot be read", "Keep it beside the file, or save one .glb.")

    def view(self, index: object) -> memoryview:
        """The bytes of a buffer view."""
        view = self.item("bufferViews", index)
        start, length = self._whole(view, "byteOffset", 0), self._whole(view, "byteLength", None)
        body = self.numbers(view.get("buffer"))
        if start + length > len(body):
            self.refuse(f"bufferViews {index}: {length} bytes do not fit the file's; it is damaged or cut short")
        return body[start : start + length]

    def extension(self, owner: dict[str, Any], name: str) -> dict[str, Any] | None:
        """The settings of an extension; None if the owner does not have it."""
        found = self.mapping(owner.get("extensions", {}), "extensions").get(name)
        return None if found is None else self.mapping(found, name)

    def item(self, kind: str, index: object) -> dict[str, Any]:
        """Entry `index` of the top-level list `kind`, such as "meshes"."""
        items = self.json.get(kind)
        if not isinstance(items, list) or not isinstance(index, int) or not is_whole(index, 0, len(items) - 1):
            self.refuse(f"{kind} {shown(index)} does not exist; the file is damaged")
        return self.mapping(items[index], f"{kind} {index}")

    def accessor(self, index: object, components: int) -> NDArray[np.float32]:
        """The values [count, components] of an accessor; normalised integers become fractions of their range."""
        return self.fractions(self.stored(index, components), self.item("accessors", index))

    def fractions(self, stored: NDArray[Any], accessor: dict[str, Any]) -> NDArray[np.float32]:
        """Stored values as what they mean: normalised integers are fractions of their range."""
        values = stored.astype(np.float32)
        if accessor.get("normalized") is True and stored.dtype.kind != "f":
            values = np.maximum(values / np.float32(np.iinfo(stored.dtype).max), -1)
        return values

    def count(self, index: object, components: int) -> int:
        """The length of an accessor, whose values are all in the file; several accessors may share the same bytes."""
        return len(self.stored(index, components))

    def stored(self, index: object, components: int) -> NDArray[Any]:
        """The values [count, components] of an accessor as stored; not copied, unless it is sparse."""
        accessor = self.item("accessors", index)
        code, shape = accessor.get("componentType"), accessor.get("type")
        kind = TYPES.get(code) if isinstance(code, int) else None
        if kind is None or not isinstance(shape, str) or COMPONENTS.get(shape) != components:
            self.refuse(f"accessor {index} is {shown(shape)} of type {shown(code)}, expected {components} components")
        name, count = f"accessor {index}", self._whole(accessor, "count", None)
        if "bufferView" in accessor:
            values = self._viewed(name, accessor, np.dtype(kind), count, components)
        elif "sparse" not in accessor:  # By the standard these are zeros; in real files they were compressed away.
            self.refuse(f"{name} is compressed", "Save the file without compression.")
        elif count * components > _ZEROS:
            self.refuse(f"{name}: {count} values do not fit the file's bytes; it is damaged")
        else:
            values = np.zeros((count, components), kind)
        return self._replaced(name, accessor["sparse"], values) if "sparse" in accessor else values

    def _viewed(
        self, name: str, place: dict[str, Any], dtype: np.dtype[Any], count: int, components: int
    ) -> NDArray[Any]:
        """Values [count, components] in a buffer view."""
        view = self.item("bufferViews", place.get("bufferView"))
        body = self.numbers(view.get("buffer"))
        stride = self._whole(view, "byteStride", components * dtype.itemsize)
        inside = self._whole(place, "byteOffset", 0)
        start, length = self._whole(view, "byteOffset", 0), self._whole(view, "byteLength", None)
        needed = inside + stride * max(0, count - 1) + components * dtype.itemsize
        if not components * dtype.itemsize <= stride <= 252 or needed > length or start + length > len(body):
            self.refuse(f"{name}: {count} values do not fit the file's bytes; it is damaged or cut short")
        return np.ndarray((count, components), dtype, body, start + inside, (stride, dtype.itemsize))

    def _replaced(self, name: str, sparse: object, values: NDArray[Any]) -> NDArray[Any]:
        """A copy of values, some rows of which a sparse accessor gives."""
        sparse, (count, components) = self.mapping(sparse, "sparse"), values.shape
        places, rows = (self.mapping(sparse.get(key), f"sparse {key}") for key in ("indices", "values"))
        kind = TYPES.get(code) if isinstance(code := places.get("componentType"), int) else None
        if kind is None:
            self.refuse(f"{name}: its sparse indices are of type {shown(code)}")
        given = self._whole(sparse, "count", None)
        where = self._viewed(name, places, np.dtype(kind), given, 1)[:, 0].astype(np.int64)
        if where.size and not 0 <= where.min() <= where.max() < count:
            self.refuse(f"{name}: a sparse index is beyond its {count} values; it is damaged")
        replaced = values.copy()
        replaced[where] = self._viewed(name, rows, values.dtype, given, components)
        return replaced

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

    def list_of_numbers(self, owner: dict[str, Any], key: str, count: int) -> NDArray[np.float64]:
        """The `count` numbers under a key."""
        values = owner[key]
        if not isinstance(values, list) or len(values) != count or not are_numbers(values):
            self.refuse(f"{key} is not a list of {count} numbers; the file is damaged")
        return np.array(values, dtype=np.float64)

    def _whole(self, owner: dict[str, Any], key: str, default: int | None) -> int:
        value = owner.get(key, default)
        if not is_whole(value, 0, SIZE_LIMIT):
            self.refuse(f"{key} is {shown(value)}, expected an integer of at least 0; the file is damaged")
        return value
