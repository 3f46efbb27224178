"""Mesh files of strangers: small ones that would become large, slow or dangerous are refused before that."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dreamsplat.errors import FileProblem
from dreamsplat.mesh import gltf_mesh
from dreamsplat.mesh import pictures as mesh_pictures
from dreamsplat.mesh.read import MOST_PARTS
from dreamsplat.priors3d.from_file import FromFile

pytest.importorskip("trimesh", reason="trimesh is not installed")


def read(path: Path) -> Any:
    return FromFile(path, count=100).load(torch.device("cpu")).sample("", torch.Generator().manual_seed(0))


def refusal(path: Path) -> str:
    with pytest.raises(FileProblem) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).isprintable()
    return str(caught.value)


def triangle(**changes: Any) -> dict[str, Any]:
    """The JSON of a glTF with one triangle, its numbers in 48 bytes: positions, then indices as int32."""
    return {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": 3, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 36},
            {"buffer": 0, "byteOffset": 36, "byteLength": 12},
        ],
        "buffers": [{"byteLength": 48}],
    } | changes


def write_glb(path: Path, document: dict[str, Any], indices: tuple[int, ...] = (0, 1, 2), more: bytes = b"") -> Path:
    body = np.eye(3, dtype="<f4").tobytes() + np.array(indices, "<i4").tobytes() + more
    body += bytes(-len(body) % 4)
    document["buffers"][0]["byteLength"] = len(body)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def test_the_triangle_itself_is_read(tmp_path):
    assert len(read(write_glb(tmp_path / "a.glb", triangle()))) == 100


def nodes(count: int) -> dict[str, Any]:
    return triangle(nodes=[{"children": list(range(1, count))}, *([{"mesh": 0}] * (count - 1))])


def chain(depth: int) -> dict[str, Any]:
    return triangle(nodes=[*({"children": [i + 1]} for i in range(depth)), {"mesh": 0}])


def primitives(count: int, points: int) -> dict[str, Any]:
    document = triangle(meshes=[{"primitives": count * triangle()["meshes"][0]["primitives"]}])
    document["accessors"][0]["count"] = points
    document["bufferViews"][0] = {"buffer": 0, "byteLength": 12 * points}
    return document


def copies(count: int) -> dict[str, Any]:
    document = triangle(nodes=[{"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": {"SCALE": 2}}}}])
    document["accessors"].append({"bufferView": 2, "componentType": 5126, "count": count, "type": "VEC3"})
    document["bufferViews"].append({"buffer": 0, "byteOffset": 48, "byteLength": 12 * count})
    return document


def sparse(count: int) -> dict[str, Any]:
    document = triangle()
    inside = {"indices": {"bufferView": 1, "componentType": 5125}, "values": {"bufferView": 0}, "count": 1}
    document["accessors"][0] = {"componentType": 5126, "count": count, "type": "VEC3", "sparse": inside}
    return document


def strip(count: int) -> dict[str, Any]:
    document = triangle()
    document["meshes"][0]["primitives"] = [{"attributes": {"POSITION": 0}, "indices": 1, "mode": 5}]
    document["accessors"][1] |= {"count": count, "componentType": 5121}
    document["bufferViews"][1]["byteLength"] = count
    return document


@pytest.mark.parametrize(
    ("document", "more", "message"),
    [
        (nodes(30_001), 0, "more than 30000 nodes"),
        (nodes(gltf_mesh.MOST_PARTS + 2), 0, "over 10000 parts"),
        (triangle(scenes=[{"nodes": [0] * 3}]), 0, "node 0 is reached twice"),
        (triangle(nodes=[{"mesh": 0, "children": [0]}]), 0, "node 0 is reached twice"),
        (primitives(gltf_mesh.MOST_PARTS + 1, 3), 0, "over 10000 parts"),
        (primitives(20, 50_000), 600_000, "over 10000 parts or 1200"),
        (copies(20_000), 240_000, "over 10000 parts"),
        (sparse(10**9), 0, "1000000000 values do not fit"),
        (strip(200_000), 200_000, "too many for its size"),
    ],
)
def test_a_gltf_that_is_out_of_proportion_is_refused(tmp_path, document, more, message):
    assert message in refusal(write_glb(tmp_path / "a.glb", document, more=bytes(more)))


@pytest.mark.parametrize("document", [nodes(5000), chain(20_000), primitives(5000, 3)])
def test_a_scene_of_thousands_of_parts_or_deep_nodes_is_read(tmp_path, document):
    assert len(read(write_glb(tmp_path / "a.glb", document))) == 100


@pytest.mark.parametrize("indices", [(0, 1, 3), (0, 1, -1), (0, 1, 2**31 - 1)])
@pytest.mark.parametrize("kind", [5125, 5122])
def test_indices_of_vertices_that_are_not_there_are_refused(tmp_path, indices, kind):
    document = triangle()
    document["accessors"][1]["componentType"] = kind
    if kind == 5122:  # int16, of which the first half of the second number is 0
        indices = (indices[0] | 1 << 16, indices[2] % 2**15 if indices[2] > 0 else 0xFFFF, 0)
    assert "refers to a vertex beyond its 3" in refusal(write_glb(tmp_path / "a.glb", document, indices))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.stl", b"solid\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\n"
                  b"endfacet\nendsolid\n"),
        ("a.obj", b"usemtl m\nf 1 2 3\n"),
    ],
)  # fmt: skip
def test_a_text_of_very_many_parts_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(b"v 0 0 0\nv 1 0 0\nv 0 1 0\n" * name.endswith("obj") + content * (MOST_PARTS + 1))
    assert "2001 times" in refusal(tmp_path / name)


def textured(picture: bytes) -> tuple[dict[str, Any], bytes]:
    """A triangle with a texture, and the bytes behind its own."""
    document = triangle(materials=[{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}])
    document |= {"textures": [{"source": 0}], "images": [{"bufferView": 3, "mimeType": "image/png"}]}
    document["bufferViews"] += [
        {"buffer": 0, "byteOffset": 48, "byteLength": 24},
        {"buffer": 0, "byteOffset": 72, "byteLength": len(picture)},
    ]
    document["accessors"].append({"bufferView": 2, "componentType": 5126, "count": 3, "type": "VEC2"})
    document["meshes"][0]["primitives"][0] |= {"attributes": {"POSITION": 0, "TEXCOORD_0": 2}, "material": 0}
    return document, bytes(24) + picture


def png(side: int) -> bytes:
    packed = io.BytesIO()
    Image.new("1", (side, side)).save(packed, "PNG")
    return packed.getvalue()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("picture", "why"), [(png(5000), "5000 x 5000 pixels are too many"), (POSTSCRIPT, "EPS, expected one of PNG")]
)
def test_a_picture_that_is_a_bomb_or_a_program_is_not_decoded(tmp_path, monkeypatch, caplog, picture, why):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: pytest.fail("a program was started"))
    document, more = textured(picture)
    assert (read(write_glb(tmp_path / "a.glb", document, more=more)).rgb == 0.5).all()
    assert [why in record.getMessage() for record in caplog.records] == [True]


def test_a_picture_of_usual_size_is_decoded(tmp_path, caplog):
    document, more = textured(png(64))
    assert (read(write_glb(tmp_path / "a.glb", document, more=more)).rgb == 0).all() and not caplog.records


def write_obj(folder: Path, materials: str) -> Path:
    (folder / "a.mtl").write_text(materials)
    (folder / "a.obj").write_text("mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl m\nf 1/1 2/1 3/1\n")
    return folder / "a.obj"


def test_a_picture_that_many_materials_name_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "t.png").write_bytes(png(8))
    opened: list[Path] = []
    real = mesh_pictures.read_bytes
    monkeypatch.setattr(mesh_pictures, "read_bytes", lambda path: (opened.append(path), real(path))[1])
    read(write_obj(tmp_path, "".join(f"newmtl m{i}\nmap_Kd t.png\n" for i in range(50))))
    assert sorted(path.name for path in opened) == ["a.mtl", "t.png"]


@pytest.mark.parametrize("name", ["p.png", "e.png", "../secret.png", "/etc/passwd"])
def test_pipes_programs_and_files_elsewhere_are_no_textures(tmp_path, monkeypatch, caplog, name):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: pytest.fail("a program was started"))
    (tmp_path / "mesh").mkdir()
    os.mkfifo(tmp_path / "mesh" / "p.png")  # Opening it would wait for ever.
    (tmp_path / "mesh" / "e.png").write_bytes(POSTSCRIPT)
    (tmp_path / "secret.png").write_bytes(png(8))
    assert (read(write_obj(tmp_path / "mesh", f"newmtl m\nmap_Kd {name}\n")).rgb == 0.5).all()
    assert len(caplog.records) == 1 and name in caplog.text


@pytest.mark.parametrize("name", ["numbers.bin", "numbers.dat", "numbers"])
def test_the_numbers_of_a_gltf_may_have_any_name(tmp_path, name):
    document = triangle(buffers=[{"uri": name, "byteLength": 48}])
    (tmp_path / name).write_bytes(np.eye(3, dtype="<f4").tobytes() + np.array([0, 1, 2], "<i4").tobytes())
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    assert len(read(tmp_path / "a.gltf")) == 100


@pytest.mark.parametrize(
    "name", ["/maps/t.png", "maps\\t.png", "-s 1 1 1 maps/t.png", "C:\\work\\u.png", "-o 1 x/u.png"]
)
def test_pictures_are_found_as_exporters_name_them(tmp_path, caplog, name):
    (tmp_path / "maps").mkdir()
    for place in ("maps/t.png", "u.png"):
        (tmp_path / place).write_bytes(png(8))
    assert (read(write_obj(tmp_path, f"newmtl m\nmap_Kd {name}\n")).rgb == 0).all() and not caplog.records


def test_names_in_a_file_do_not_command_the_terminal(tmp_path):
    document = triangle(buffers=[{"uri": "\x1b]0;x\x07.bin", "byteLength": 48}])
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    assert r"\x1b]0;x\x07.bin" in refusal(tmp_path / "a.gltf")
