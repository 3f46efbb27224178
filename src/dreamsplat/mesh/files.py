"""Mesh files: binary glTF 2.0 (.glb) and Wavefront .obj, both with +y up and the front towards +z.

| | .glb | .obj |
|---|---|---|
| colours | COLOR_0, 16 bits, linear as the standard says | after each position, `v x y z r g b`, display values |
| normals | NORMAL | `vn`, one for each vertex |
| material | not metallic, rough, so that only the viewer's light changes the colours | none |
"""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreamsplat.assets.frame import Z_UP_TO_Y_UP
from dreamsplat.errors import InvalidInput
from dreamsplat.files.atomic import replacing
from dreamsplat.formats import gltf_writer
from dreamsplat.maths.srgb import srgb_to_linear
from dreamsplat.mesh.triangles import Mesh, vertex_normals


def write_glb(mesh: Mesh, path: Path) -> None:
    """Write a mesh as binary glTF 2.0; the same mesh always gives the same bytes.

    Raises:
        InvalidInput: if the mesh has no triangles, which glTF cannot express.
        FileProblem: if the file cannot be written.
    """
    if len(mesh) == 0:
        raise InvalidInput(f"{path}: a .glb cannot hold a mesh without triangles.")
    positions, normals = _y_up(mesh)
    linear = srgb_to_linear(mesh.rgb.double().clamp(0, 1).cpu()).numpy()
    colours = np.full((len(linear), 4), 65535, "<u2")  # With alpha, because rows must have a multiple of 4 bytes.
    colours[:, :3] = np.rint(65535 * linear)
    indices = mesh.faces.cpu().numpy().astype("<u4").reshape(-1, 1)
    primitive = {"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3, "material": 0}
    document = {
        "asset": {"version": "2.0", "generator": "dreamsplat"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 1}}],
    }
    gltf_writer.write(path, document, [positions, normals, colours, indices])


def write_obj(mesh: Mesh, path: Path) -> None:
    """Write a mesh as Wavefront .obj with the colour after each position, as MeshLab and Blender read it.

    Raises:
        FileProblem: if the file cannot be written.
    """
    positions, normals = _y_up(mesh)
    text = StringIO()
    text.write("# dreamsplat: +y up, the front towards +z; v x y z r g b\n")
    np.savetxt(text, np.hstack([positions, mesh.rgb.cpu().numpy()]), fmt="v %.6g %.6g %.6g %.4f %.4f %.4f")
    np.savetxt(text, normals, fmt="vn %.4f %.4f %.4f")
    np.savetxt(text, np.repeat(mesh.faces.cpu().numpy() + 1, 2, axis=1), fmt="f %d//%d %d//%d %d//%d")
    with replacing(path) as temporary:
        temporary.write_bytes(text.getvalue().encode("ascii"))


MESH_WRITERS: dict[str, Callable[[Mesh, Path], None]] = {".glb": write_glb, ".obj": write_obj}
"""Suffix, in lower case and with its dot -> function that writes such a file."""


def _y_up(mesh: Mesh) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Positions and normals [V, 3] in the axes of the files."""
    vertices = mesh.vertices.double().cpu() @ Z_UP_TO_Y_UP.T
    normals = vertex_normals(vertices, mesh.faces.cpu())
    return vertices.numpy().astype("<f4"), normals.numpy().astype("<f4")
