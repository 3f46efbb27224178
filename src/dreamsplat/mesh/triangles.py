"""Triangle meshes with a colour at each vertex."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dreamsplat.types import check_shapes


@dataclass(frozen=True)
class Texture:
    """A picture that is laid over a mesh."""

    uv: Tensor
    """[T, 2] places on it, 0 to 1, v from below."""
    faces: Tensor
    """[F, 3] rows of `uv`: the places of each triangle's corners; int64."""
    rgb: Tensor
    """[H, W, 3] display colours, uint8, first row on top."""

    def __post_init__(self) -> None:
        """Check shapes."""
        check_shapes(uv=(self.uv, "T 2"), faces=(self.faces, "F 3"), rgb=(self.rgb, "H W 3"))


@dataclass(frozen=True)
class Mesh:
    """F triangles between V coloured vertices, in our world: +z up, the front towards -y."""

    vertices: Tensor
    """[V, 3] positions, world units."""
    faces: Tensor
    """[F, 3] rows of `vertices`, counter-clockwise as seen from outside; int64."""
    rgb: Tensor
    """[V, 3] display colours, in [0, 1]."""
    texture: Texture | None = None
    """What to show instead of the colours of the vertices."""

    def __post_init__(self) -> None:
        check_shapes(vertices=(self.vertices, "V 3"), faces=(self.faces, "F 3"), rgb=(self.rgb, "V 3"))

    def __len__(self) -> int:
        """The number of triangles F."""
        return self.faces.shape[0]


def vertex_normals(
    vertices: Tensor,  # [V, 3]
    faces: Tensor,  # [F, 3]
) -> Tensor:
    """Outward normals [V, 3] of length 1: the mean over the triangles around each vertex, weighted by area.

    A vertex without triangles, or whose triangles have no area, gets the normal +z.
    """
    a, b, c = vertices[faces].unbind(dim=1)
    across = torch.linalg.cross(b - a, c - a)  # twice the area long
    sums = torch.zeros_like(vertices).index_add(0, faces.flatten(), across.repeat_interleave(3, dim=0))
    flat = sums.norm(dim=1, keepdim=True) <= torch.finfo(sums.dtype).tiny
    return normalize(torch.where(flat, sums.new_tensor([0.0, 0.0, 1.0]), sums), dim=1, eps=0)
