"""A texture for a mesh: xatlas lays its triangles out on a square, and each texel is baked as a vertex would be."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import normalize

from dreamsplat.errors import MissingDependency
from dreamsplat.mesh.bake import bake_colours
from dreamsplat.mesh.raster import covered_pixels
from dreamsplat.mesh.settings import BakeSettings
from dreamsplat.mesh.triangles import Mesh, Texture, vertex_normals
from dreamsplat.types import Gaussians

_PADDING_PX = 4  # Between the islands of the layout, so that filtering does not mix them.


def textured(mesh: Mesh, gaussians: Gaussians, size: int, settings: BakeSettings) -> Mesh:
    """The mesh with a texture of `size` px.

    Raises:
        MissingDependency: without xatlas.
    """
    try:
        import xatlas
    except ImportError as error:
        raise MissingDependency("A texture needs xatlas.", advice='Run pip install "dreamsplat[mesh]".') from error
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32))
    options = xatlas.PackOptions()
    options.padding, options.resolution, options.bilinear = _PADDING_PX, size, True
    atlas.generate(pack_options=options)
    _, corners, uv = atlas[0]
    faces, places = torch.from_numpy(corners.astype(np.int64)), torch.from_numpy(uv).float()
    picture = _baked(mesh, places[faces], gaussians, size, settings)
    return replace(mesh, texture=Texture(places, faces, picture))


def _baked(
    mesh: Mesh,
    corners: Tensor,  # [F, 3, 2] (u, v)
    gaussians: Gaussians,
    size: int,
    settings: BakeSettings,
) -> Tensor:
    """The texture [size, size, 3], uint8, first row on top."""
    from_top = corners * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])
    texel, triangle, weights = covered_pixels(from_top * size, size, size)
    texel, first = np.unique(texel.numpy(), return_index=True)
    triangle, weights = triangle[first], weights[first].float()
    around = mesh.faces[triangle]
    normals = vertex_normals(mesh.vertices, mesh.faces)
    points = (mesh.vertices[around] * weights[..., None]).sum(dim=1)
    outward = normalize((normals[around] * weights[..., None]).sum(dim=1), dim=1)
    picture = np.zeros((size * size, 3), np.uint8)
    picture[texel] = (255 * bake_colours(gaussians, points, outward, settings)).round().byte().numpy()
    # Texels between the islands take the colour of the nearest one, so that no seam shows.
    filled = np.zeros(size * size, bool)
    filled[texel] = True
    empty = ~filled.reshape(size, size)
    nearest: Any = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
    return torch.from_numpy(picture.reshape(size, size, 3)[tuple(nearest)])
