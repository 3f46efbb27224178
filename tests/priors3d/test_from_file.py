"""A start from a file: where the points lie, what colour they have, which way they face, and what is refused."""

from __future__ import annotations

import json
import logging
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dreamsplat import formats
from dreamsplat.errors import DreamsplatError, FileProblem, InvalidInput, MissingDependency
from dreamsplat.priors3d.from_file import FromFile
from dreamsplat.types import Gaussians, PointCloud

trimesh = pytest.importorskip("trimesh")

AS_IS = {"centre": False, "size": None}
CPU = torch.device("cpu")
RED, GREEN, BLUE, YELLOW = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0)


def sample(path, seed: int = 0, **settings) -> PointCloud:
    generator = torch.Generator().manual_seed(seed)
    return FromFile(file=path, **settings).load(CPU).sample("anything", generator)


def refusal(path, kind: type[DreamsplatError] = FileProblem, **settings) -> str:
    with pytest.raises(kind) as caught:
        sample(path, **settings)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


def assert_colour(cloud: PointCloud, where: torch.Tensor, rgb: tuple[float, ...], tolerance: float = 1e-6) -> None:
    assert int(where.sum()) > 0
    assert (cloud.rgb[where] - torch.tensor(rgb)).abs().max() <= tolerance


# Files, written as their formats say.

CUBE = [(x, y, z) for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]
QUADS = {"top": (2, 3, 7, 6), "bottom": (0, 4, 5, 1), "front": (4, 6, 7, 5), "back": (0, 1, 3, 2)}
SIDES = {"right": (1, 5, 7, 3), "left": (0, 2, 6, 4)}
CELLS = {"top": (0, 0), "bottom": (1, 0), "front": (0, 1), "back": (1, 1)}
"""Column and row (from above) in the 2 x 2 texture; its colours are in `write_texture`."""


def write_texture(path) -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = [255, 0, 0], [0, 255, 0]
    pixels[1] = [0, 0, 255], [255, 255, 0]
    Image.fromarray(pixels).save(path)


def write_textured_cube(folder, texture: str = "paint.png", map_line: str = "map_Kd paint.png"):
    """A y-up cube: top red, bottom green, front blue, back yellow by texture; the sides cyan by material."""
    lines = ["mtllib cube.mtl"] + [f"v {x} {y} {z}" for x, y, z in CUBE]
    faces = ["usemtl painted"]
    for number, (name, corners) in enumerate(QUADS.items()):
        column, row = CELLS[name]
        for u, v in ((0.1, 0.1), (0.4, 0.1), (0.4, 0.4), (0.1, 0.4)):
            lines.append(f"vt {column / 2 + u} {1 - (row / 2 + v)}")
        faces.append("f " + " ".join(f"{c + 1}/{4 * number + k + 1}" for k, c in enumerate(corners)))
    faces.append("usemtl plain")
    faces += ["f " + " ".join(str(c + 1) for c in corners) for corners in SIDES.values()]
    (folder / "cube.obj").write_text("\n".join(lines + faces) + "\n")
    (folder / "cube.mtl").write_text(f"newmtl painted\nKd 0.25 0.5 0.75\n{map_line}\nnewmtl plain\nKd 0 1 1\n")
    if texture:
        write_texture(folder / texture)
    return folder / "cube.obj"


KINDS = {"uchar": "u1", "ushort": "u2", "float": "f4", "double": "f8", "int": "i4"}


def write_ply(path, order, columns, before=(), faces=None, comment="made by hand"):
    """A PLY with `columns` (type, name, values) as vertices, after elements `before`, and polygons."""
    count = len(columns[0][2])
    names = {"ascii": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}
    header = ["ply", f"format {names[order]} 1.0", f"comment {comment}"]
    rows = []
    for name, lists in before:
        header += [f"element {name} {len(lists)}", "property list uchar int numbers", "property float weight"]
        rows += [[("u1", len(v)), *(("i4", n) for n in v), ("f4", 0.5)] for v in lists]
    header += [f"element vertex {count}"] + [f"property {kind} {name}" for kind, name, _ in columns]
    rows += [[(KINDS[kind], values[i]) for kind, _, values in columns] for i in range(count)]
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        rows += [[("u1", len(f)), *(("i4", n) for n in f)] for f in faces]
    head = "\n".join([*header, "end_header", ""]).encode()
    if order == "ascii":
        body = "\n".join(" ".join(str(value) for _, value in row) for row in rows).encode() + b"\n"
    else:
        body = b"".join(np.array(value, order + kind).tobytes() for row in rows for kind, value in row)
    path.write_bytes(head + body)
    return path


def cloud_columns(colour: str, top: float):
    full = [top, 0, 0], [0, top, 0], [0, 0, top]
    xyz = [[0.0, 1, 0], [0, 0, 2], [0, 0, 3.5]]
    return [
        ("double", "x", xyz[0]), ("uchar", "flag", [7, 8, 9]), ("float", "y", xyz[1]), ("float", "z", xyz[2]),
        *((colour, name, values) for name, values in zip(("red", "green", "blue"), full, strict=True)),
    ]  # fmt: skip


def xyz_columns(vertices):
    return [("float", name, [v[i] for v in vertices]) for i, name in enumerate("xyz")]


def write_glb(path, matrix=None, kind=5121, colours=None, factor=None, uri=None, generator=None):
    """One triangle (0 0 0, 1 0 0, 0 1 0) with COLOR_0 of a component type, a base colour, and a node's matrix."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4")
    parts = [positions.tobytes()]
    accessors = [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3", "min": [0] * 3, "max": [1, 1, 0]}]
    attributes = {"POSITION": 0}
    if colours is not None:
        parts.append(np.asarray(colours, {5121: "u1", 5123: "<u2", 5126: "<f4"}[kind]).tobytes())
        accessors.append(
            {"bufferView": 1, "componentType": kind, "normalized": kind != 5126, "count": 3, "type": "VEC4"}
        )
        attributes["COLOR_0"] = 1
    views, offset = [], 0
    for part in parts:
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(part)})
        offset += len(part)
    primitive = {"attributes": attributes} | ({"material": 0} if factor is not None else {})
    tree = {
        "asset": {"version": "2.0"} | ({"generator": generator} if generator else {}),
        "scene": 0, "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0} | ({"matrix": matrix} if matrix is not None else {})],
        "meshes": [{"primitives": [primitive]}], "accessors": accessors, "bufferViews": views,
        "buffers": [{"byteLength": offset} | ({"uri": uri} if uri else {})],
    }  # fmt: skip
    if factor is not None:
        tree["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": factor}}]
    if uri:
        path.write_text(json.dumps(tree))
        return path
    text, body = json.dumps(tree).encode(), b"".join(parts)
    text += b" " * (-len(text) % 4)
    body += b"\0" * (-len(body) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def in_two_files(glb):
    """A .glb as .gltf and .bin."""
    content = glb.read_bytes()
    end = 20 + int.from_bytes(content[12:16], "little")
    tree = json.loads(content[20:end])
    tree["buffers"][0]["uri"] = "numbers.bin"
    (glb.parent / "numbers.bin").write_bytes(content[end + 8 :])
    glb.with_suffix(".gltf").write_text(json.dumps(tree))
    return glb.with_suffix(".gltf")


def write_splats(path, opacities):
    count = len(opacities)
    formats.save(
        Gaussians(
            means=torch.arange(3.0 * count).reshape(count, 3),
            scales=torch.full((count, 3), 0.1),
            quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
            opacities=torch.tensor(opacities),
            sh=torch.linspace(-1, 1, 3 * count).reshape(count, 1, 3),
        ),
        path,
    )
    return path


# Where points lie.


@pytest.mark.parametrize("suffix", [".obj", ".off", ".ply", ".stl", ".glb"])
def test_points_lie_on_the_surface_uniformly_by_area(tmp_path, suffix):
    box = trimesh.creation.box((4.0, 2.0, 1.0))
    path = tmp_path / f"box{suffix}"
    box.export(path)
    cloud = sample(path, count=20_000, up="z", **AS_IS)
    assert len(cloud) == 20_000 and cloud.xyz.dtype == cloud.rgb.dtype == torch.float32
    distance = (cloud.xyz.abs() - torch.tensor([2.0, 1.0, 0.5])).abs()  # [P, 3] to the three pairs of faces
    assert (cloud.xyz.abs() <= torch.tensor([2.0, 1.0, 0.5]) + 1e-5).all()
    assert distance.amin(dim=1).max() < 1e-5
    pair, side = distance.argmin(dim=1), (cloud.xyz > 0).long()
    cell = 2 * pair + side.gather(1, pair[:, None])[:, 0]
    expected = torch.tensor([2.0, 2, 4, 4, 8, 8]) / 28 * 20_000
    chi_square = ((torch.bincount(cell, minlength=6) - expected).square() / expected).sum()
    assert chi_square < 20.5  # 5 degrees of freedom: passed by chance once in a thousand.
    # Within the largest face, quarters along each side are equally full: the triangle's two halves leave no seam.
    on_top = cloud.xyz[(pair == 2) & (side[:, 2] == 1)]
    for axis, half in ((0, 2.0), (1, 1.0)):
        counts = torch.histc(on_top[:, axis], bins=4, min=-half, max=half)
        assert ((counts - len(on_top) / 4).square() / (len(on_top) / 4)).sum() < 16.3  # 3 degrees of freedom


def test_the_same_seed_gives_the_same_points_and_another_seed_others(tmp_path):
    path = write_textured_cube(tmp_path)
    before = torch.random.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    first, again, other = (sample(path, seed=seed, count=500) for seed in (3, 3, 4))
    assert torch.equal(first.xyz, again.xyz) and torch.equal(first.rgb, again.rgb)
    assert not torch.equal(first.xyz, other.xyz)
    assert torch.equal(before, torch.random.get_rng_state()) and (numpy_before == np.random.get_state()[1]).all()


def test_triangles_without_area_get_no_points(tmp_path):
    path = write_ply(
        tmp_path / "a.ply", "<", xyz_columns([(0, 0, 0), (1, 0, 0), (0, 1, 0), (9, 9, 9)]), faces=[(3, 3, 3), (0, 1, 2)]
    )
    assert sample(path, count=2000, **AS_IS).xyz.max() <= 1


# Which way it faces, where it stands, how large it is.


def write_arrow(path):
    """A y-up triangle mesh: head at the top (y = 3), nose at the front (z = 1), left hand at x = 0.5."""
    vertices = [(0, 3, 0), (0, 0, 1), (0.5, 0, 0), (0, 0, 0)]
    text = [f"v {x} {y} {z} {c}" for (x, y, z), c in zip(vertices, ("1 0 0", "0 1 0", "0 0 1", "0 0 0"), strict=True)]
    path.write_text("\n".join([*text, "f 1 2 3", "f 1 2 4", "f 2 3 4", ""]))
    return path


def extremes(cloud: PointCloud) -> torch.Tensor:
    """[3, 3] the points most red (the head), green (the nose) and blue (the hand)."""
    return cloud.xyz[cloud.rgb.argmax(dim=0)]


def test_y_up_files_stand_up_and_face_minus_y(tmp_path):
    cloud = sample(write_arrow(tmp_path / "arrow.obj"), count=20_000, **AS_IS)
    expected = torch.tensor([[0.0, 0, 3], [0, -1, 0], [0.5, 0, 0]])
    assert (extremes(cloud) - expected).abs().max() < 0.1


def test_the_up_axis_can_be_said_and_the_turn_is_counter_clockwise_from_above(tmp_path):
    path = write_arrow(tmp_path / "arrow.obj")
    kept = sample(path, count=20_000, up="z", **AS_IS)
    assert (extremes(kept) - torch.tensor([[0.0, 3, 0], [0, 0, 1], [0.5, 0, 0]])).abs().max() < 0.1
    turned = sample(path, count=20_000, turn_deg=90.0, **AS_IS)
    assert (extremes(turned) - torch.tensor([[0.0, 0, 3], [1, 0, 0], [0, 0.5, 0]])).abs().max() < 0.1


@pytest.mark.parametrize("size", [1.0, 0.25])
def test_a_shape_is_centred_and_scaled_by_its_bounding_box(tmp_path, size):
    box = trimesh.creation.box((4.0, 2.0, 1.0))
    box.apply_translation((10.0, 20.0, 30.0))
    box.export(tmp_path / "box.stl")
    cloud = sample(tmp_path / "box.stl", count=20_000, size=size)
    assert torch.allclose(cloud.xyz.amax(dim=0), size * torch.tensor([1.0, 0.5, 0.25]), atol=1e-3)
    assert torch.allclose(cloud.xyz.amin(dim=0), -size * torch.tensor([1.0, 0.5, 0.25]), atol=1e-3)


def test_units_and_place_of_the_file_can_be_kept(tmp_path):
    path = write_ply(tmp_path / "a.ply", "<", cloud_columns("uchar", 255))
    assert torch.equal(sample(path, **AS_IS).xyz, torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 3.5]]))
    assert sample(path, centre=True, size=None).xyz.amax(dim=0).tolist() == [0.5, 1.0, 1.75]


# Colours.


def faces_of_cube(cloud: PointCloud) -> dict[str, torch.Tensor]:
    """Which points [P] lie on which face of the y-up cube, once it stands z-up with its front towards -y."""
    x, y, z = (cloud.xyz / cloud.xyz.abs().max()).unbind(dim=1)
    sides = {"top": z, "bottom": -z, "front": -y, "back": y, "right": x, "left": -x}
    return {name: values > 1 - 1e-5 for name, values in sides.items()}


def test_a_textured_obj_has_its_texture_and_the_colours_of_its_materials(tmp_path):
    cloud = sample(write_textured_cube(tmp_path), count=3000)
    on = faces_of_cube(cloud)
    for name, rgb in {"top": RED, "bottom": GREEN, "front": BLUE, "back": YELLOW}.items():
        assert_colour(cloud, on[name], rgb)
    for name in ("left", "right"):
        assert_colour(cloud, on[name], (0.0, 1.0, 1.0))


@pytest.mark.parametrize("line", ["map_Kd -s 1 1 1 paint.png", "map_Kd textures\\paint.png"])
def test_texture_names_with_options_and_windows_separators_are_found(tmp_path, line, caplog):
    cloud = sample(write_textured_cube(tmp_path, map_line=line), count=1000)
    assert_colour(cloud, faces_of_cube(cloud)["top"], RED)
    assert not caplog.records


@pytest.mark.parametrize("damage", ["missing", "garbage", "cut off"])
def test_without_its_texture_an_obj_has_the_colour_of_the_material_and_one_warning(tmp_path, caplog, damage):
    path = write_textured_cube(tmp_path, texture="" if damage == "missing" else "paint.png")
    if damage == "garbage":
        (tmp_path / "paint.png").write_bytes(b"no picture")
    if damage == "cut off":
        Image.effect_noise((64, 64), 50).save(tmp_path / "paint.png")
        (tmp_path / "paint.png").write_bytes((tmp_path / "paint.png").read_bytes()[:900])
    with caplog.at_level(logging.WARNING, "dreamsplat"):
        cloud = sample(path, count=1000)
    assert_colour(cloud, faces_of_cube(cloud)["top"], (0.25, 0.5, 0.75))
    assert len(caplog.records) == 1 and "cube.obj" in caplog.text


def test_without_its_materials_an_obj_is_grey_and_one_warning_says_so(tmp_path, caplog):
    path = write_textured_cube(tmp_path)
    (tmp_path / "cube.mtl").unlink()
    cloud = sample(path, count=1000)
    assert (cloud.rgb == 0.5).all()
    assert len(caplog.records) == 1 and "cube.mtl" in caplog.text


def test_colours_of_vertices_blend_across_a_triangle(tmp_path):
    path = tmp_path / "one.obj"
    path.write_text("v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nf 1 2 3\n")
    cloud = sample(path, count=500, up="z", **AS_IS)
    x, y, _ = cloud.xyz.unbind(dim=1)
    assert (cloud.rgb - torch.stack([1 - x - y, x, y], dim=1)).abs().max() < 0.003  # trimesh keeps colours in 8 bits.


def test_colours_of_vertices_go_before_the_material_of_an_obj(tmp_path):
    (tmp_path / "a.mtl").write_text("newmtl plain\nKd 0.5 0.5 0.5\n")
    vertices = "v 0 0 0 1 0 0\nv 1 0 0 1 0 0\nv 0 1 0 1 0 0\n"
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\n{vertices}usemtl plain\nf 1 2 3\n")
    cloud = sample(tmp_path / "a.obj", count=10)
    assert_colour(cloud, torch.ones(10, dtype=torch.bool), RED)


@pytest.mark.parametrize("kind, top", [(5121, 255), (5123, 65535), (5126, 1.0)])
@pytest.mark.parametrize("factor", [None, [1.0, 0.5, 0.0, 1.0]])
def test_a_glb_has_its_vertex_colours_times_its_base_colour_where_its_node_stands(tmp_path, kind, top, factor):
    matrix = [0, 2, 0, 0, -2, 0, 0, 0, 0, 0, 2, 0, 5, 6, 7, 1]  # column by column: x -> 2 y, y -> -2 x, z -> 2 z
    colours = top * np.array([[1, 1, 0, 1]] * 3)
    path = write_glb(tmp_path / "a.glb", matrix=matrix, kind=kind, colours=colours, factor=factor)
    cloud = sample(path, count=200, **AS_IS)
    x, y, z = cloud.xyz.unbind(dim=1)  # In the file: x in 3..5, y in 6..8, z = 7.
    assert (y + 7).abs().max() < 1e-5 and (x <= 5 + 1e-5).all() and (z >= 6 - 1e-5).all()
    assert ((5 - x) + (z - 6) <= 2 + 1e-5).all() and float(x.min()) < 3.5 and float(z.max()) > 7.5
    # 0.5 of linear light is shown as 0.735; 0.003 because trimesh keeps the factor in 8 bits.
    assert_colour(cloud, torch.ones(200, dtype=torch.bool), (1.0, 1.0 if factor is None else 0.7354, 0.0), 0.003)


@pytest.mark.parametrize(
    ("generator", "shown"),
    [
        (None, 0.5),
        ("https://github.com/mikedh/trimesh", 0.5),
        ("Khronos glTF Blender I/O v4.2.57", 0.7354),
        ("THREE.GLTFExporter r170", 0.7354),
        ("dreamsplat", 0.7354),
    ],
)
@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_vertex_colours_of_a_gltf_are_linear_if_its_exporter_follows_the_standard(tmp_path, generator, shown, suffix):
    colours = np.array([[0.5, 1, 0, 1]] * 3)
    path = write_glb(tmp_path / "a.glb", kind=5126, colours=colours, generator=generator)
    if suffix == ".gltf":
        path = in_two_files(path)
    cloud = sample(path, count=20, **AS_IS)
    assert_colour(cloud, torch.ones(20, dtype=torch.bool), (shown, 1.0, 0.0), 0.003)


def test_gaussians_in_a_glb_are_the_points_that_they_are_in_a_ply(tmp_path, random_gaussians):
    gaussians = random_gaussians(300, 1)
    for name in ("a.ply", "a.glb"):
        formats.save(gaussians, tmp_path / name)
    a, b = (sample(tmp_path / name, **AS_IS) for name in ("a.ply", "a.glb"))
    torch.testing.assert_close(a.xyz, b.xyz, rtol=0, atol=1e-6)
    torch.testing.assert_close(a.rgb, b.rgb, rtol=0, atol=1e-6)
    assert float(a.rgb.std()) > 0.05


def test_a_textured_glb_has_the_colours_of_its_picture_with_rows_from_the_top(tmp_path):
    write_texture(tmp_path / "paint.png")
    mesh = trimesh.Trimesh([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], [(0, 1, 2), (0, 2, 3)], process=False)
    picture = Image.open(tmp_path / "paint.png")
    mesh.visual = trimesh.visual.TextureVisuals(
        uv=[(0, 0), (0.999, 0), (0.999, 0.999), (0, 0.999)],
        material=trimesh.visual.material.PBRMaterial(baseColorTexture=picture),
    )
    mesh.export(tmp_path / "wall.glb")
    cloud = sample(tmp_path / "wall.glb", count=2000, **AS_IS)
    x, _, z = cloud.xyz.unbind(dim=1)
    for column, row, rgb in ((0, 0, RED), (1, 0, GREEN), (0, 1, BLUE), (1, 1, YELLOW)):
        inside = ((x - (column + 0.5) / 2).abs() < 0.24) & ((z - (1.5 - row) / 2).abs() < 0.24)
        assert_colour(cloud, inside, rgb)


def test_files_without_colours_are_grey_and_any_file_can_be_made_grey(tmp_path):
    trimesh.creation.box().export(tmp_path / "box.stl")
    trimesh.creation.box().export(tmp_path / "text.stl", file_type="stl_ascii")
    write_ply(tmp_path / "cloud.ply", "ascii", xyz_columns([(0, 0, 0), (1, 0, 0)]))
    (tmp_path / "mapped.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n")
    for name in ("box.stl", "text.stl", "cloud.ply", "mapped.obj"):
        assert (sample(tmp_path / name, count=100).rgb == 0.5).all(), name
    assert (sample(write_textured_cube(tmp_path), count=100, colour="grey").rgb == 0.5).all()


# PLY in all its layouts.


@pytest.mark.parametrize("order", ["ascii", "<", ">"])
@pytest.mark.parametrize("colour, top", [("uchar", 255), ("ushort", 65535), ("float", 1.0), ("int", 255)])
def test_a_ply_cloud_is_read_in_every_byte_order_and_colour_type(tmp_path, order, colour, top):
    before = [("camera", [(1, 2, 3), (4,), ()])]
    path = write_ply(tmp_path / "a.ply", order, cloud_columns(colour, top), before)
    cloud = sample(path, **AS_IS)
    assert cloud.xyz.tolist() == [[0, 0, 0], [1, 0, 0], [0, 2, 3.5]]
    assert cloud.rgb.tolist() == torch.eye(3).tolist()


@pytest.mark.parametrize("order", ["ascii", "<", ">"])
@pytest.mark.parametrize("polygons", [[(0, 1, 2), (0, 2, 3)], [(0, 1, 2, 3)], [(0, 1, 2, 3), (0, 4, 1), (2, 4)]])
def test_a_ply_with_faces_is_a_mesh_whatever_its_polygons(tmp_path, order, polygons):
    square = [(0, 0, 0), (2, 0, 0), (2, 2, 0), (0, 2, 0), (1, -2, 0)]
    colours = [("float", name, [0.25 * (i + 1)] * 5) for i, name in enumerate(("red", "green", "blue"))]
    path = write_ply(tmp_path / "a.ply", order, xyz_columns(square) + colours, faces=polygons)
    cloud = sample(path, count=4000, **AS_IS)
    assert_colour(cloud, torch.ones(4000, dtype=torch.bool), (0.25, 0.5, 0.75))
    assert (cloud.xyz[:, 2] == 0).all()
    share_below = float((cloud.xyz[:, 1] < 0).double().mean())
    assert abs(share_below - (1 / 3 if len(polygons) == 3 else 0)) < 0.03  # The triangle has half of the square's area.


def test_a_ply_may_colour_its_faces(tmp_path):
    mesh = trimesh.creation.box()
    mesh.visual.face_colors = np.where(mesh.face_normals[:, 2:] > 0.5, [[255, 0, 0, 255]], [[0, 0, 255, 255]])
    mesh.export(tmp_path / "a.ply")
    cloud = sample(tmp_path / "a.ply", count=1000)
    top = cloud.xyz[:, 2] > 1 - 1e-5
    assert_colour(cloud, top, RED)
    assert_colour(cloud, ~top, BLUE)


def test_a_textured_ply_has_its_texture(tmp_path):
    write_texture(tmp_path / "paint.png")
    vertices = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
    mapped = [("float", "s", [0.1, 0.4, 0.4, 0.1]), ("float", "t", [0.1, 0.1, 0.4, 0.4])]
    faces = [(0, 1, 2), (0, 2, 3)]
    comment = "TextureFile paint.png"
    path = write_ply(tmp_path / "a.ply", "<", xyz_columns(vertices) + mapped, faces=faces, comment=comment)
    cloud = sample(path, count=100)
    assert_colour(cloud, torch.ones(100, dtype=torch.bool), BLUE)


def test_gaussians_give_their_centres_and_colours_without_the_faint_ones(tmp_path):
    path = write_splats(tmp_path / "asset.ply", [0.9, 0.01, 0.1])
    cloud = sample(path, **AS_IS)
    splats = formats.load(path)
    assert torch.equal(cloud.xyz, splats.means[[0, 2]])
    assert torch.allclose(cloud.rgb, 0.5 + 0.28209479 * splats.sh[[0, 2], 0], atol=1e-6)


def test_clouds_written_by_the_package_come_back(tmp_path):
    drawn = torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(0))
    cloud = PointCloud(xyz=drawn[0], rgb=(drawn[1] * 255).round() / 255)
    formats.ply.save_points(cloud, tmp_path / "a.ply")
    back = sample(tmp_path / "a.ply", **AS_IS)
    assert torch.equal(back.xyz, cloud.xyz) and torch.allclose(back.rgb, cloud.rgb, atol=1e-6)


def test_a_large_cloud_is_thinned_at_random_and_a_small_one_kept(tmp_path):
    drawn = torch.rand(1000, 3, generator=torch.Generator().manual_seed(0))
    cloud = PointCloud(xyz=drawn, rgb=drawn)
    formats.ply.save_points(cloud, tmp_path / "a.ply")
    thinned, other = (sample(tmp_path / "a.ply", seed=seed, count=100, **AS_IS) for seed in (0, 1))
    rows = {tuple(row) for row in cloud.xyz.tolist()}
    assert len({tuple(row) for row in thinned.xyz.tolist()} & rows) == len(thinned) == 100
    assert not torch.equal(thinned.xyz, other.xyz)
    assert len(sample(tmp_path / "a.ply", count=None)) == len(sample(tmp_path / "a.ply")) == 1000


def test_an_obj_of_nothing_but_points_is_a_cloud(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 1 1 0 0\nv 0 0 -1 0 0 1\n")
    cloud = sample(tmp_path / "a.obj", up="z")
    assert cloud.xyz.tolist() == [[0, 0, 1], [0, 0, -1]] and cloud.rgb.tolist() == [list(RED), list(BLUE)]


# What is refused.


def test_settings_out_of_range_are_refused(tmp_path):
    path = write_ply(tmp_path / "a.ply", "<", cloud_columns("uchar", 255))
    assert "prior3d.file: no file is named" in refusal(FromFile().file, InvalidInput)
    for settings in ({"count": 0}, {"size": 0.0}, {"size": float("nan")}, {"turn_deg": float("inf")}, {"up": "x"}):
        assert next(iter(settings)) in refusal(path, InvalidInput, **settings)
    trimesh.creation.box().export(tmp_path / "box.stl")
    assert "prior3d.count: None" in refusal(tmp_path / "box.stl", InvalidInput, count=None)


def test_files_that_are_missing_or_of_an_unknown_kind_are_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "a.glb")
    assert "no such file" in refusal(tmp_path / "a.ply")
    (tmp_path / "a.fbx").write_bytes(b"Kaydara FBX Binary")
    assert ".sog, .glb, .gltf, .obj, .off, .stl" in refusal(tmp_path / "a.fbx")
    (tmp_path / "folder.obj").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.obj")


@pytest.mark.parametrize("suffix", [".glb", ".gltf", ".obj", ".off", ".ply", ".stl"])
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"garbage " * 40, bytes(range(256)) * 3], ids=["empty", "braces", "words", "bytes"]
)
def test_files_that_are_not_what_they_say_are_refused_in_one_line(tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert f"a{suffix}: " in refusal(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".stl"])
def test_files_that_are_cut_off_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    trimesh.creation.icosphere(2).export(path)
    content = path.read_bytes()
    for share in (0.2, 0.6, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        refusal(path)


def test_a_gltf_without_its_numbers_names_the_file_that_is_missing(tmp_path, caplog):
    path = write_glb(tmp_path / "a.gltf", uri="numbers.bin")
    assert "'numbers.bin' is missing" in refusal(path)
    assert not caplog.records


@pytest.mark.parametrize(
    "text, reason",
    [
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "cannot be read"),
        ("v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n", "NaN"),
        ("v 0 0 0\nv 1 x 0\nv 0 1 0\nf 1 2 3\n", "cannot be read"),
        ("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "no area"),
        ("# nothing\n", "no points"),
    ],
)
def test_meshes_that_have_no_surface_are_refused(tmp_path, text, reason):
    (tmp_path / "a.obj").write_text(text)
    assert reason in refusal(tmp_path / "a.obj")


HEAD = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("ply\n", "its header has no end"),
        ("ply\nformat ascii 1.0\nend_header\n", "x, y and z"),
        (HEAD + "property blob w\nend_header\n", "property blob w"),
        (HEAD.replace("format ascii 1.0\n", "") + "end_header\n", "no format"),
        (HEAD.replace("float x", "list uchar float x") + "end_header\n", "x, y and z"),
        (HEAD.replace("vertex 2", "vertex 0") + "end_header\n", "no points"),
        (HEAD.replace("vertex 2", "vertex 999999999999") + "end_header\n0 0 0\n", "truncated"),
        (HEAD + "end_header\n0 0 0\n1 1\n", "truncated"),
        (HEAD + "end_header\n0 0 0\n1 one 1\n", "not a number"),
        (HEAD + "end_header\n0 0 nan\n1 inf 1\n", "2 of 2 points cannot be drawn"),
        (HEAD + "end_header\n1 1 1\n1 1 1\n", "one place"),
        (
            HEAD + "property float red\nproperty float green\nproperty float blue\nend_header\n"
            "0 0 0 2000 0 0\n1 1 1 0 0 0\n",
            "2000",
        ),
        (
            HEAD + "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 1 1\n3 0 1 2\n",
            "vertex",
        ),
        (
            HEAD + "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 1 1\n-3 0 1\n",
            "damaged",
        ),
        (
            HEAD + "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 1 1\n9 0 1\n",
            "truncated",
        ),
    ],
)
def test_damaged_plys_are_refused_with_their_reason(tmp_path, text, reason):
    (tmp_path / "a.ply").write_text(text)
    assert reason in refusal(tmp_path / "a.ply")


def test_gaussians_that_are_all_faint_are_refused(tmp_path):
    assert "no points" in refusal(write_splats(tmp_path / "a.ply", [0.01, 0.02]))


def test_a_mesh_without_trimesh_names_the_command_and_a_cloud_needs_none(tmp_path, monkeypatch):
    path = write_textured_cube(tmp_path)
    monkeypatch.setitem(sys.modules, "trimesh", None)
    assert 'pip install "dreamsplat[mesh]"' in refusal(path, MissingDependency)
    cloud = write_ply(tmp_path / "a.ply", "<", cloud_columns("uchar", 255))
    assert len(sample(cloud)) == 3
    mesh = write_ply(tmp_path / "m.ply", "<", xyz_columns([(0, 0, 0), (1, 0, 0), (0, 1, 0)]), faces=[(0, 1, 2)])
    assert len(sample(mesh, count=10)) == 10


def test_what_a_gltf_requires_is_checked_before_torch_is_imported(tmp_path):
    path = write_glb(tmp_path / "a.glb")
    path.write_bytes(path.read_bytes().replace(b'"scene": 0', b'"extensionsRequired": ["X"], "scene": 0'))
    content = path.read_bytes()
    size = len(content) - 20 - 8 - 36
    head = struct.pack("<4sIII4s", b"glTF", 2, len(content), size, b"JSON")
    path.write_bytes(head + content[20:])
    program = f"""
import sys
from pathlib import Path
from dreamsplat.config import DreamConfig
from dreamsplat.errors import FileProblem
from dreamsplat.priors3d.from_file import FromFile
try:
    FromFile(Path({str(path)!r})).check(DreamConfig(prompt="a duck"))
except FileProblem as refused:
    assert "requires the extension 'X'" in str(refused), refused
    assert "torch" not in sys.modules
else:
    raise AssertionError("it was not refused")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_coordinates_that_are_not_finite_are_refused_in_one_line_and_no_other(tmp_path, suffix, recwarn):
    path = write_glb(tmp_path / "a.glb")
    if suffix == ".glb":
        content = bytearray(path.read_bytes())
        content[-36:-32] = b"\x01\x00\x80\x7f"  # a signalling NaN
        path.write_bytes(content)
    else:
        path = tmp_path / "a.obj"
        path.write_text("v inf 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert "NaN, infinite" in refusal(path)
    assert [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)] == []
