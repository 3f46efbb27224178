from .build import mesh_of
from .files import MESH_WRITERS, write_glb, write_obj, write_stl
from .read import read_mesh
from .sample import Patch, Surface, sample_surface
from .settings import BakeSettings, MeshSettings, SurfaceSettings
from .triangles import Mesh, Texture, vertex_normals

__all__ = [
    "MESH_WRITERS",
    "BakeSettings",
    "Mesh",
    "MeshSettings",
    "Patch",
    "Surface",
    "SurfaceSettings",
    "Texture",
    "mesh_of",
    "read_mesh",
    "sample_surface",
    "vertex_normals",
    "write_glb",
    "write_obj",
    "write_stl",
]
