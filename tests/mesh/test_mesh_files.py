"""Mesh files, against independent readers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from peers import needs_peers, node
from skins import BLUE, COARSE, RED

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.mesh import Mesh, mesh_of, write_glb, write_obj, write_stl
from dreamsplat.mesh.triangles import vertex_normals
from dreamsplat.priors3d.from_file import FromFile

Y_UP = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:trimesh")
@pytest.mark.parametrize(("suffix", "write"), [(".glb", write_glb), (".obj", write_obj)])
def test_another_reader_finds_the_mesh_y_up_with_its_colours(tmp_path, mesh, suffix, write):
    trimesh = pytest.importorskip("trimesh")
    write(mesh, tmp_path / f"a{suffix}")
    scene = trimesh.load(tmp_path / f"a{suffix}", force="scene", process=False, maintain_order=True)
    (read,) = scene.geometry.values()
    np.testing.assert_allclose(read.vertices, mesh.vertices @ Y_UP.T, rtol=2e-6, atol=2e-6)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    np.testing.assert_allclose(
        read.vertex_normals, vertex_normals(mesh.vertices, mesh.faces) @ Y_UP.T, atol=0.02
    )  # It weights by angle.
    assert read.is_watertight and read.volume > 0
    if suffix == ".glb":  # Linear light: half of the display range is a fifth of the light.
        expected = torch.where(mesh.rgb <= 0.04045, mesh.rgb / 12.92, ((mesh.rgb + 0.055) / 1.055) ** 2.4)
    else:
        expected = mesh.rgb
    colours = read.visual.vertex_attributes["color"] if suffix == ".glb" else read.visual.vertex_colors
    scale = np.iinfo(colours.dtype).max
    np.testing.assert_allclose(colours[:, :3] / scale, expected, atol=0.6 / min(scale, 10_000))


@pytest.mark.parametrize(("suffix", "write"), [(".glb", write_glb), (".obj", write_obj)])
def test_a_mesh_comes_back_as_a_start_where_it_was_and_in_its_colours(tmp_path, mesh, suffix, write):
    pytest.importorskip("trimesh")
    write(mesh, tmp_path / f"a{suffix}")
    spec = FromFile(tmp_path / f"a{suffix}", count=500, centre=False, size=None)
    cloud = spec.load(torch.device("cpu")).sample("", torch.Generator().manual_seed(0))
    distances, nearest = torch.cdist(cloud.xyz, mesh.vertices).min(dim=1)
    assert float(distances.max()) < 0.05
    # Between two vertices of different colours the blend is another one, so most points only.
    assert float((cloud.rgb - mesh.rgb[nearest]).abs().amax(dim=1).quantile(0.9)) < 0.01


@pytest.fixture(scope="module")
def painted(halves) -> Mesh:
    """The same sphere in few triangles with a texture."""
    pytest.importorskip("xatlas", reason="xatlas is not installed")
    return mesh_of(halves, replace(COARSE, triangles=1000, texture=128))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:trimesh")
@pytest.mark.parametrize(("suffix", "write"), [(".glb", write_glb), (".obj", write_obj)])
def test_another_reader_finds_the_texture_at_its_place(tmp_path, painted, suffix, write):
    trimesh = pytest.importorskip("trimesh")
    write(painted, tmp_path / f"two halves{suffix}")
    (read,) = trimesh.load(tmp_path / f"two halves{suffix}", force="scene").geometry.values()
    assert len(read.faces) == len(painted)
    material = read.visual.material
    picture = material.baseColorTexture if suffix == ".glb" else material.image
    assert np.array_equal(np.asarray(picture.convert("RGB")), painted.texture.rgb.numpy())
    # The colours of the corners, as that reader looks them up, are those of the half they are in.
    colours = material.to_color(read.visual.uv)[:, :3] / 255.0
    left = read.vertices[:, 0] < -0.15
    right = read.vertices[:, 0] > 0.15
    np.testing.assert_allclose(colours[left], np.broadcast_to(RED, (left.sum(), 3)), atol=0.04)
    np.testing.assert_allclose(colours[right], np.broadcast_to(BLUE, (right.sum(), 3)), atol=0.04)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:trimesh")
def test_a_printer_gets_the_shape_with_z_up(tmp_path, mesh):
    trimesh = pytest.importorskip("trimesh")
    write_stl(mesh, tmp_path / "a.stl")
    read = trimesh.load(tmp_path / "a.stl", force="mesh")
    assert read.is_watertight and len(read.faces) == len(mesh)
    np.testing.assert_allclose(read.triangles, mesh.vertices[mesh.faces], atol=1e-6)
    assert read.volume > 0
    outward = torch.nn.functional.normalize(mesh.vertices[mesh.faces].mean(dim=1), dim=1)
    stored = np.frombuffer((tmp_path / "a.stl").read_bytes()[84:], np.uint8).reshape(-1, 50)[:, :12].copy().view("<f4")
    assert float((torch.from_numpy(stored) * outward).sum(dim=1).min()) > 0.8


def test_the_front_faces_plus_z_in_the_file(tmp_path):
    front = Mesh(torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), torch.tensor([[0, 1, 2]]), torch.ones(3, 3))
    write_obj(front, tmp_path / "a.obj")
    lines = (tmp_path / "a.obj").read_text().splitlines()
    assert [line.split()[1:4] for line in lines if line.startswith("v ")] == [
        ["0", "0", "1"], ["1", "0", "0"], ["0", "1", "0"]
    ]  # fmt: skip
    assert lines[-1] == "f 1//1 2//2 3//3"


@needs_peers
@pytest.mark.parametrize("kind", ["mesh", "painted"])
def test_the_validator_of_gltf_finds_nothing(tmp_path, request, kind):
    mesh = request.getfixturevalue(kind)
    write_glb(mesh, tmp_path / "a.glb")
    script = """
        import { readFileSync } from "node:fs";
        import { validateBytes } from "gltf-validator";
        const report = await validateBytes(new Uint8Array(readFileSync(process.argv[1])));
        console.log(JSON.stringify({ ...report.issues, triangles: report.info.totalTriangleCount }));
    """
    issues = json.loads(node(script, tmp_path / "a.glb"))
    assert issues["messages"] == [] and issues["triangles"] == len(mesh)


@pytest.mark.parametrize("write", [write_glb, write_obj, write_stl])
def test_the_same_mesh_gives_the_same_bytes_and_a_missing_folder_is_named(tmp_path, mesh, write):
    write(mesh, tmp_path / "a")
    write(mesh, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(FileProblem, match="cannot be written"):
        write(mesh, tmp_path / "none" / "a")


def test_a_mesh_without_triangles_is_not_written_as_glb(tmp_path):
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3))
    with pytest.raises(InvalidInput, match="without triangles"):
        write_glb(empty, tmp_path / "a.glb")
    with pytest.raises(InvalidInput, match="shape"):
        Mesh(torch.zeros(1, 3), torch.zeros(0, 3, dtype=torch.int64), torch.zeros(2, 3))
