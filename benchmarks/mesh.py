"""How good meshes of assets are: closed, few triangles, and close to the pictures of the Gaussians themselves.

    python benchmarks/mesh.py ASSET.ply [ASSET.ply ...] [--texture 2048] [--sheet meshes.png]

Each asset is drawn from eight sides at 512 px, as Gaussians and as an unlit mesh, on white. One PSNR compares whole
pictures, where soft outlines become hard ones; the other only pixels at which both are opaque, so colours alone. The
sheet shows both pictures above the mesh's normals.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
import trimesh
import tyro
from PIL import Image
from torch import Tensor

from dreamsplat import load
from dreamsplat.mesh import Mesh, MeshSettings, mesh_of, vertex_normals
from dreamsplat.mesh.cameras import cameras_around
from dreamsplat.mesh.raster import covered_pixels
from dreamsplat.render import render
from dreamsplat.types import Cameras, Gaussians

_SIZE, _VIEWS = 512, 8
_COLUMNS = ("asset", "triangles", "parts", "cavities", "closed", "handles", "picture, dB", "colours, dB", "s", "CPU s")


@dataclass(frozen=True)
class Args:
    """Which assets are turned into meshes."""

    assets: tyro.conf.Positional[tuple[Path, ...]]
    """Files of Gaussians."""
    texture: int | None = None
    """Width and height of a texture, px."""
    triangles: int | None = 20_000
    """At most this many triangles."""
    sheet: Path | None = None
    """A picture to write."""


def main(args: Args) -> None:
    """Print a row for each asset."""
    print("| " + " | ".join(_COLUMNS) + " |\n" + "|---" * len(_COLUMNS) + "|")
    sheets: list[Tensor] = []
    for path in args.assets:
        gaussians = load(path)
        start, cpu = perf_counter(), process_time()
        mesh = mesh_of(gaussians, MeshSettings(triangles=args.triangles, texture=args.texture))
        seconds, cpu = perf_counter() - start, process_time() - cpu
        picture, colours, sheet = _compared(gaussians, mesh)
        sheets.append(sheet)
        numbers = " | ".join(f"{number:.1f}" for number in (picture, colours, seconds, cpu))
        print(f"| {path.stem} | {_shape(mesh)} | {numbers} |", flush=True)
    if args.sheet:
        Image.fromarray((255 * torch.cat(sheets).clamp(0, 1)).byte().numpy()).save(args.sheet)


def _shape(mesh: Mesh) -> str:
    """Triangles, parts, parts inside out, whether it is closed, and handles."""
    checked = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    parts = checked.split(only_watertight=False)
    cavities = sum(part.volume <= 0 for part in parts)
    handles = round(len(parts) - checked.euler_number / 2)
    return f"{len(mesh):,} | {len(parts)} | {cavities} | {checked.is_watertight} | {handles}"


def _compared(gaussians: Gaussians, mesh: Mesh) -> tuple[float, float, Tensor]:
    """PSNR of whole pictures and of opaque pixels, dB, and pictures [3 size, views size, 3] at half the size."""
    cameras = cameras_around(mesh.vertices, _VIEWS, _SIZE)
    with torch.no_grad():
        wanted = render(gaussians, cameras)
    drawn = [_drawn(mesh, cameras.rows(torch.tensor([view]))) for view in range(_VIEWS)]
    got, normals = (torch.stack(pictures) for pictures in zip(*drawn, strict=True))
    alpha = got[..., 3:]
    on_white = wanted.rgb + 1 - wanted.alpha[..., None]
    off = (got[..., :3] + 1 - alpha - on_white).square()
    opaque = (wanted.alpha >= 0.99) & (alpha[..., 0] == 1)
    rows = (on_white, got[..., :3] + 1 - alpha, normals[..., :3] + 1 - alpha)
    sheet = torch.cat([torch.cat(list(row), dim=1) for row in rows])[::2, ::2]
    return _psnr(off), _psnr(off[opaque]), sheet


def _psnr(squares: Tensor) -> float:
    return float(-10 * squares.mean().log10())


def _drawn(mesh: Mesh, camera: Cameras) -> tuple[Tensor, Tensor]:
    """Colours and normals [H, W, 4] of the nearest triangles, with alpha, drawn at twice the size."""
    size = 2 * _SIZE
    pose, focal = camera.world_to_camera[0], 2 * camera.intrinsics[0, 0, 0]
    seen = mesh.vertices @ pose[:3, :3].T + pose[:3, 3]
    pixels = seen[:, :2] / seen[:, 2:] * focal + size / 2
    pixel, triangle, weights = covered_pixels(pixels[mesh.faces], size, size)
    weights = weights.float() / seen[mesh.faces[triangle], 2]  # Straight in space, not on the screen.
    depth = 1 / weights.sum(dim=1)
    weights = weights * depth[:, None]
    order = torch.from_numpy(np.lexsort([depth.numpy(), pixel.numpy()]))
    pixel, first = np.unique(pixel[order].numpy(), return_index=True)
    triangle, weights = triangle[order[first]], weights[order[first]]
    normals = vertex_normals(mesh.vertices, mesh.faces)[mesh.faces[triangle]]
    pictures = []
    for values in (_colours(mesh, triangle, weights), 0.5 + 0.5 * (normals * weights[..., None]).sum(dim=1)):
        picture = torch.zeros(size * size, 4)
        picture[torch.from_numpy(pixel)] = torch.nn.functional.pad(values, (0, 1), value=1.0)
        pictures.append(picture.reshape(_SIZE, 2, _SIZE, 2, 4).mean(dim=(1, 3)))
    return pictures[0], pictures[1]


def _colours(mesh: Mesh, triangle: Tensor, weights: Tensor) -> Tensor:
    """Colours [M, 3] at points of triangles."""
    if mesh.texture is None:
        return (mesh.rgb[mesh.faces[triangle]] * weights[..., None]).sum(dim=1)
    uv = (mesh.texture.uv[mesh.texture.faces[triangle]] * weights[..., None]).sum(dim=1)
    grid = (uv * 2 - 1) * torch.tensor([1.0, -1.0])
    picture = mesh.texture.rgb.permute(2, 0, 1)[None].float() / 255
    return torch.nn.functional.grid_sample(picture, grid[None, None], align_corners=False)[0, :, 0].T


if __name__ == "__main__":
    main(tyro.cli(Args))
