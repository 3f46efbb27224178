"""Meshes of Gaussians: a closed surface with a colour at each vertex, and the files that hold it."""

from dreamsplat.mesh.bake import BakeSettings
from dreamsplat.mesh.build import MeshSettings, mesh_of
from dreamsplat.mesh.files import MESH_WRITERS, write_glb, write_obj
from dreamsplat.mesh.surface import SurfaceSettings
from dreamsplat.mesh.triangles import Mesh

__all__ = [
    "MESH_WRITERS", "BakeSettings", "Mesh", "MeshSettings", "SurfaceSettings", "mesh_of", "write_glb", "write_obj"
]  # fmt: skip
