"""Writing binary glTF 2.0 (.glb): arrays become accessors, one after another in one chunk of numbers."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import replacing
from dreamsplat.files.gltf import BINARY_CHUNK, COMPONENTS, JSON_CHUNK, MAGIC, SIZE_LIMIT, TYPES

_TYPE_CODES = {np.dtype(kind): code for code, kind in TYPES.items()}
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963


def write(path: Path, document: dict[str, Any], arrays: list[NDArray[Any]], png: bytes | None = None) -> None:
    """Write a .glb whose accessor i is arrays[i], [count, 1 to 4], and whose only image is a PNG if there is one.

    Args:
        path: the file to write or replace.
        document: the JSON without accessors, bufferViews, buffers and images.
        arrays: rows of 4, 8, 12 or 16 bytes, aligned as the standard requires: float32; uint8 or uint16, as fractions
            of their type's range; or uint32, as indices of vertices. The first holds positions, for which the standard
            requires bounds.
        png: the content of a PNG file.

    Raises:
        FileProblem: if the file cannot be written, or would be 4 GiB or larger.
    """
    views, accessors, body = [], [], bytearray()
    for index, array in enumerate(arrays):
        kind = {size: name for name, size in COMPONENTS.items()}[array.shape[1]]
        accessor: dict[str, Any] = {"bufferView": index, "componentType": _TYPE_CODES[array.dtype], "count": len(array)}
        accessor |= {"type": kind} | ({"normalized": True} if array.dtype in (np.uint8, np.uint16) else {})
        if index == 0:
            accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        target = _INDEX_BUFFER if array.dtype == np.uint32 else _VERTEX_BUFFER
        views.append({"buffer": 0, "byteOffset": len(body), "byteLength": array.nbytes, "target": target})
        accessors.append(accessor)
        body += array.tobytes()
    if png is not None:
        document = {**document, "images": [{"bufferView": len(views), "mimeType": "image/png"}]}
        views.append({"buffer": 0, "byteOffset": len(body), "byteLength": len(png)})
        body += png + bytes(-len(png) % 4)
    whole = {**document, "accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": len(body)}]}
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()
    with replacing(path) as temporary:
        temporary.write_bytes(container(path, text, body))


def container(path: Path, text: bytes, numbers: bytes | bytearray) -> bytes:
    """A .glb of a JSON text and of numbers, a multiple of 4 bytes, if there are any.

    Raises:
        FileProblem: naming the path, if it would be 4 GiB or larger.
    """
    chunks = [(JSON_CHUNK, text + b" " * (-len(text) % 4))] + ([(BINARY_CHUNK, numbers)] if numbers else [])
    total = 12 + sum(8 + len(content) for _, content in chunks)
    if total > SIZE_LIMIT:
        raise FileProblem(
            f"{path}: {total} bytes, but a .glb holds less than 4 GiB.", advice="Save it as .ply, or in parts."
        )
    parts = [part for kind, content in chunks for part in (struct.pack("<I4s", len(content), kind), content)]
    return b"".join([struct.pack("<4sII", MAGIC, 2, total), *parts])
