"""Gaussians to a coloured mesh, for programs that only support triangles."""

import torch

from dreamsplat.mesh.bake import bake_colours
from dreamsplat.mesh.settings import MeshSettings
from dreamsplat.mesh.simplify import simplified
from dreamsplat.mesh.surface import extract_surface
from dreamsplat.mesh.texture import textured
from dreamsplat.mesh.triangles import Mesh, vertex_normals
from dreamsplat.types import Gaussians


def mesh_of(gaussians: Gaussians, settings: MeshSettings | None = None) -> Mesh:
    """A closed triangle mesh of an object, in the colours of its Gaussians: float32, on the CPU.

    The same Gaussians always give the same mesh. Colours are rendered on the device of the Gaussians.

    Raises:
        InvalidInput: if the Gaussians are nowhere dense enough for a surface.
        MissingDependency: without scikit-image, fast-simplification or, for a texture, xatlas.
    """
    settings = settings or MeshSettings()
    gaussians = gaussians.detach().to(torch.float32)
    surface, triangles = extract_surface(gaussians, settings.surface)
    if settings.triangles is not None:
        surface, triangles = simplified(surface, triangles, settings.triangles)
    vertices, faces = torch.from_numpy(surface).float(), torch.from_numpy(triangles)
    rgb = bake_colours(gaussians, vertices, vertex_normals(vertices, faces), settings.bake)
    mesh = Mesh(vertices, faces, rgb)
    return mesh if settings.texture is None else textured(mesh, gaussians, settings.texture, settings.bake)
