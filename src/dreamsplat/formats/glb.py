"""Binary glTF with KHR_gaussian_splatting (ratified by Khronos in August 2026), the standard for splats in scenes.

One mesh with one primitive of mode POINTS; all attributes are float32 except the fallback:

| attribute | content |
|---|---|
| POSITION | centre |
| KHR_gaussian_splatting:ROTATION | quaternion x y z w, length 1 |
| KHR_gaussian_splatting:SCALE | standard deviations; drafts of the extension had their logarithms |
| KHR_gaussian_splatting:OPACITY | in [0, 1] |
| KHR_gaussian_splatting:SH_DEGREE_l_COEF_n | R G B of coefficient n of degree l; l = 0: colour = 0.5 + 0.28209479 c |
| COLOR_0 | uint16: the colour as linear light, as glTF requires, and the opacity |

Viewers without the extension show points with the colours of COLOR_0. The axes are those of glTF, +y up and front +z:
Gaussians are turned when written, coefficients included, and turned back when read. Nothing is quantised, so a round
trip changes only float32 rounding.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.assets.frame import Z_UP_TO_Y_UP, rotated
from dreamsplat.assets.gaussians import join
from dreamsplat.errors import FileProblem
from dreamsplat.files import gltf
from dreamsplat.files.checked_json import shown
from dreamsplat.files.gltf_extensions import check_required
from dreamsplat.formats import gltf_nodes, gltf_writer
from dreamsplat.maths.harmonics import sh_to_rgb
from dreamsplat.maths.srgb import srgb_to_linear
from dreamsplat.types import Gaussians

_EXTENSION = "KHR_gaussian_splatting"
_POINTS = 0
_UNIFORM = 1e-4  # How far a node's matrix may be from a rotation times a scale, relative to that scale.
_PARTS = 500  # Most meshes that a file's nodes may show in all; turning each takes milliseconds.
_SMALL_COUNT = 100_000  # Gaussians that a file of any size may show.
_MOST_EXPANSION = 4  # Larger files: their Gaussians may take this many times the bytes that attributes share.


def write(gaussians: Gaussians, path: Path) -> None:
    """Write Gaussians as a .glb; the same Gaussians always give the same bytes.

    Raises:
        FileProblem: if there are no Gaussians, which glTF cannot express, or the file cannot be written.
    """
    if len(gaussians) == 0:
        raise FileProblem(f"{path}: glTF cannot hold 0 Gaussians, expected at least 1.", advice="Save it as .ply.")
    turned = rotated(gaussians.to(device="cpu", dtype=torch.float32), Z_UP_TO_Y_UP)
    quats = torch.nn.functional.normalize(turned.quats, dim=-1)
    arrays = {
        "POSITION": turned.means,
        f"{_EXTENSION}:ROTATION": quats[:, [1, 2, 3, 0]],
        f"{_EXTENSION}:SCALE": turned.scales,
        f"{_EXTENSION}:OPACITY": turned.opacities[:, None],
    }
    arrays |= {name: turned.sh[:, k] for k, name in enumerate(_sh_names(gaussians.sh_degree))}
    stored: dict[str, NDArray[Any]] = {name: array.numpy() for name, array in arrays.items()}
    stored["COLOR_0"] = _fallback(turned)
    attributes = {name: index for index, name in enumerate(stored)}
    extension = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    primitive = {"attributes": attributes, "mode": _POINTS, "extensions": {_EXTENSION: extension}}
    document = {
        "asset": {"version": "2.0", "generator": "dreamsplat"},
        "extensionsUsed": [_EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
    }
    gltf_writer.write(path, document, [np.ascontiguousarray(array) for array in stored.values()])


def read(path: Path) -> Gaussians:
    """Read all Gaussians of a .glb's scene, each mesh moved, turned and scaled by its nodes: float32, on the CPU.

    Meshes without Gaussians are skipped.

    Raises:
        FileProblem: if the file is missing, damaged, holds no Gaussians, needs an unsupported feature (compression,
            linear colours, other kernels), or a node stretches or mirrors them.
    """
    glb = gltf.Glb.open(path)
    check_required(glb)
    parts = _parts(glb)
    if not parts:
        glb.refuse(f"no Gaussians: none of its meshes in the scene has {_EXTENSION}")
    known = {splats: _read_splats(glb, splats) for splats in dict.fromkeys(splats for splats, _ in parts)}
    return join(*(_placed(glb, known[splats], world) for splats, world in parts))


@dataclass(frozen=True)
class _Splats:
    """A primitive of Gaussians that has not been read yet; equal ones are read once."""

    accessors: tuple[tuple[int, int], ...]
    """Index and components of centres, rotations, scales, opacities and each coefficient."""
    count: int
    """Gaussians."""


def _parts(glb: gltf.Glb) -> list[tuple[_Splats, NDArray[np.float64]]]:
    """What the scene shows, each with its matrix [4, 4] to the world; refused if there is too much of it."""
    meshes: dict[int, list[_Splats]] = {}
    parts: list[tuple[_Splats, NDArray[np.float64]]] = []
    count, floats = 0, 0
    for _, mesh, world in gltf_nodes.instances(glb, gltf_nodes.nodes_of(glb)):
        if mesh not in meshes:
            meshes[mesh] = _splats_of(glb, mesh)
        for splats in meshes[mesh]:
            parts.append((splats, world))
            count, floats = count + splats.count, max(floats, sum(size for _, size in splats.accessors))
            most = _SMALL_COUNT + _MOST_EXPANSION * sum(map(len, glb.buffers.values())) // (4 * floats)
            if count > most or len(parts) > _PARTS:
                glb.refuse(
                    f"its nodes show more than {_PARTS} meshes or {most} Gaussians", "Join or drop some of them."
                )
    return parts


def _sh_names(degree: int) -> list[str]:
    return [f"{_EXTENSION}:SH_DEGREE_{d}_COEF_{n}" for d in range(degree + 1) for n in range(2 * d + 1)]


def _fallback(gaussians: Gaussians) -> NDArray[np.uint16]:
    """COLOR_0 [N, 4]: linear light, as glTF requires, and the opacity."""
    linear = srgb_to_linear(sh_to_rgb(gaussians.sh[:, 0]).clamp(0, 1))
    colours = torch.cat([linear, gaussians.opacities[:, None]], dim=1)
    return (colours * 65535).round().numpy().astype(np.uint16)


def _splats_of(glb: gltf.Glb, mesh: int) -> list[_Splats]:
    """The primitives of a mesh that hold Gaussians."""
    primitives = [glb.mapping(each, "a primitive") for each in glb.listing(glb.item("meshes", mesh), "primitives")]
    return [splats for each in primitives if (splats := _splats(glb, each)) is not None]


def _splats(glb: gltf.Glb, primitive: dict[str, Any]) -> _Splats | None:
    """The Gaussians of a primitive; None if it is of another kind."""
    extensions = glb.mapping(primitive.get("extensions", {}), "extensions")
    if _EXTENSION not in extensions:
        return None
    settings = glb.mapping(extensions[_EXTENSION], _EXTENSION)
    for name in glb.mapping(settings.get("extensions", {}), "extensions"):
        glb.refuse(f"its Gaussians use the extension {shown(name)}, which is not supported", "Save it without.")
    for key, wanted in (("kernel", "ellipse"), ("colorSpace", "srgb_rec709_display")):
        if settings.get(key) != wanted:
            glb.refuse(f"{_EXTENSION}: {key} {shown(settings.get(key))}, expected {wanted}", "Convert the file first.")
    if primitive.get("mode") != _POINTS or "indices" in primitive:
        glb.refuse(f"{_EXTENSION}: expected mode 0 (points) without indices", "Save it with another writer.")
    attributes = glb.mapping(primitive.get("attributes"), "attributes")
    degrees = [d for d in (1, 2, 3) if f"{_EXTENSION}:SH_DEGREE_{d}_COEF_0" in attributes]
    names = {
        "POSITION": 3,
        f"{_EXTENSION}:ROTATION": 4,
        f"{_EXTENSION}:SCALE": 3,
        f"{_EXTENSION}:OPACITY": 1,
        **dict.fromkeys(_sh_names(max(degrees, default=0)), 3),
    }
    if missing := [name for name in names if name not in attributes]:
        glb.refuse(f"its Gaussians lack {', '.join(missing[:3])}{' ...' if missing[3:] else ''}")
    accessors = tuple((attributes[name], size) for name, size in names.items())
    counts = [glb.count(index, size) for index, size in accessors]
    if len(set(counts)) != 1:
        glb.refuse("the attributes of its Gaussians differ in length; the file is damaged")
    return _Splats(accessors, counts[0])


def _read_splats(glb: gltf.Glb, splats: _Splats) -> Gaussians:
    """The Gaussians in their own axes."""
    means, quats, scales, opacities, *sh = (glb.accessor(index, size) for index, size in splats.accessors)
    if (scales < 0).any(axis=1).sum() > len(scales) // 2:
        glb.refuse("a SCALE is below 0, as in drafts of the extension", "Save it with a newer writer.")
    return Gaussians(
        means=torch.from_numpy(means),
        scales=torch.from_numpy(scales),
        quats=torch.from_numpy(quats[:, [3, 0, 1, 2]]),
        opacities=torch.from_numpy(opacities[:, 0]),
        sh=torch.from_numpy(np.stack(sh, axis=1)),
    )


def _placed(glb: gltf.Glb, gaussians: Gaussians, world: NDArray[np.float64]) -> Gaussians:
    """The Gaussians in our world, moved by a node's matrix [4, 4] to glTF's."""
    linear = torch.from_numpy(np.ascontiguousarray(world[:3, :3]))
    scale = float(torch.linalg.det(linear).abs() ** (1 / 3))
    square = linear @ linear.mT - scale**2 * torch.eye(3, dtype=torch.float64)
    if not scale > 0 or float(square.abs().max()) > _UNIFORM * scale**2 or torch.linalg.det(linear) < 0:
        glb.refuse(
            "a node stretches, mirrors or flattens its Gaussians", "Apply its transform before you save the file."
        )
    u, _, vh = torch.linalg.svd(linear / scale)  # The nearest rotation, since files hold float32.
    turned = rotated(gaussians, Z_UP_TO_Y_UP.mT @ u @ vh)
    shift = (Z_UP_TO_Y_UP.mT @ torch.from_numpy(np.ascontiguousarray(world[:3, 3]))).float()
    return replace(turned, means=turned.means * scale + shift, scales=turned.scales * scale)
