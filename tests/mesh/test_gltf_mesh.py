"""glTF is understood before it is used: versions, required extensions, normalised numbers, older materials."""

from __future__ import annotations

import copy
import io
import json
import math
import struct
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import needs_peers, node
from PIL import Image

from dreamsplat.errors import FileProblem, MissingDependency
from dreamsplat.mesh import read_mesh, sample_surface
from dreamsplat.mesh.sample import Patch
from dreamsplat.types import PointCloud

trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")

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
    for name in ("three.glb", "normalized_int16.glb"):
        (patch,) = patches(CASES / name)
        corners, rgb = patch.corners.reshape(-1, 3), patch.rgb.reshape(-1, 3)
        for place, channel in ((0.0, 0), (1.0, 1), (2.0, 2)):
            sphere = corners[rgb[:, channel] == 1] - torch.tensor([place, 0, 0])
            assert len(sphere) == 3840
            torch.testing.assert_close(sphere.norm(dim=1), torch.full((3840,), 0.3).double(), atol=1e-3, rtol=0)


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
        ("EXT_meshopt_compression", "without meshopt compression"),
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


@pytest.mark.parametrize(
    "asset", [{"version": "1.0"}, {"version": 3}, {}, None, [], {"version": "2.0", "minVersion": "2.1"}]
)
def test_another_version_is_refused(tmp_path, asset):
    document, body = triangle()
    with pytest.raises(FileProblem, match="version") as refused:
        read_mesh(write_glb(tmp_path / "a.glb", document | {"asset": asset}, body))
    assert "\n" not in str(refused.value)


# --- shapes -----------------------------------------------------------------------------------------------------------


class Scene:
    """A glTF that is put together array by array."""

    def __init__(self, **document: Any) -> None:
        self.body = b""
        self.document: dict[str, Any] = {"asset": {"version": "2.0"}, "accessors": [], "bufferViews": []} | document

    def view(self, content: bytes, **settings: Any) -> int:
        self.body += bytes(-len(self.body) % 4)
        self.document["bufferViews"].append(
            {"buffer": 0, "byteOffset": len(self.body), "byteLength": len(content)} | settings
        )
        self.body += content
        return len(self.document["bufferViews"]) - 1

    def array(self, values: Any, kind: str = "<f4", **settings: Any) -> int:
        stored = np.asarray(values).astype(kind)
        shape = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}[stored[0].size]
        code = {"<f4": 5126, "<u4": 5125, "<u2": 5123, "|u1": 5121, "|i1": 5120, "<i2": 5122}[stored.dtype.str]
        accessor = {"componentType": code, "count": len(stored), "type": shape} | settings
        accessor.setdefault("bufferView", self.view(stored.tobytes()))
        self.document["accessors"].append(accessor)
        return len(self.document["accessors"]) - 1

    def picture(self, pixels: Any, kind: str = "PNG") -> int:
        encoded = io.BytesIO()
        Image.fromarray(np.asarray(pixels, np.uint8)).save(encoded, kind)
        images = self.document.setdefault("images", [])
        images.append({"bufferView": self.view(encoded.getvalue()), "mimeType": f"image/{kind.lower()}"})
        return len(images) - 1

    def write(self, path: Path, primitive: dict[str, Any] | None = None) -> Path:
        """Write it, by default with one node that shows one primitive."""
        if primitive is not None:
            self.document |= {"meshes": [{"primitives": [primitive]}]}
        self.document.setdefault("nodes", [{"mesh": 0}])
        return write_glb(path, self.document, self.body)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), suffix=st.sampled_from([".glb", ".gltf"]))
def test_a_scene_by_trimesh_is_what_trimesh_reads(tmp_path, seed, suffix):
    random = np.random.default_rng(seed)
    scene = trimesh.Scene()
    for number in range(random.integers(1, 5)):
        mesh = trimesh.creation.icosphere(random.integers(0, 2), radius=random.uniform(0.1, 2))
        mesh.visual.vertex_colors = random.integers(0, 256, (len(mesh.vertices), 4))
        scene.add_geometry(mesh, geom_name=f"m{number}")
        for copy_ in range(random.integers(1, 3)):
            pose = trimesh.transformations.random_rotation_matrix(random.random(3))
            pose[:3, :3] *= random.uniform(0.1, 3)
            pose[:3, 3] = random.normal(size=3)
            scene.graph.update(f"n{number}.{copy_}", matrix=pose, geometry=f"m{number}")
    for name in tmp_path.iterdir():
        name.unlink()
    path = tmp_path / f"a{suffix}"
    scene.export(path)
    read = torch.cat([patch.corners.reshape(-1, 9) for patch in patches(path)]).numpy()
    expected = trimesh.load(path, force="scene").to_geometry().triangles.reshape(-1, 9)
    order, other = np.lexsort(read.round(3).T), np.lexsort(expected.round(3).T)
    np.testing.assert_allclose(read[order].sum(axis=1), expected[other].sum(axis=1), atol=0.02)
    np.testing.assert_allclose(np.sort(read, axis=0), np.sort(expected, axis=0), atol=1e-5)


SQUARE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])


@pytest.mark.parametrize(
    ("mode", "order", "faces"),
    [
        (4, [0, 1, 2, 2, 1, 3], [[0, 1, 2], [2, 1, 3]]),
        (5, [0, 1, 2, 3], [[0, 1, 2], [1, 2, 3]]),
        (5, None, [[0, 1, 2], [1, 2, 3]]),
        (6, [0, 1, 3, 2], [[0, 1, 3], [0, 3, 2]]),
        (6, [0, 1], np.zeros((0, 3), int)),
    ],
)
def test_strips_and_fans_are_triangles(tmp_path, mode, order, faces):
    scene = Scene()
    primitive = {"attributes": {"POSITION": scene.array(SQUARE)}, "mode": mode}
    if order is not None:
        primitive["indices"] = scene.array(order, "|u1")
    (patch,) = patches(scene.write(tmp_path / "a.glb", primitive))
    np.testing.assert_array_equal(patch.corners.numpy(), SQUARE[faces])


def test_lines_are_ignored_and_points_alone_are_a_cloud(tmp_path):
    scene = Scene()
    where = scene.array(SQUARE)
    assert read_mesh(scene.write(tmp_path / "a.glb", {"attributes": {"POSITION": where}, "mode": 1})) == ()
    colours = scene.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], "|u1", normalized=True)
    scene.document["accessors"][colours]["type"] = "VEC3"
    cloud = read_mesh(
        scene.write(tmp_path / "a.glb", {"attributes": {"POSITION": where, "COLOR_0": colours}, "mode": 0})
    )
    assert isinstance(cloud, PointCloud) and cloud.xyz.tolist() == SQUARE.tolist()
    np.testing.assert_allclose(cloud.rgb[:3], np.eye(3), atol=1e-6)


@pytest.mark.parametrize("has_base", [True, False])
def test_sparse_numbers_replace_some_of_others_or_of_zeros(tmp_path, has_base):
    scene = Scene()
    sparse = {
        "count": 2,
        "indices": {"bufferView": scene.view(np.array([1, 2], "<u2").tobytes()), "componentType": 5123},
        "values": {"bufferView": scene.view(np.array([[5, 0, 0], [0, 7, 0]], "<f4").tobytes())},
    }
    where = scene.array(SQUARE[:3] + [0, 0, 1], sparse=sparse)
    if not has_base:
        del scene.document["accessors"][where]["bufferView"]
    (patch,) = patches(scene.write(tmp_path / "a.glb", {"attributes": {"POSITION": where}}))
    assert patch.corners[0].tolist() == [[0, 0, float(has_base)], [5, 0, 0], [0, 7, 0]]


def test_instances_stand_where_their_numbers_say(tmp_path):
    scene = Scene(extensionsRequired=["EXT_mesh_gpu_instancing"])
    half = math.sqrt(0.5)
    attributes = {
        "TRANSLATION": scene.array([[1, 0, 0], [2, 0, 0], [3, 0, 0]]),
        "ROTATION": scene.array(
            np.array([[0, 0, 0, 127], [0, 0, 127 * half, 127 * half], [127, 0, 0, 0]]), "|i1", normalized=True
        ),
        "SCALE": scene.array([[1, 1, 1], [2, 2, 2], [1, 1, 1]]),
    }
    primitive = {"attributes": {"POSITION": scene.array(CORNERS)}}
    scene.document["nodes"] = [
        {"mesh": 0, "scale": [10, 10, 10], "extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}}
    ]
    (patch,) = patches(scene.write(tmp_path / "a.glb", primitive))
    expected = 10 * np.array([
        [[1, 0, 0], [2, 0, 0], [1, 1, 0]], [[2, 0, 0], [2, 2, 0], [0, 0, 0]], [[3, 0, 0], [4, 0, 0], [3, -1, 0]]
    ])  # fmt: skip
    np.testing.assert_allclose(patch.corners, expected, atol=0.3)


def test_what_is_hidden_is_not_read(tmp_path):
    document, body = triangle()
    hidden = {"extensions": {"KHR_node_visibility": {"visible": False}}}
    document["nodes"] += [{"mesh": 0}, hidden | {"children": [1]}]
    document["scenes"] = [{"nodes": [0, 2]}]
    (patch,) = patches(write_glb(tmp_path / "a.glb", document, body))
    assert len(patch.corners) == 1


def skinned(path: Path) -> Path:
    """A triangle whose three corners follow two bones, one of them half each; its own node means nothing."""
    scene = Scene()
    attributes = {
        "POSITION": scene.array(CORNERS),
        "JOINTS_0": scene.array([[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]], "|u1"),
        "WEIGHTS_0": scene.array(np.array([[128, 127, 0, 0], [255, 0, 0, 0], [255, 0, 0, 0]]), "|u1", normalized=True),
    }
    bind = np.tile(np.eye(4), (2, 1, 1))
    bind[1, :3, 3] = [-1, 0, 0]
    scene.document |= {
        "nodes": [
            {"mesh": 0, "skin": 0, "translation": [100, 0, 0]},
            {"children": [2], "translation": [0, 0, 5]},
            {"translation": [1, 0, 0], "rotation": [0, 0, math.sqrt(0.5), math.sqrt(0.5)]},
        ],
        "scenes": [{"nodes": [0, 1]}], "scene": 0,
        "skins": [{"joints": [1, 2], "inverseBindMatrices": scene.array(bind.transpose(0, 2, 1).reshape(2, 16))}],
    }  # fmt: skip
    return scene.write(path, {"attributes": attributes})


def test_a_skin_follows_its_bones_and_not_its_node(tmp_path):
    (patch,) = patches(skinned(tmp_path / "a.glb"))
    first = (128 * np.array([0, 0, 5]) + 127 * np.array([1, -1, 5])) / 255
    np.testing.assert_allclose(patch.corners[0], np.stack([first, [1, 0, 5], [0, -1, 5]]), atol=1e-6)


@needs_peers
@pytest.mark.parametrize("kind", ["skin", "quantised", "plain"])
def test_three_js_puts_every_corner_at_the_same_place(tmp_path, kind):
    path = (
        skinned(tmp_path / "a.glb")
        if kind == "skin"
        else CASES / f"{'normalized_int16' if kind == 'quantised' else 'three'}.glb"
    )
    script = """
        import { readFileSync } from "node:fs";
        import { Vector3 } from "three";
        import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
        const bytes = readFileSync(process.argv[1]);
        const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
        const gltf = await new GLTFLoader().parseAsync(buffer, "");
        gltf.scene.updateMatrixWorld(true);
        const found = [];
        gltf.scene.traverse((mesh) => {
            if (!mesh.isMesh) return;
            const count = mesh.geometry.attributes.position.count;
            const index = mesh.geometry.index ? [...mesh.geometry.index.array] : [...Array(count).keys()];
            for (const i of index)
                found.push(mesh.getVertexPosition(i, new Vector3()).applyMatrix4(mesh.matrixWorld).toArray());
        });
        console.log(JSON.stringify(found));
    """
    (patch,) = patches(path)
    np.testing.assert_allclose(patch.corners.reshape(-1, 3), json.loads(node(script, path)), atol=1e-5)


@pytest.mark.parametrize("painted", ["vertices", "texture"])
def test_what_draco_packed_is_unpacked(tmp_path, painted):
    pytest.importorskip("DracoPy", reason="DracoPy is not installed")
    mesh = trimesh.creation.icosphere(2)
    colours = np.where(mesh.vertices[:, :1] > 0, [[255, 0, 0, 255]], [[0, 0, 255, 255]]).astype(np.uint8)
    if painted == "vertices":
        mesh.visual.vertex_colors = colours
    else:
        picture = Image.fromarray(np.array([[[0, 0, 255], [255, 0, 0]]], np.uint8))
        mesh.visual = trimesh.visual.TextureVisuals(
            uv=np.where(mesh.vertices[:, :1] > 0, 0.75, 0.25) * np.ones((1, 2)),
            material=trimesh.visual.material.PBRMaterial(baseColorTexture=picture),
        )
    trimesh.Scene([mesh]).export(tmp_path / "a.glb", extension_draco=True)
    assert b"KHR_draco_mesh_compression" in (tmp_path / "a.glb").read_bytes()
    (patch,) = patches(tmp_path / "a.glb")
    np.testing.assert_allclose(patch.corners, mesh.triangles, atol=2e-4)
    cloud = sample_surface((patch,), 500, torch.Generator().manual_seed(0))
    far = cloud.xyz[:, 0].abs() > 0.3
    expected = torch.where(cloud.xyz[:, :1] > 0, torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 0, 1]]))
    torch.testing.assert_close(cloud.rgb[far], expected[far], atol=0.01, rtol=0)


def test_large_meshes_that_draco_packed_well_are_not_taken_for_bombs(tmp_path):
    draco = pytest.importorskip("DracoPy", reason="DracoPy is not installed")
    mesh = trimesh.creation.icosphere(6)
    packed = draco.encode(mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32), compression_level=7)
    assert len(packed) < 240_000
    scene = Scene(extensionsUsed=["KHR_draco_mesh_compression"])
    scene.document["accessors"] += [{"componentType": 5126, "count": len(mesh.vertices), "type": "VEC3"}]
    settings_ = {"bufferView": scene.view(packed), "attributes": {"POSITION": 0}}
    primitive = {"attributes": {"POSITION": 0}, "extensions": {"KHR_draco_mesh_compression": settings_}}
    assert len(patches(scene.write(tmp_path / "a.glb", primitive))[0].corners) == 81_920


def test_draco_without_its_decoder_or_with_damaged_bytes_names_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(
        MissingDependency, match="KHR_draco_mesh_compression.*pip install DracoPy, or export it without"
    ):
        read_mesh(CASES / "draco.glb")
    monkeypatch.delitem(sys.modules, "DracoPy")
    pytest.importorskip("DracoPy", reason="DracoPy is not installed")
    with pytest.raises(FileProblem, match=r"its Draco data are damaged\. Export it again, without Draco"):
        read_mesh(CASES / "draco.glb")


@pytest.mark.parametrize("name", ["EXT_meshopt_compression", "KHR_meshopt_compression"])
def test_meshopt_that_is_not_required_is_named_too(tmp_path, name):
    document, body = triangle()
    path = tmp_path / "a.glb"
    document["bufferViews"][0]["buffer"] = 1
    text = json.dumps(document | {"extensionsUsed": [name], "buffers": [{"byteLength": 1}, {"byteLength": len(body)}]})
    text += " " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text.encode() + struct.pack("<I4s", 4, b"BIN\0") + bytes(4)
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    with pytest.raises(FileProblem, match=r"compressed by meshopt, which cannot be read\. Export it without meshopt"):
        read_mesh(path)


@pytest.mark.parametrize(("weights", "is_said"), [([0.0, 0.5], True), ([0.0, 0.0], False), (None, False)])
def test_that_morph_targets_are_not_applied_is_said(tmp_path, weights, is_said, caplog):
    document, body = triangle()
    document["nodes"][0] |= {} if weights is None else {"weights": weights}
    patches(write_glb(tmp_path / "a.glb", document, body))
    assert ["morph targets are not applied" in message for message in caplog.messages[:-1]] == [True] * is_said


# --- colours ----------------------------------------------------------------------------------------------------------

RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def textured(path: Path, uv: Any, use: dict[str, Any], sampler: dict[str, Any] | None = None, uv_set: int = 0) -> Path:
    """A triangle with one texture coordinate and a picture: red, green above blue, white."""
    scene = Scene()
    texture = {"source": scene.picture([[RGB["red"], RGB["green"]], [RGB["blue"], RGB["white"]]])}
    scene.document |= {"textures": [texture], "materials": [{"pbrMetallicRoughness": {"baseColorTexture": use}}]}
    if sampler is not None:
        texture["sampler"] = 0
        scene.document["samplers"] = [sampler]
    attributes = {"POSITION": scene.array(CORNERS), f"TEXCOORD_{uv_set}": scene.array([uv] * 3)}
    if uv_set:
        attributes["TEXCOORD_0"] = scene.array([[0.75, 0.75]] * 3)
    return scene.write(path, {"attributes": attributes, "material": 0})


CLAMP, MIRROR = {"wrapS": 33071, "wrapT": 33071}, {"wrapS": 33648, "wrapT": 33648}


@pytest.mark.parametrize(
    ("uv", "use", "sampler", "uv_set", "name"),
    [
        ((0.25, 0.25), {}, None, 0, "red"),
        ((0.75, 0.25), {"texCoord": 1}, None, 1, "green"),
        ((0.25, 0.75), {"texCoord": 0, "extensions": {"KHR_texture_transform": {"texCoord": 2}}}, None, 2, "blue"),
        ((0.25, 0.25), {"extensions": {"KHR_texture_transform": {"offset": [0.5, 0]}}}, None, 0, "green"),
        ((0.5, 1.5), {"extensions": {"KHR_texture_transform": {"scale": [0.5, 0.5]}}}, None, 0, "blue"),
        # Counter-clockwise by 90 degrees: (u, v) -> (v, -u).
        ((0.25, 0.25), {"extensions": {"KHR_texture_transform": {"rotation": math.pi / 2}}}, None, 0, "blue"),
        ((1.25, 0.25), {}, None, 0, "red"),
        ((1.25, 0.25), {}, CLAMP, 0, "green"),
        ((1.25, 0.25), {}, MIRROR, 0, "green"),
        ((-0.25, -0.25), {}, None, 0, "white"),
        ((-0.25, -0.25), {}, CLAMP, 0, "red"),
        ((1.0, 1.0), {}, CLAMP, 0, "white"),
        ((2.75, 0.25), {}, MIRROR, 0, "green"),
    ],
)
def test_a_picture_lies_where_its_coordinates_transform_and_sampler_say(tmp_path, uv, use, sampler, uv_set, name):
    path = textured(tmp_path / "a.glb", uv, {"index": 0} | use, sampler, uv_set)
    torch.testing.assert_close(mean_rgb(path) * 255, torch.tensor(RGB[name]).float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("material", "expected", "is_said"),
    [
        ({"pbrMetallicRoughness": {"metallicFactor": 0}}, 1.0, False),  # White is not written, since it is the default.
        ({}, 1.0, False),
        (None, 0.5, True),
        ({"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 0, 1]}, "emissiveFactor": [1, 1, 1]}, 1.0, False),
        ({"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 0, 1]}}, 0.0, False),
    ],
)
def test_a_material_without_a_colour_is_white_and_no_material_is_grey_and_said(
    tmp_path, material, expected, is_said, caplog
):
    document, body = triangle()
    if material is not None:
        document["materials"] = [material]
        document["meshes"][0]["primitives"][0]["material"] = 0
    assert mean_rgb(write_glb(tmp_path / "a.glb", document, body)).tolist() == pytest.approx([expected] * 3)
    assert ["it has no colours: all of it is grey" in message for message in caplog.messages] == [True] * is_said


@pytest.mark.parametrize("name", ["COLOR_0", "COLOR_1", "_COLOR_0", "color", "Colour", "_rgb", "RGBA"])
@pytest.mark.parametrize(("top", "kind", "said"), [(1, "<f4", 0), (255, "<f4", 1), (255, "|u1", 1), (65535, "<u2", 1)])
def test_colours_of_vertices_are_found_by_any_name_and_range(tmp_path, name, top, kind, said, caplog):
    scene = Scene()
    attributes = {
        "POSITION": scene.array(CORNERS), name: scene.array(top * np.array([[1, 0, 0.2, 1]] * 3), kind)
    }  # fmt: skip
    rgb = mean_rgb(scene.write(tmp_path / "a.glb", {"attributes": attributes}))
    torch.testing.assert_close(rgb, torch.tensor([1.0, 0.0, 0.2]), atol=1e-3, rtol=0)
    assert len(caplog.records) == said and (f"read as 0 to {top}" in caplog.text or not said)


@pytest.mark.parametrize(("content", "why"), [(b"\xabKTX 20\xbb\r\n\x1a\n", "is KTX2"), (b"junk", "not a readable")])
def test_a_picture_that_cannot_be_read_is_said_and_the_rest_is_read(tmp_path, content, why, caplog):
    scene = Scene()
    scene.document |= {
        "images": [{"bufferView": scene.view(content), "mimeType": "image/ktx2"}],
        "textures": [{"extensions": {"KHR_texture_basisu": {"source": 0}}}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "baseColorFactor": [1, 0, 0, 1]}}],
    }
    attributes = {"POSITION": scene.array(CORNERS), "TEXCOORD_0": scene.array([[0, 0]] * 3)}
    path = scene.write(tmp_path / "a.glb", {"attributes": attributes, "material": 0})
    assert mean_rgb(path).tolist() == pytest.approx([1, 0, 0])
    assert [why in message for message in caplog.messages] == [True]


# --- damage -----------------------------------------------------------------------------------------------------------

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 5), st.sampled_from([2**31, 2**40, 1e300, math.nan, "", "x", "../a"]),
    st.just([]), st.just({}), st.just([[]]), st.just([{}]), st.just({"a": 1}),
)  # fmt: skip


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where each value inside a JSON value is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in items for place in [(*above, key), *places(each, (*above, key))]]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_read_or_refused_in_one_line_in_our_words(tmp_path, data):
    kind = data.draw(st.sampled_from(["skin", "texture", "case"]))
    if kind == "skin":
        path = skinned(tmp_path / "a.glb")
    elif kind == "texture":
        use = {"index": 0, "texCoord": 1, "extensions": {"KHR_texture_transform": {"offset": [0, 0], "rotation": 0.1}}}
        path = textured(tmp_path / "a.glb", (0.5, 0.5), use, CLAMP, 1)
    else:
        path = CASES / data.draw(st.sampled_from(["normalized_int16.glb", "specgloss_spec02.glb", "draco.glb"]))
    content = path.read_bytes()
    end = 20 + int.from_bytes(content[12:16], "little")
    document = json.loads(content[20:end])
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(places(document)))
        owner = document
        for key in place[:-1]:
            owner = owner[key]
        owner[place[-1]] = data.draw(ODD)
        if not places(document):
            break
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = content[end:]
    head = struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(rest)) + struct.pack("<I4s", len(text), b"JSON")
    (tmp_path / "b.glb").write_bytes(head + text + rest)
    try:
        read_mesh(tmp_path / "b.glb")
    except (FileProblem, MissingDependency) as refused:
        assert str(refused).startswith(f"{tmp_path / 'b.glb'}: ") and "\n" not in str(refused)
