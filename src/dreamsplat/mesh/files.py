"""Mesh files: binary glTF 2.0 (.glb), Wavefront .obj and, without colours, .stl.

| | .glb | .obj | .stl |
|---|---|---|---|
| axes | +y up, the front towards +z | the same | +z up, as programs for 3D printers expect |
| colours of vertices | COLOR_0, 16 bits, linear as the standard says | `v x y z r g b`, display values | none |
| texture | base colour, within the file | an .mtl and a .png beside it | none |
| normals | NORMAL | `vn`, one for each vertex | of triangles |
| material | not metallic, rough, so that only the viewer's light changes the colours | the same | none |
"""

from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dreamsplat.assets.frame import Z_UP_TO_Y_UP
from dreamsplat.errors import InvalidInput
from dreamsplat.files.atomic import replacing
from dreamsplat.formats import gltf_writer
from dreamsplat.maths.srgb import srgb_to_linear
from dreamsplat.mesh.companions import obj_companions
from dreamsplat.mesh.triangles import Mesh, Texture, vertex_normals

_LINEAR, _LINEAR_MIPMAP, _CLAMP = 9729, 9987, 33071


def write_glb(mesh: Mesh, path: Path) -> None:
    """Write a mesh as binary glTF 2.0; the same mesh always gives the same bytes.

    Raises:
        InvalidInput: if the mesh has no triangles, which glTF cannot express.
        FileProblem: if the file cannot be written.
    """
    if len(mesh) == 0:
        raise InvalidInput(f"{path}: a .glb cannot hold a mesh without triangles.")
    positions, normals = _y_up(mesh)
    faces = mesh.faces.cpu().numpy()
    material: dict[str, Any] = {"metallicFactor": 0, "roughnessFactor": 1}
    attributes = {"POSITION": 0, "NORMAL": 1}
    primitive = {"attributes": attributes, "indices": 3, "material": 0}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "dreamsplat"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"pbrMetallicRoughness": material}],
    }
    if mesh.texture is None:
        attributes["COLOR_0"] = 2
        third, png = _linear16(mesh), None
    else:
        # glTF has one index for position and place on the texture: each pair that occurs is a vertex.
        corners = np.stack([faces.ravel(), mesh.texture.faces.cpu().numpy().ravel()], axis=1)
        pairs, numbered = np.unique(corners, axis=0, return_inverse=True)
        faces, positions, normals = numbered.reshape(-1, 3), positions[pairs[:, 0]], normals[pairs[:, 0]]
        third = (mesh.texture.uv.cpu().numpy()[pairs[:, 1]] * [1, -1] + [0, 1]).astype("<f4")  # v from above
        png = _png(mesh.texture)
        attributes["TEXCOORD_0"] = 2
        material["baseColorTexture"] = {"index": 0}
        clamped = {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP, "wrapS": _CLAMP, "wrapT": _CLAMP}
        document |= {"textures": [{"source": 0, "sampler": 0}], "samplers": [clamped]}
    gltf_writer.write(path, document, [positions, normals, third, faces.astype("<u4").reshape(-1, 1)], png)


def write_obj(mesh: Mesh, path: Path) -> None:
    """Write a mesh as Wavefront .obj: coloured vertices as MeshLab and Blender read them, or an .mtl and a .png too.

    Raises:
        FileProblem: if a file cannot be written.
    """
    positions, normals = _y_up(mesh)
    faces = mesh.faces.cpu().numpy() + 1
    text = StringIO()
    if mesh.texture is None:
        text.write("# dreamsplat: +y up, the front towards +z; v x y z r g b\n")
        np.savetxt(text, np.hstack([positions, mesh.rgb.cpu().numpy()]), fmt="v %.6g %.6g %.6g %.4f %.4f %.4f")
        corners, face = np.repeat(faces, 2, axis=1), "f %d//%d %d//%d %d//%d"
    else:
        library, picture = obj_companions(path)
        text.write(f"# dreamsplat: +y up, the front towards +z\nmtllib {library.name}\nusemtl asset\n")
        np.savetxt(text, positions, fmt="v %.6g %.6g %.6g")
        np.savetxt(text, mesh.texture.uv.cpu().numpy(), fmt="vt %.6f %.6f")
        corners = np.stack([faces, mesh.texture.faces.cpu().numpy() + 1, faces], axis=2).reshape(-1, 9)
        face = "f %d/%d/%d %d/%d/%d %d/%d/%d"
        _write(picture, _png(mesh.texture))
        _write(library, f"newmtl asset\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {picture.name}\nPm 0\nPr 1\n".encode())
    np.savetxt(text, normals, fmt="vn %.4f %.4f %.4f")
    np.savetxt(text, corners, fmt=face)
    _write(path, text.getvalue().encode())


def write_stl(mesh: Mesh, path: Path) -> None:
    """Write the shape of a mesh as binary .stl, z up.

    Raises:
        FileProblem: if the file cannot be written.
    """
    corners = mesh.vertices.float().cpu()[mesh.faces.cpu()]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    rows = np.zeros(len(mesh), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
    rows["normal"] = torch.nn.functional.normalize(normals, dim=1).numpy()
    rows["corners"] = corners.numpy()
    _write(path, b"dreamsplat".ljust(80) + np.uint32(len(mesh)).tobytes() + rows.tobytes())


MESH_WRITERS: dict[str, Callable[[Mesh, Path], None]] = {".glb": write_glb, ".obj": write_obj, ".stl": write_stl}
"""Suffix, in lower case and with its dot -> function that writes such a file."""


def _y_up(mesh: Mesh) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Positions and normals [V, 3] in the axes of .glb and .obj."""
    vertices = mesh.vertices.double().cpu() @ Z_UP_TO_Y_UP.T
    normals = vertex_normals(vertices, mesh.faces.cpu())
    return vertices.numpy().astype("<f4"), normals.numpy().astype("<f4")


def _linear16(mesh: Mesh) -> NDArray[np.uint16]:
    """Linear colours [V, 4], 16 bits; with alpha, because rows must have a multiple of 4 bytes."""
    linear = srgb_to_linear(mesh.rgb.double().clamp(0, 1).cpu()).numpy()
    colours = np.full((len(linear), 4), 65535, "<u2")
    colours[:, :3] = np.rint(65535 * linear)
    return colours


def _png(texture: Texture) -> bytes:
    stream = BytesIO()
    Image.fromarray(texture.rgb.cpu().numpy()).save(stream, "png")
    return stream.getvalue()


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
