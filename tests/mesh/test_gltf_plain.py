"""glTF is understood before it is used: versions, required extensions, normalised numbers, older materials."""

from __future__ import annotations

import copy
import io
import json
import struct
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dreamsplat.errors import FileProblem
from dreamsplat.formats import gltf
from dreamsplat.mesh import read_mesh, sample_surface
from dreamsplat.mesh.sample import Patch

CASES = Path(__file__).parent.parent / "cases"
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])


def patches(path: Path) -> tuple[Patch, ...]:
    surface = read_mesh(path)
    assert isinstance(surface, tuple)
    return surface


def mean_rgb(path: Path) -> torch.Tensor:
    return sample_surface(patches(path), 4000, torch.Generator().manual_seed(0)).rgb.mean(dim=0)


def write_glb(path: Path, document: dict[str, Any], body: bytes) -> Path:
    """A .glb or .gltf, whatever it says."""
    document = copy.deepcopy(document) | {"buffers": [{"byteLength": len(body)}]}
    if path.suffix == ".gltf":
        document["buffers"][0]["uri"] = "data:;base64," + b64encode(body).decode()
        path.write_text(json.dumps(document))
        return path
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body += bytes(-len(body) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def triangle(kind: str = "<f4", normalized: bool = False, scale: float = 1.0) -> tuple[dict[str, Any], bytes]:
    """One triangle, its corners in some type."""
    stored = np.zeros((3, 3 if kind == "<f4" else 4), kind)  # Rows of integers are padded to 4 bytes.
    stored[:, :3] = np.round(CORNERS * scale) if kind != "<f4" else CORNERS * scale
    code = {"<f4": 5126, "<i2": 5122, "<u2": 5123, "|i1": 5120, "|u1": 5121}[stored.dtype.str]
    accessor = {"bufferView": 0, "componentType": code, "count": 3, "type": "VEC3"}
    accessor |= {"normalized": True} if normalized else {}
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": [5, 0, 0]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [accessor],
        "bufferViews": [{"buffer": 0, "byteLength": stored.nbytes, "byteStride": stored.strides[0]}],
    }
    return document, stored.tobytes()


@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
@pytest.mark.parametrize(("kind", "top"), [("<i2", 32767), ("<u2", 65535), ("|i1", 127), ("|u1", 255)])
def test_normalised_positions_are_fractions_of_their_type(tmp_path, suffix, kind, top):
    document, body = triangle(kind, normalized=True, scale=top)
    (patch,) = patches(write_glb(tmp_path / f"a{suffix}", document, body))
    expected = torch.from_numpy(CORNERS + [5, 0, 0]).double()
    torch.testing.assert_close(patch.corners[0].double(), expected, atol=1e-4, rtol=0)


def test_three_spheres_stay_three():
    plain, quantised = (patches(CASES / name) for name in ("three.glb", "normalized_int16.glb"))
    assert len(plain) == len(quantised) == 3
    for one, other in zip(plain, quantised, strict=True):
        middles = [patch.corners.reshape(-1, 3).mean(dim=0) for patch in (one, other)]
        torch.testing.assert_close(middles[0], middles[1], atol=2e-3, rtol=0)
        torch.testing.assert_close(one.rgb.mean(dim=(0, 1)), other.rgb.mean(dim=(0, 1)), atol=0.01, rtol=0)


def test_specular_glossiness_gives_its_diffuse_texture_and_factor(tmp_path):
    torch.testing.assert_close(
        mean_rgb(CASES / "specgloss_spec02.glb"), mean_rgb(CASES / "control_metal_rough.glb"), atol=1e-6, rtol=0
    )
    document, body = triangle()
    document["meshes"][0]["primitives"][0]["material"] = 0
    factor = {"diffuseFactor": [1.0, 0.0, 0.2140411, 1.0], "specularFactor": [0.9, 0.9, 0.9]}
    document["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": factor}}]
    rgb = mean_rgb(write_glb(tmp_path / "a.glb", document, body))
    torch.testing.assert_close(rgb.double(), torch.tensor([1.0, 0.0, 0.5]).double(), atol=5e-3, rtol=0)


def test_a_texture_in_webp_is_used(tmp_path):
    document, body = triangle()
    encoded = io.BytesIO()
    Image.new("RGB", (4, 4), (0, 255, 0)).save(encoded, "WEBP", lossless=True)
    uv = np.zeros((3, 2), "<f4").tobytes()
    views = [{"buffer": 0, "byteOffset": len(body), "byteLength": len(uv)}]
    views += [{"buffer": 0, "byteOffset": len(body) + len(uv), "byteLength": len(encoded.getvalue())}]
    document["bufferViews"] += views
    document["accessors"].append({"bufferView": 1, "componentType": 5126, "count": 3, "type": "VEC2"})
    document["meshes"][0]["primitives"][0] |= {"material": 0, "attributes": {"POSITION": 0, "TEXCOORD_0": 1}}
    document |= {
        "images": [{"bufferView": 2, "mimeType": "image/webp"}],
        "textures": [{"extensions": {"EXT_texture_webp": {"source": 0}}}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        "extensionsUsed": ["EXT_texture_webp"],
        "extensionsRequired": ["EXT_texture_webp"],
    }
    rgb = mean_rgb(write_glb(tmp_path / "a.glb", document, body + uv + encoded.getvalue()))
    torch.testing.assert_close(rgb.double(), torch.tensor([0.0, 1.0, 0.0]).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("KHR_draco_mesh_compression", "Export it without Draco compression."),
        ("EXT_meshopt_compression", "without meshopt compression"),
        ("EXT_mesh_gpu_instancing", "without instancing"),
        ("KHR_texture_basisu", "PNG or JPEG"),
        ("ACME_secret_shapes", "Export it without."),
        (7, ""),
    ],
)
@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_an_extension_that_is_required_and_unknown_is_named_with_the_way_out(tmp_path, suffix, name, advice):
    document, body = triangle()
    path = write_glb(tmp_path / f"a{suffix}", document | {"extensionsRequired": [name]}, body)
    with pytest.raises(FileProblem) as refused:
        read_mesh(path)
    assert f"requires the extension {name!r}" in str(refused.value) and advice in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_case_in_draco_is_refused_by_that_name():
    with pytest.raises(FileProblem, match="KHR_draco_mesh_compression"):
        read_mesh(CASES / "draco.glb")


@pytest.mark.parametrize("asset", [{"version": "1.0"}, {"version": 3}, {}, None, []])
def test_another_version_is_refused(tmp_path, asset):
    document, body = triangle()
    with pytest.raises(FileProblem, match="version") as refused:
        read_mesh(write_glb(tmp_path / "a.glb", document | {"asset": asset}, body))
    assert "\n" not in str(refused.value)


def test_what_is_plain_already_is_not_rewritten(tmp_path, monkeypatch):
    document, body = triangle()
    path = write_glb(tmp_path / "a.glb", document, body)
    from dreamsplat.mesh import gltf_plain

    content = path.read_bytes()
    parsed = gltf.json_of(path, gltf.chunks_of(path, content)[0])
    assert gltf_plain.plain(path, content, parsed)[0] is content
