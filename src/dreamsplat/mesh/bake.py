"""Colours for the vertices of a surface, taken from renderings of the Gaussians from all around.

A camera's weight for a vertex grows with how squarely it sees it, and is 0 unless the vertex lies at the rendered
depth: behind that it is hidden. Vertices that no camera sees get the mean colour of nearby Gaussians.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d, normalize

from dreamsplat.maths.harmonics import sh_to_rgb
from dreamsplat.maths.neighbours import nearest_neighbours
from dreamsplat.maths.rotations import rotation_from_quats
from dreamsplat.mesh.cameras import cameras_around
from dreamsplat.mesh.settings import BakeSettings
from dreamsplat.render import render
from dreamsplat.types import Gaussians, Rendering

_CHUNK = 4  # Cameras rendered at a time.
_RIM = 1 / 128  # Of a picture's width: how far past an occluder's edge a vertex still counts as seen.
_SKIN = 1 / 32  # Of the object's size: how far the rendered depth of a soft surface may be off.
_NEIGHBOURS = 8  # Gaussians that colour a vertex which no camera sees.
_SEEN = 1e-3  # Weight above which only cameras count: one that sees the vertex at a slant of 80 degrees.


def bake_colours(
    gaussians: Gaussians,
    vertices: Tensor,  # [V, 3] world
    normals: Tensor,  # [V, 3]
    settings: BakeSettings,
) -> Tensor:
    """Display colours [V, 3] in [0, 1].

    Args:
        gaussians: The object, float32, on the device that renders.
        vertices: Points on its surface.
        normals: Outward, of length 1.
        settings: Of the renderings.
    """
    device = gaussians.means.device
    cameras = cameras_around(vertices, settings.views, settings.size)
    skin = _SKIN * float((vertices.amax(dim=0) - vertices.amin(dim=0)).max())
    colours, weights = torch.zeros_like(vertices), torch.zeros_like(vertices[:, :1])
    for start in range(0, settings.views, _CHUNK):
        part = cameras.rows(torch.arange(start, min(start + _CHUNK, settings.views)))
        with torch.no_grad():
            pictures = _pictures(render(gaussians, part.to(device)).to("cpu"))
        for pose, intrinsics, picture in zip(part.world_to_camera, part.intrinsics, pictures, strict=True):
            positions = vertices @ pose[:3, :3].T + pose[:3, 3]
            place = positions[:, :2] / positions[:, 2:] * (intrinsics[0, 0] / (settings.size / 2))  # [-1, 1]
            sampled = grid_sample(picture[None], place[None, None], align_corners=False)[0, :, 0].T  # [V, 5]
            colour, near, far = sampled.split([3, 1, 1], dim=1)
            off = torch.maximum(positions[:, 2:] - near, far - positions[:, 2:]) / skin
            facing = -(normals @ pose[:3, :3].T * normalize(positions, dim=1)).sum(dim=1, keepdim=True)
            weight = facing.clamp(min=0) ** settings.sharpness * torch.exp(-0.5 * off**2)
            colours += weight * colour
            weights += weight
    unseen = weights[:, 0] < _SEEN
    colours = colours / weights.clamp(min=_SEEN)
    if bool(unseen.any()):
        colours[unseen] = _colours_beside(gaussians.to("cpu"), vertices[unseen])
    return colours.clamp(0, 1)


def _pictures(seen: Rendering) -> Tensor:
    """For each camera [C, 5, H, W]: the colour without background, and the least and greatest depth nearby.

    Where there is no object the depth is 0, in front of everything, so that a vertex near an outline, where a pixel
    mixes several surfaces, agrees with neither depth.
    """
    alpha = seen.alpha[:, None]
    there = alpha >= 0.5
    depth = torch.where(there, seen.depth[:, None] / alpha, 0)
    rgb = torch.where(there, seen.rgb.permute(0, 3, 1, 2) / alpha, 0)
    rim = max(1, round(_RIM * depth.shape[-1]))
    near, far = (sign * max_pool2d(sign * depth, 2 * rim + 1, stride=1, padding=rim) for sign in (-1, 1))
    return torch.cat([rgb, near, far], dim=1)


def _colours_beside(
    gaussians: Gaussians,
    points: Tensor,  # [M, 3]
) -> Tensor:
    """Mean colours [M, 3] over all directions of the nearest Gaussians, weighted by their density at the points."""
    count = min(_NEIGHBOURS, len(gaussians))
    _, near = nearest_neighbours(gaussians.means, points, count)  # [M, k]
    offset = points[:, None] - gaussians.means[near]
    own = torch.einsum("mkij,mki->mkj", rotation_from_quats(gaussians.quats)[near], offset)
    opacities = gaussians.opacities[near].clamp(min=1e-6)  # So that there is a colour even where all are invisible.
    log_density = opacities.log() - 0.5 * ((own / gaussians.scales[near]) ** 2).sum(dim=2)
    return (log_density.softmax(dim=1)[..., None] * sh_to_rgb(gaussians.sh[near, 0])).sum(dim=1)
