"""A glTF in the plain features that trimesh knows: what it would misread is rewritten, what cannot be read is named.

Khronos, glTF 2.0 specification, and the extensions named below.
"""

import copy
import json
import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamsplat.files.atomic import refuse
from dreamsplat.files.checked_json import shown
from dreamsplat.formats import gltf, gltf_writer

_HARMLESS = (
    "KHR_mesh_quantization", "KHR_materials_", "KHR_lights_punctual", "KHR_texture_transform", "EXT_texture_webp",
    "KHR_xmp", "KHR_animation", "EXT_lights", "MSFT_lod", "KHR_node", "EXT_mesh_manifold",
)  # fmt: skip
"""Beginnings of extensions that a file may require and that change neither shape nor place."""
_ADVICE = {
    "KHR_draco_mesh_compression": "Export it without Draco compression.",
    "EXT_meshopt_compression": "Export it without meshopt compression, gltfpack without -c.",
    "KHR_meshopt_compression": "Export it without meshopt compression, gltfpack without -c.",
    "KHR_texture_basisu": "Export its textures as PNG or JPEG.",
    "EXT_mesh_gpu_instancing": "Export it without instancing.",
    "KHR_gaussian_splatting": "It holds Gaussians of a kind that cannot be read.",
}  # fmt: skip
_SPECULAR_GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"
_FLOAT, _COMPONENTS = 5126, gltf.COMPONENTS

_log = logging.getLogger(__name__)


def plain(path: Path, content: bytes, document: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The file with normalised integers as floats, diffuse colours as base colours, and WebP textures as ordinary ones.

    Args:
        path: The file, for messages and for the numbers beside it.
        content: What is in it.
        document: Its JSON.

    Returns:
        Content and JSON; the same where nothing had to change.

    Raises:
        FileProblem: if it is of another version, or requires an extension that changes what it shows.
    """
    _check_version(path, document)
    _check_extensions(path, document)
    changed = copy.deepcopy(document)
    for material in _objects(changed, "materials"):
        _make_metallic(material)
    for texture in _objects(changed, "textures"):
        _use_webp(path, texture)
    glb = gltf.Glb.open(path) if (integers := _normalised(changed)) else None
    arrays = {} if glb is None else {index: glb.accessor(index, size) for index, size in integers.items()}
    if not arrays and changed == document:
        return content, document
    return _written(path, content, changed, arrays), changed


def _check_version(path: Path, document: dict[str, Any]) -> None:
    asset = document.get("asset")
    version = str((asset if isinstance(asset, dict) else {}).get("version"))
    if not version.startswith("2."):
        advice = "Convert it to glTF 2.0 first."
        refuse(path, "it states no glTF version" if version == "None" else f"glTF version {shown(version)}", advice)


def _check_extensions(path: Path, document: dict[str, Any]) -> None:
    required = document.get("extensionsRequired", [])
    for name in required if isinstance(required, list) else []:
        if not (isinstance(name, str) and name.startswith(_HARMLESS)):
            advice = _ADVICE.get(name, "Export it without.") if isinstance(name, str) else ""
            refuse(path, f"it requires the extension {shown(name)}, which cannot be read", advice)
    if "KHR_texture_transform" in (required if isinstance(required, list) else []):
        _log.warning("%s: it shifts or turns its textures (KHR_texture_transform); that is ignored.", path)


def _objects(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = document.get(key, [])
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _extension(owner: dict[str, Any], name: str) -> dict[str, Any]:
    extensions = owner.get("extensions")
    found = extensions.get(name) if isinstance(extensions, dict) else None
    return found if isinstance(found, dict) else {}


def _make_metallic(material: dict[str, Any]) -> None:
    """Give a specular-glossiness material its diffuse colour and texture as base colour."""
    old = _extension(material, _SPECULAR_GLOSSINESS)
    if old:
        named = {"baseColorFactor": old.get("diffuseFactor"), "baseColorTexture": old.get("diffuseTexture")}
        material["pbrMetallicRoughness"] = {key: value for key, value in named.items() if value is not None}
        del material["extensions"][_SPECULAR_GLOSSINESS]


def _use_webp(path: Path, texture: dict[str, Any]) -> None:
    """Use the WebP picture of a texture, which Pillow reads, where there is no other."""
    if "source" not in texture:
        webp = _extension(texture, "EXT_texture_webp")
        if "source" in webp:
            texture["source"] = webp["source"]
        elif _extension(texture, "KHR_texture_basisu"):
            _log.warning("%s: a texture is in KTX2; colours ignore it. Export it as PNG or JPEG.", path)


def _normalised(document: dict[str, Any]) -> dict[int, int]:
    """Accessors of positions and texture coordinates that are fractions of an integer type: index -> components."""
    accessors = document.get("accessors", [])
    found: dict[int, int] = {}
    for mesh in _objects(document, "meshes"):
        for primitive in _objects(mesh, "primitives"):
            attributes = primitive.get("attributes")
            for name, index in (attributes if isinstance(attributes, dict) else {}).items():
                if not name.startswith(("POSITION", "TEXCOORD", "NORMAL")) or type(index) is not int:
                    continue
                accessor = accessors[index] if isinstance(accessors, list) and 0 <= index < len(accessors) else None
                if not isinstance(accessor, dict) or accessor.get("componentType") == _FLOAT:
                    continue
                if accessor.get("type") in _COMPONENTS:
                    found[index] = _COMPONENTS[accessor["type"]]
    return found


def _written(path: Path, content: bytes, document: dict[str, Any], arrays: dict[int, NDArray[np.float32]]) -> bytes:
    """The file with another document, in which some accessors are arrays of their own, in a buffer of their own."""
    body = b"".join(array.astype("<f4").tobytes() for array in arrays.values())
    is_binary = content.startswith(gltf.MAGIC)
    numbers = bytes(gltf.chunks_of(path, content)[1]) if is_binary else b""
    numbers += bytes(-len(numbers) % 4)
    start, buffer = (len(numbers), 0) if is_binary else (0, len(document.get("buffers", [])))
    views = document.setdefault("bufferViews", [])
    for index, array in arrays.items():
        document["accessors"][index] = {
            "bufferView": len(views), "componentType": _FLOAT, "count": len(array),
            "type": {size: name for name, size in _COMPONENTS.items()}[array.shape[1]],
        }  # fmt: skip
        views.append({"buffer": buffer, "byteOffset": start, "byteLength": 4 * array.size})
        start += 4 * array.size
    if is_binary:
        document["buffers"][0]["byteLength"] = len(numbers) + len(body)
    elif arrays:
        uri = "data:application/octet-stream;base64," + b64encode(body).decode()
        document["buffers"].append({"byteLength": len(body), "uri": uri})
    text = json.dumps(document).encode()
    return gltf_writer.container(path, text, numbers + body) if is_binary else text
