"""KHR_gaussian_splatting in .glb: frame and layout, nodes, accessors, other programs, damage."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
from collections.abc import Callable
from math import cos, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import assert_usable_or_refused, damaged, repeatable
from hypothesis import given
from hypothesis import strategies as st
from peers import needs_peers, node, splat_transform

from dreamsplat.assets.frame import Z_UP_TO_Y_UP, rotated
from dreamsplat.errors import FileProblem
from dreamsplat.formats import glb, gltf_nodes, load, ply
from dreamsplat.maths.rotations import covariances
from dreamsplat.types import Gaussians

X = "KHR_gaussian_splatting"


def assert_same(a: Gaussians, b: Gaussians, atol: float = 2e-6) -> None:
    for name in ("means", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=2e-6, atol=atol)
    torch.testing.assert_close((a.quats * b.quats).sum(-1).abs(), torch.ones(len(a)), rtol=0, atol=2e-6)


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    size = struct.unpack_from("<I", content, 12)[0]
    return json.loads(content[20 : 20 + size]), content[28 + size :]


def rebuild(path: Path, document: dict[str, Any], body: bytes) -> Path:
    """Write a .glb of these parts, as another program might."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def stored(path: Path, name: str) -> np.ndarray:
    """An attribute's float32 numbers, by the plain layout that our writer has."""
    document, body = parts(path)
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"][name]]
    start = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
    dtype = {5126: "<f4", 5123: "<u2"}[accessor["componentType"]]
    return np.frombuffer(body, dtype, accessor["count"] * width, start).reshape(-1, width)


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [1, 1000])
def test_reading_gives_back_what_was_written(tmp_path, random_gaussians, count, sh_degree):
    saved = random_gaussians(count, sh_degree)
    glb.write(saved, tmp_path / "a.glb")
    loaded = glb.read(tmp_path / "a.glb")
    assert loaded.sh_degree == sh_degree
    assert_same(loaded, saved)
    torch.testing.assert_close(loaded.means, saved.means, rtol=0, atol=0)  # The turn only swaps axes.


def test_the_same_gaussians_give_the_same_bytes(tmp_path, random_gaussians):
    gaussians = random_gaussians(50, 3)
    glb.write(gaussians, tmp_path / "a.glb")
    glb.write(gaussians.to(torch.float64), tmp_path / "b.glb")
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()


def test_up_is_y_and_the_front_is_z_in_the_file(tmp_path, random_gaussians):
    saved = dataclasses.replace(
        random_gaussians(3, 1), means=torch.tensor([[0.0, 0, 1], [0, -1, 0], [1, 0, 0]]), sh=torch.zeros(3, 4, 3)
    )
    saved.sh[:, 2, 0] = 1  # Red grows towards +z, up.
    glb.write(saved, tmp_path / "a.glb")
    np.testing.assert_array_equal(stored(tmp_path / "a.glb", "POSITION"), [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    # In the file up is +y; the basis of degree 1 is -y, z, -x.
    names = [f"{X}:SH_DEGREE_1_COEF_{n}" for n in range(3)]
    np.testing.assert_allclose([stored(tmp_path / "a.glb", n)[0, 0] for n in names], [-1, 0, 0], atol=1e-6)


def test_a_written_file_holds_physical_values_and_a_linear_fallback(tmp_path, random_gaussians):
    saved = random_gaussians(20, 0)
    saved = dataclasses.replace(saved, quats=torch.tensor([[3.0, 0, 0, 0]]).expand(20, 4))
    saved.sh[0, 0] = torch.tensor([0.0, -9, 9])  # Grey, below black, above white.
    glb.write(saved, tmp_path / "a.glb")
    np.testing.assert_array_equal(stored(tmp_path / "a.glb", f"{X}:SCALE"), saved.scales)
    np.testing.assert_array_equal(stored(tmp_path / "a.glb", f"{X}:OPACITY")[:, 0], saved.opacities)
    half = 0.5**0.5  # A quarter turn about -x takes z to y; (x, y, z, w) in the file.
    np.testing.assert_allclose(stored(tmp_path / "a.glb", f"{X}:ROTATION")[0], [-half, 0, 0, half], atol=1e-6)
    colour = stored(tmp_path / "a.glb", "COLOR_0")[0] / 65535
    np.testing.assert_allclose(colour, [0.21404, 0, 1, saved.opacities[0]], atol=2e-5)  # sRGB 0.5 is 0.214 linear.
    document, _ = parts(tmp_path / "a.glb")
    assert document["extensionsUsed"] == [X] and "extensionsRequired" not in document
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 0
    assert primitive["extensions"][X] == {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}


def test_no_gaussians_are_refused_because_gltf_cannot_say_so(tmp_path, random_gaussians):
    with pytest.raises(FileProblem, match="cannot hold 0 Gaussians, expected at least 1. Save it as .ply"):
        glb.write(random_gaussians(0), tmp_path / "a.glb")
    assert list(tmp_path.iterdir()) == []


# --- other programs ---------------------------------------------------------------------------------------------------

_CHECK = """
import fs from 'fs';
import validator from 'gltf-validator';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
const bytes = fs.readFileSync(process.argv[1]);
const report = await validator.validateBytes(new Uint8Array(bytes), { maxIssues: 0 });
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
const gltf = await new Promise((resolve, reject) => new GLTFLoader().parse(buffer, '', resolve, reject));
const attributes = gltf.scene.children[0].geometry.attributes;
const values = Object.fromEntries(Object.entries(attributes).map(([name, a]) => [name, Array.from(a.array)]));
console.log(JSON.stringify({ issues: report.issues.messages.map((m) => [m.code, m.pointer]), values }));
"""


@needs_peers
def test_the_validator_finds_only_that_it_does_not_know_the_extension_and_three_reads_the_values(
    tmp_path, random_gaussians
):
    saved = random_gaussians(50, 3)
    glb.write(saved, tmp_path / "a.glb")
    report = json.loads(node(_CHECK, tmp_path / "a.glb"))
    names = ["ROTATION", "SCALE", "OPACITY", *(f"SH_DEGREE_{d}_COEF_{n}" for d in range(4) for n in range(2 * d + 1))]
    # KhronosGroup/glTF-Validator issue 252: it takes the prefix of the attributes for a mistake.
    pointers = [f"/meshes/0/primitives/0/attributes/{X}:{name}" for name in names]
    known = [
        ["UNSUPPORTED_EXTENSION", "/extensionsUsed/0"],
        *(["MESH_PRIMITIVE_INVALID_ATTRIBUTE", p] for p in pointers),
    ]
    assert sorted(report["issues"]) == sorted(known)
    turned = rotated(saved, Z_UP_TO_Y_UP)
    values = {name: torch.tensor(numbers) for name, numbers in report["values"].items()}
    prefix = X.lower()
    torch.testing.assert_close(values["position"].reshape(-1, 3), turned.means)
    torch.testing.assert_close(values[f"{prefix}:scale"].reshape(-1, 3), turned.scales)
    torch.testing.assert_close(values[f"{prefix}:rotation"].reshape(-1, 4), turned.quats[:, [1, 2, 3, 0]])
    torch.testing.assert_close(values[f"{prefix}:sh_degree_3_coef_6"].reshape(-1, 3), turned.sh[:, 15])


@needs_peers
def test_what_splat_transform_writes_is_read(tmp_path, random_gaussians):
    saved = random_gaussians(300, 3)
    ply.write(saved, tmp_path / "a.ply")
    splat_transform(tmp_path / "a.ply", tmp_path / "theirs.glb")
    # It takes a .ply to have y down and z forward, and turns it by half a turn about z.
    half_turn = torch.diag(torch.tensor([-1.0, -1, 1], dtype=torch.float64))
    assert_same(glb.read(tmp_path / "theirs.glb"), rotated(saved, Z_UP_TO_Y_UP.mT @ half_turn), atol=1e-5)


# --- nodes ------------------------------------------------------------------------------------------------------------


def with_nodes(path: Path, saved: Gaussians, nodes: list[dict[str, Any]], roots: list[int] | None = None) -> Path:
    glb.write(saved, path)
    document, body = parts(path)
    document["nodes"] = nodes
    document["scenes"] = [{"nodes": [0] if roots is None else roots}]
    return rebuild(path, document, body)


def test_nodes_move_turn_and_scale_with_their_parents(tmp_path, random_gaussians):
    saved = random_gaussians(30, 3)
    turn = [0.0, sin(0.4), 0.0, cos(0.4)]  # by 0.8 about the file's up, which is ours
    parent = {"translation": [1, 2, 3], "scale": [2, 2, 2], "children": [1]}
    path = with_nodes(tmp_path / "a.glb", saved, [parent, {"rotation": turn, "mesh": 0, "translation": [0, 0, 1]}])
    loaded = glb.read(path)
    c, s = cos(0.8), sin(0.8)
    about_z = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    expected = rotated(saved, about_z)
    # Up is y in the file, so (1, 2, 3) + 2 (0, 0, 1) there is (1, -5, 2) here.
    means, scales = 2 * expected.means + torch.tensor([1.0, -5, 2]), 2 * expected.scales
    assert_same(loaded, dataclasses.replace(expected, means=means, scales=scales), atol=1e-5)


def test_matrices_are_read_column_by_column(tmp_path, random_gaussians):
    saved = random_gaussians(10, 1)
    # A quarter turn about x that takes y to z, then a shift along x.
    matrix = [1, 0, 0, 0, 0, 0, 1, 0, 0, -1, 0, 0, 5, 0, 0, 1]
    loaded = glb.read(with_nodes(tmp_path / "a.glb", saved, [{"mesh": 0, "matrix": matrix}]))
    about_x = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    expected = rotated(saved, about_x)
    assert_same(loaded, dataclasses.replace(expected, means=expected.means + torch.tensor([5.0, 0, 0])), atol=1e-5)
    torch.testing.assert_close(
        covariances(loaded.scales, loaded.quats), covariances(expected.scales, expected.quats), atol=1e-6, rtol=1e-5
    )


def test_meshes_that_several_nodes_share_are_read_once_for_each(tmp_path, random_gaussians):
    saved = random_gaussians(10)
    nodes = [{"mesh": 0}, {"children": [2, 3]}, {"mesh": 0, "translation": [1, 0, 0]}, {"name": "empty"}, {"mesh": 0}]
    loaded = glb.read(with_nodes(tmp_path / "a.glb", saved, nodes, roots=[0, 1]))
    assert len(loaded) == 20  # Node 4 is not in the scene.
    torch.testing.assert_close(loaded.means[10:], saved.means + torch.tensor([1.0, 0, 0]))


def test_files_without_a_scene_show_all_their_roots(tmp_path, random_gaussians):
    path = with_nodes(tmp_path / "a.glb", random_gaussians(4), [{"mesh": 0}, {"children": [0]}, {"mesh": 0}])
    document, body = parts(path)
    del document["scenes"], document["scene"]
    assert len(glb.read(rebuild(path, document, body))) == 8


def test_meshes_of_different_degree_meet_at_the_higher_one(tmp_path, random_gaussians):
    saved = random_gaussians(6, 2)
    glb.write(saved, tmp_path / "a.glb")
    document, body = parts(tmp_path / "a.glb")
    primitive = document["meshes"][0]["primitives"][0]
    flat = {
        name: at for name, at in primitive["attributes"].items() if "DEGREE_1" not in name and "DEGREE_2" not in name
    }
    triangles = {"attributes": {"POSITION": 0}, "mode": 4}
    document["meshes"][0]["primitives"] = [{**primitive, "attributes": flat}, triangles, primitive]
    loaded = glb.read(rebuild(tmp_path / "a.glb", document, body))
    assert len(loaded) == 12 and loaded.sh_degree == 2
    assert not loaded.sh[:6, 1:].any()
    torch.testing.assert_close(loaded.sh[6:], saved.sh, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "transform",
    [
        {"scale": [1, 2, 1]},
        {"scale": [-1, 1, 1]},
        {"scale": [0, 0, 0]},
        {"matrix": [1, 0, 0, 0, 0.5, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]},
    ],
)
def test_stretched_mirrored_and_flattened_nodes_are_refused(tmp_path, random_gaussians, transform):
    path = with_nodes(tmp_path / "a.glb", random_gaussians(3), [{"mesh": 0, **transform}])
    assert_refused(path, "a node stretches, mirrors or flattens its Gaussians. Apply its transform")


# --- accessors --------------------------------------------------------------------------------------------------------


def interleaved(path: Path, quats: np.ndarray, opacities: np.ndarray, rotation_type: int, opacity_type: int) -> Path:
    """Two Gaussians as a program with quantised, interleaved vertices would store them: 60 bytes each."""
    formats = ["3<f4", (quats.dtype, 4), "3<f4", opacities.dtype, "3<f4"]
    record = np.dtype({"names": list("pqsoc"), "formats": formats, "offsets": [0, 12, 28, 40, 44], "itemsize": 60})
    table = np.zeros(2, record)
    table["p"], table["q"], table["s"], table["o"], table["c"] = [[1, 2, 3], [4, 5, 6]], quats, 0.5, opacities, 0.25
    types = [5126, rotation_type, 5126, opacity_type, 5126]
    kinds = zip(["VEC3", "VEC4", "VEC3", "SCALAR", "VEC3"], types, [0, 12, 28, 40, 44], strict=True)
    names = ["POSITION", f"{X}:ROTATION", f"{X}:SCALE", f"{X}:OPACITY", f"{X}:SH_DEGREE_0_COEF_0"]
    extension = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective"}
    attributes = {name: index for index, name in enumerate(names)}
    document = {
        "asset": {"version": "2.0"}, "extensionsUsed": [X], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "mode": 0, "extensions": {X: extension}}]}],
        "accessors": [
            {"bufferView": 0, "type": kind, "componentType": code, "byteOffset": at, "count": 2}
            | {"normalized": code != 5126}
            for kind, code, at in kinds
        ],
        "bufferViews": [{"buffer": 0, "byteOffset": 4, "byteLength": 120, "byteStride": 60}],
        "buffers": [{"byteLength": 124}],
    }  # fmt: skip
    return rebuild(path, document, b"\0" * 4 + table.tobytes())


@pytest.mark.parametrize(
    ("rotation", "opacity"), [(("i1", 5120, 127), ("u1", 5121, 255)), (("i2", 5122, 32767), ("u2", 5123, 65535))]
)
def test_interleaved_whole_numbers_are_fractions_of_their_range(tmp_path, rotation, opacity):
    quats = np.array([[0, 0, 0, rotation[2]], [-rotation[2], 0, 0, 0]], rotation[0])
    opacities = np.array([opacity[2], opacity[2] // 5], opacity[0])
    loaded = glb.read(interleaved(tmp_path / "a.glb", quats, opacities, rotation[1], opacity[1]))
    turn = Z_UP_TO_Y_UP.mT.float()
    torch.testing.assert_close(loaded.means, torch.tensor([[1.0, 2, 3], [4, 5, 6]]) @ turn.mT)
    torch.testing.assert_close(loaded.opacities, torch.tensor([1, 0.2]))
    torch.testing.assert_close(loaded.sh, torch.full((2, 1, 3), 0.25))
    # Identity and a half turn about x, then our quarter turn about x.
    half = 0.5**0.5
    expected = torch.tensor([[half, half, 0, 0], [half, -half, 0, 0]])
    torch.testing.assert_close((loaded.quats * expected).sum(-1).abs(), torch.ones(2))


def test_scales_of_0_by_other_writers_stay_usable(tmp_path, random_gaussians):
    glb.write(random_gaussians(3), tmp_path / "a.glb")
    document, body = parts(tmp_path / "a.glb")
    start = document["bufferViews"][2]["byteOffset"]
    rebuild(tmp_path / "a.glb", document, body[:start] + bytes(12) + body[start + 12 :])
    assert float(load(tmp_path / "a.glb").scales.min()) > 0


# --- damage -----------------------------------------------------------------------------------------------------------


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(FileProblem, match=message) as caught:
        glb.read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def put(*keys: str | int) -> Callable[[object], Callable[[dict[str, Any]], None]]:
    """`put("a", 0)(value)` sets document["a"][0]; `put(...)(...)` removes it. "P" and "X" are where the splats are."""
    primitive = ["meshes", 0, "primitives", 0]
    shorts: dict[str | int, list[str | int]] = {"P": primitive, "X": [*primitive, "extensions", X]}
    *path, last = [key for each in keys for key in shorts.get(each, [each])]

    def with_value(value: object) -> Callable[[dict[str, Any]], None]:
        def change(document: dict[str, Any]) -> None:
            owner: Any = document
            for key in path:
                owner = owner[key]
            if value is ...:
                del owner[last]
            else:
                owner[last] = value

        return change

    return with_value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            put("extensionsRequired")(["EXT_meshopt\n"]),
            re.escape(r"requires the extension 'EXT_meshopt\n', which cannot"),
        ),
        (put("X", "extensions")({"KHR_gaussian_splatting_compression_spz_2": {}}), "use the extension 'KHR_.*_spz_2'"),
        (put("X", "colorSpace")("lin_rec709_display"), "colorSpace 'lin_rec709_display', expected srgb_rec709_display"),
        (put("X", "kernel")(...), "kernel None, expected ellipse"),
        (put("P", "mode")(4), "expected mode 0"),
        (put("P", "indices")(0), "without indices"),
        (put("P", "extensions")(...), "no Gaussians: none of its meshes in the scene has KHR_gaussian_splatting"),
        (put("P", "attributes", f"{X}:SCALE")(...), "lack KHR_gaussian_splatting:SCALE"),
        (put("P", "attributes", f"{X}:SH_DEGREE_1_COEF_1")(...), "lack KHR_gaussian_splatting:SH_DEGREE_1_COEF_1"),
        (put("P", "attributes", f"{X}:SCALE")(99), "accessors 99 does not exist"),
        (put("P", "attributes", f"{X}:SCALE")(True), "accessors True does not exist"),
        (put("P", "attributes", f"{X}:SCALE")([2]), "accessors list does not exist"),
        (put("P", "attributes", f"{X}:OPACITY")(0), "accessor 0 is 'VEC3' of type 5126, expected 1 components"),
        (put("accessors", 1, "componentType")(5130), "accessor 1 is 'VEC4' of type 5130"),
        (put("accessors", 1, "count")(2**31), "accessor 1: 2147483648 values do not fit"),
        (put("accessors", 1, "count")(9), "attributes of its Gaussians differ in length"),
        (put("accessors", 1, "count")(-1), "count is -1"),
        (put("accessors", 1, "byteOffset")(4), "accessor 1: 10 values do not fit"),
        (put("accessors", 1, "bufferView")(...), "accessor 1 is compressed"),
        (put("accessors", 1, "sparse")({}), "sparse indices is not a JSON object"),
        (put("bufferViews", 1, "byteStride")(8), "accessor 1: 10 values do not fit"),
        (put("bufferViews", 1, "byteStride")(2**40), "byteStride is 1099511627776"),
        (put("bufferViews", 1, "byteOffset")(10**6), "accessor 1: 10 values do not fit"),
        (put("buffers", 0, "uri")("http://example.org/a.bin"), "lie outside its folder"),
        (put("nodes", 0, "mesh")(1), "meshes 1 does not exist"),
        (put("nodes", 0, "mesh")([0]), "meshes list does not exist"),
        (put("nodes", 0, "children")([0]), "node 0 is reached twice"),
        (put("nodes", 0, "children")(0), "children is not a list"),
        (put("nodes", 0, "scale")([1, 1]), "scale is not a list of 3 numbers"),
        (put("nodes", 0, "rotation")([0, 0, 0, 0]), "its rotation is 0 0 0 0"),
        (put("nodes", 0, "translation")([float("inf"), 0, 0]), "translation is not a list of 3 numbers"),
        (put("nodes", 0, "matrix")([1e200] * 16), "matrix is not a list"),
        (put("scene")(1), "scenes 1 does not exist"),
        (put("scenes")({"nodes": [0]}), "scenes 0 does not exist"),
        (put("meshes", 0)([]), "meshes 0 is not a JSON object"),
        (put("scenes", 0, "nodes")(["0"]), "nodes '0' does not exist"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, random_gaussians, change, message):
    glb.write(random_gaussians(10, 1), tmp_path / "a.glb")
    document, body = parts(tmp_path / "a.glb")
    change(document)
    assert_refused(rebuild(tmp_path / "a.glb", document, body), message)


def test_logarithms_as_scales_are_refused_as_a_draft(tmp_path, random_gaussians):
    glb.write(random_gaussians(10), tmp_path / "a.glb")
    document, body = parts(tmp_path / "a.glb")
    start = document["bufferViews"][2]["byteOffset"]
    logs = np.full(30, -3, np.float32).tobytes()
    changed = rebuild(tmp_path / "a.glb", document, body[:start] + logs + body[start + len(logs) :])
    assert_refused(changed, "a SCALE is below 0, as in drafts of the extension")


def test_a_scene_that_repeats_a_mesh_without_end_is_refused(tmp_path, random_gaussians):
    for count, gaussians in ((300, random_gaussians(1000)), (600, random_gaussians(1))):
        nodes = [{"children": list(range(1, count))}, *({"mesh": 0} for _ in range(count - 1))]
        path = with_nodes(tmp_path / "a.glb", gaussians, nodes)
        assert_refused(path, "its nodes show more than 500 meshes or 1.* Gaussians. Join or drop some of them")


def sharing(path: Path, degrees: list[int], count: int) -> Path:
    """A primitive for each degree, of `count` Gaussians whose attributes are all in the same 4 `count` bytes."""
    ones = {"bufferView": 0, "componentType": 5121, "normalized": True, "count": count}
    extension = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    primitives = []
    for degree in degrees:
        names = {"POSITION": 0, f"{X}:ROTATION": 1, f"{X}:SCALE": 0, f"{X}:OPACITY": 2}
        names |= {f"{X}:SH_DEGREE_{d}_COEF_{n}": 0 for d in range(degree + 1) for n in range(2 * d + 1)}
        primitives.append({"attributes": names, "mode": 0, "extensions": {X: extension}})
    document = {
        "asset": {"version": "2.0"}, "nodes": [{"mesh": 0}], "meshes": [{"primitives": primitives}],
        "accessors": [{**ones, "type": "VEC3"}, {**ones, "type": "VEC4"}, {**ones, "type": "SCALAR"}],
        "bufferViews": [{"buffer": 0, "byteLength": 4 * count, "byteStride": 4}],
        "buffers": [{"byteLength": 4 * count}],
    }  # fmt: skip
    return rebuild(path, document, b"\x80" * (4 * count))


def test_attributes_that_share_their_bytes_cannot_ask_for_many_times_the_file(tmp_path):
    assert len(glb.read(sharing(tmp_path / "a.glb", [3], 1000))) == 1000
    path = sharing(tmp_path / "a.glb", [3], 150_000)  # 35 MB from 0.6.
    assert_refused(path, "show more than 500 meshes or 110169 Gaussians")


def test_gaussians_of_low_degree_count_as_large_as_those_that_they_are_joined_with(tmp_path):
    path = sharing(tmp_path / "a.glb", [0], 120_000)
    assert len(glb.read(path)) == 120_000
    document, body = parts(path)
    one = [{**accessor, "count": 1} for accessor in document["accessors"]]
    small, _ = parts(sharing(tmp_path / "b.glb", [3], 1))
    primitive = small["meshes"][0]["primitives"][0]
    primitive["attributes"] = {name: 3 + at for name, at in primitive["attributes"].items()}
    document["accessors"] += one
    document["meshes"][0]["primitives"].append(primitive)
    assert_refused(rebuild(path, document, body), "more than 500 meshes or 108135 Gaussians")


def test_a_scene_of_very_many_nodes_is_refused(tmp_path, random_gaussians):
    saved = random_gaussians(1)
    lists = [
        ([{"mesh": 0}] + [{}] * 30_000, list(range(30_001))),
        ([{"mesh": 0, "children": list(range(1, 30_001))}] + [{}] * 30_000, [0]),
        ([{"mesh": 0}], [0] * 30_001),
        ([{"mesh": 0, "children": [1] * 30_001}, {}], [0]),
    ]
    for nodes, roots in lists:
        assert_refused(with_nodes(tmp_path / "a.glb", saved, nodes, roots), "more than 30000 nodes. Join or drop some")
    document, body = parts(with_nodes(tmp_path / "a.glb", saved, *lists[0]))
    del document["scenes"], document["scene"]
    assert_refused(rebuild(tmp_path / "a.glb", document, body), "more than 30000 nodes. Join or drop some")


def test_nodes_that_do_not_move_anything_compute_nothing(tmp_path, random_gaussians, monkeypatch):
    nodes = [*({"children": [i + 1], **({"scale": [2, 2, 2]} if i == 7 else {})} for i in range(29_000)), {"mesh": 0}]
    path = with_nodes(tmp_path / "a.glb", random_gaussians(1), nodes)
    computed, local = [], gltf_nodes._local
    monkeypatch.setattr(gltf_nodes, "_local", lambda *arguments: computed.append(1) or local(*arguments))
    assert len(glb.read(path)) == 1
    assert len(computed) == 1


def test_a_mesh_is_looked_through_once_however_many_nodes_show_it(tmp_path, random_gaussians, monkeypatch):
    path = with_nodes(tmp_path / "a.glb", random_gaussians(1), [{"mesh": 0}, *[{"mesh": 1}] * 300], list(range(301)))
    document, body = parts(path)
    document["meshes"].append({"primitives": [{"mode": 4}] * 300})
    looked, look = [], glb._splats
    monkeypatch.setattr(glb, "_splats", lambda *arguments: looked.append(1) or look(*arguments))
    assert len(glb.read(rebuild(path, document, body))) == 1
    assert len(looked) == 301


def test_equal_primitives_are_read_once(tmp_path, monkeypatch):
    read, reader = [], glb._read_splats
    monkeypatch.setattr(glb, "_read_splats", lambda *arguments: read.append(1) or reader(*arguments))
    assert len(glb.read(sharing(tmp_path / "a.glb", [1] * 20, 10))) == 200
    assert len(read) == 1


def test_json_of_many_megabytes_is_refused_before_it_is_parsed(tmp_path, random_gaussians):
    glb.write(random_gaussians(1), tmp_path / "a.glb")
    document, body = parts(tmp_path / "a.glb")
    assert len(glb.read(rebuild(tmp_path / "a.glb", {**document, "extras": "x" * 2_000_000}, body))) == 1
    path = rebuild(tmp_path / "a.glb", {**document, "extras": "x" * (2 << 20)}, body)
    assert_refused(path, "its JSON has .* bytes, expected at most 2097152. Drop or join")


def test_chunks_that_nobody_knows_are_ignored_and_of_many_only_the_first_are_looked_at(tmp_path, random_gaussians):
    glb.write(random_gaussians(5), tmp_path / "a.glb")
    content = (tmp_path / "a.glb").read_bytes()
    lie = struct.pack("<I4s", 2**31, b"LIES")
    for others, readable in ((b"\0\0\0\0ABCD", True), (b"\0\0\0\0ABCD" * 50 + lie, True), (lie, False)):
        (tmp_path / "a.glb").write_bytes(content[:8] + struct.pack("<I", len(content + others)) + content[12:] + others)
        if readable:
            assert len(glb.read(tmp_path / "a.glb")) == 5
        else:
            assert_refused(tmp_path / "a.glb", "a chunk of 2147483648 bytes does not fit")


def test_transforms_beyond_all_bounds_are_refused(tmp_path, random_gaussians):
    far = {"scale": [1e20, 1e20, 1e20], "children": [1], "mesh": 0}
    path = with_nodes(tmp_path / "a.glb", random_gaussians(2), [far, {"scale": [1e20, 1e20, 1e20]}])
    assert_refused(path, "node 1 is moved or scaled too far")
    saved = random_gaussians(2)
    saved = dataclasses.replace(saved, means=saved.means * 1e25)
    path = with_nodes(tmp_path / "a.glb", saved, [{"mesh": 0, "scale": [1e20, 1e20, 1e20]}])
    with pytest.raises(FileProblem, match="2 of 2 Gaussians cannot be drawn"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not start with 'glTF'"),
        (b"{}", "it states no glTF version"),
        (struct.pack("<4sII", b"glTF", 1, 12), "glTF version 1; only 2 can be read"),
        (struct.pack("<4sII", b"glTF", 2, 2**31), "truncated: the header says 2147483648 bytes, the file has 12"),
        (struct.pack("<4sIII4s", b"glTF", 2, 20, 2**31, b"JSON"), "a chunk of 2147483648 bytes does not fit"),
        (struct.pack("<4sIII4s", b"glTF", 2, 20, 0, b"JSON"), "JSON chunk is missing or damaged"),
        (struct.pack("<4sIII4s4s", b"glTF", 2, 24, 4, b"JSON", b"[[[["), "JSON chunk is missing or damaged"),
        (struct.pack("<4sIII4s4s", b"glTF", 2, 24, 4, b"JSON", b"{}  "), "it states no glTF version"),
    ],
)
def test_what_is_no_glb_is_refused(tmp_path, content, message):
    (tmp_path / "a.glb").write_bytes(content)
    assert_refused(tmp_path / "a.glb", message)
    assert_refused(tmp_path / "none.glb", "no such file")


@repeatable
@given(data=st.data())
def test_a_corrupted_file_is_read_or_refused_and_nothing_else(tmp_path, random_gaussians, data):
    if not (tmp_path / "valid.glb").exists():
        glb.write(random_gaussians(2, 1), tmp_path / "valid.glb")
    document, body = parts(tmp_path / "valid.glb")
    pieces = [b"9", b'"', b"null", b"[[", b"-", b"e400", b"\0" * 4, b"\xff\xff\xff\xff", b'"nodes":[{}],']
    path = tmp_path / "a.glb"
    if data.draw(st.booleans()):
        path.write_bytes(damaged((tmp_path / "valid.glb").read_bytes(), data, pieces))
    else:  # A sound container, so that damage in the JSON is met by what comes after it.
        text = damaged(json.dumps(document).encode(), data, pieces)
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    assert_usable_or_refused(glb.read, path)
