"""A Shap-E latent -> coloured points: the vertices of its marching-cubes mesh, or points drawn on its surface.

A latent holds weights of a small network over the box [-1, 1]^3, which answers with a signed distance (positive
inside) and a colour at any point. Jun & Nichol 2023, section 4.2 (the "STF" output heads).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dreamsplat.types import PointCloud

Field = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points [P, 3] -> signed distance [P], positive inside, and display colour [P, 3] in [0, 1]."""

_BLOCK = 65_536
"""Points that the network answers at a time; it bounds the memory and does not change the result."""
_HALVINGS = 14
"""Bisections of a segment inside one grid cell: at a grid of 128 the surface is met within 2e-6."""


def latent_field(
    renderer: Any,  # diffusers' ShapERenderer
    latent: Tensor,  # [T, D] tokens, any dtype
) -> Field:
    """The field that a latent encodes.

    `ShapERenderer.decode_to_mesh` would copy the weights into the renderer's network and leave them there; and its
    `decode_to_image` reseeds torch's global generator. Here the weights are lent to the network for each call, and
    nothing is drawn. Both lend attributes of one module, so two threads must not ask the same renderer at once.
    """
    with torch.no_grad():
        projected = renderer.params_proj(latent[None].float())
    weights = {name.removeprefix("nerstf."): weight[0] for name, weight in projected.items()}

    @torch.no_grad()
    def query(xyz: Tensor) -> tuple[Tensor, Tensor]:
        distances, colours = [], []
        for block in xyz.split(_BLOCK):
            arguments = {"position": block[None], "direction": None, "ts": None}
            modes = {"nerf_level": "fine", "rendering_mode": "stf"}
            answer = torch.func.functional_call(renderer.mlp, weights, kwargs=arguments | modes)
            distances.append(answer.signed_distance[0, :, 0])
            colours.append(answer.channels[0])
        return torch.cat(distances), torch.cat(colours)

    return query


def mesh_vertices(field: Field, grid: int, device: torch.device) -> PointCloud:
    """The vertices of the mesh that marching cubes makes of a field, coloured; none where it has no surface.

    Every edge of the grid whose ends lie on different sides holds exactly one vertex, by linear interpolation, so the
    vertices need no table of triangles. That matters: the table is missing from the safetensors files of openai/shap-e,
    and diffusers' own decoder then makes empty meshes. Vertices, their order and their colours are those of the
    official decoder, two habits of which are kept: a layer of "outside" around the grid closes the
    mesh, and the padded grid is then laid over the unpadded box, which shrinks the object by (grid - 1) / (grid + 1).
    """
    distance, _ = field(grid_points(grid, device))
    padded = F.pad(distance.reshape(grid, grid, grid), (1,) * 6, value=-1.0)
    vertices = []
    for axis in range(3):
        first, second = padded.narrow(axis, 0, grid + 1), padded.narrow(axis, 1, grid + 1)
        low = ((first > 0) != (second > 0)).nonzero()  # [E, 3] the edge's lower end, in grid steps
        s1, s2 = first[tuple(low.T)], second[tuple(low.T)]
        step = F.one_hot(torch.tensor(axis, device=device), 3)
        p1, p2 = (end / (grid + 1) * 2 - 1 for end in (low, low + step))
        t = (s1 / (s1 - s2))[:, None]
        vertices.append(t * p2 + (1 - t) * p1)
    xyz = torch.cat(vertices)
    return PointCloud(xyz, field(xyz)[1] if len(xyz) else xyz)


def surface_points(field: Field, grid: int, count: int, generator: torch.Generator, device: torch.device) -> PointCloud:
    """`count` coloured points on the zero level of a field, as near to uniform as its grid cells; or none at all.

    A cell that the surface crosses is chosen, and a point in it; the segment from there to a corner on the other side
    of the surface crosses it too, and is halved until both ends are there. Unlike Newton steps this cannot leave the
    cell, and needs no gradient, which vanishes where the network's tanh saturates.
    """
    points = grid_points(grid, device)
    inside = (field(points)[0] > 0).reshape(grid, grid, grid)
    corners = inside.unfold(0, 2, 1).unfold(1, 2, 1).unfold(2, 2, 1).reshape(-1, 8)
    crossed = (corners.any(dim=1) & ~corners.all(dim=1)).nonzero()[:, 0]  # [M] flat index of the cell
    if len(crossed) == 0:
        return PointCloud(points[:0], points[:0])

    # All draws are on the CPU, so that every device sees the same ones.
    cell = crossed[torch.randint(len(crossed), (count,), generator=generator).to(device)]  # [P]
    within = torch.rand((count, 3), generator=generator).to(device)
    preference = torch.rand((count, 8), generator=generator).to(device)

    edge = grid - 1
    index = torch.stack([cell // edge**2, cell // edge % edge, cell % edge], dim=1)  # [P, 3] the lowest corner
    start = (index + within) / edge * 2 - 1
    starts_inside = field(start)[0] > 0
    across = corners[cell] != starts_inside[:, None]  # [P, 8] at least one, since the cell has both kinds
    corner = torch.where(across, preference, -1.0).argmax(dim=1)
    offset = torch.stack([corner // 4, corner // 2 % 2, corner % 2], dim=1)
    end = (index + offset) / edge * 2 - 1
    for _ in range(_HALVINGS):
        middle = (start + end) / 2
        same = ((field(middle)[0] > 0) == starts_inside)[:, None]
        start, end = torch.where(same, middle, start), torch.where(same, end, middle)
    xyz = (start + end) / 2
    return PointCloud(xyz, field(xyz)[1])


def grid_points(grid: int, device: torch.device) -> Tensor:
    """The points [grid^3, 3] of a regular grid over [-1, 1]^3, z fastest."""
    axis = torch.arange(grid, device=device) / (grid - 1) * 2 - 1
    return torch.cartesian_prod(axis, axis, axis)
