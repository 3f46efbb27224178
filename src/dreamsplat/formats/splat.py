"""The .splat file of web viewers (antimatter15/splat): 32 bytes per Gaussian, no header, no spherical harmonics.

| bytes | content | round-trip error |
|---|---|---|
| 0..11 | centre x y z, float32, world units | none |
| 12..23 | standard deviations, float32, world units | none |
| 24..27 | R G B A, 1/255: display colour of degree 0, opacity | 1/510; colours outside [0, 1] are clamped |
| 28..31 | quaternion w x y z as 128 + 128 q, rounded | 1/256 per component, under 1 degree of rotation |

Of the two quaternions of a rotation, the one whose largest component is negative is written: -1 has a code, +1 has
not, and some viewers do not normalise. Gaussians are ordered by volume times opacity, largest first, because viewers
show a file while it loads; ties keep their order. View-dependent colour is dropped, with a warning.

The file does not name its axes; ours have +z up and the front towards -y.
"""

import logging
from pathlib import Path

import numpy as np
import torch

from dreamsplat.files.atomic import read_bytes, refuse, replacing
from dreamsplat.maths.harmonics import rgb_to_sh, sh_to_rgb
from dreamsplat.types import Gaussians

_log = logging.getLogger(__name__)

_RECORD = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("quats", "u1", 4)])


def write(gaussians: Gaussians, path: Path) -> None:
    """Write Gaussians as .splat; the same Gaussians always give the same bytes.

    Raises:
        FileProblem: if the file cannot be written.
    """
    if gaussians.sh_degree:
        _log.warning(
            "%s: .splat holds no view-dependent colour; only degree 0 of %d is written. Use .ply or .spz to keep it.",
            path, gaussians.sh_degree,
        )  # fmt: skip
    means, scales, quats, opacities, rgb = (
        values.float().cpu().numpy()
        for values in (gaussians.means, gaussians.scales, gaussians.quats, gaussians.opacities,
                       sh_to_rgb(gaussians.sh[:, 0].float()))
    )  # fmt: skip
    table = np.empty(len(means), dtype=_RECORD)
    table["means"], table["scales"] = means, scales
    table["rgba"] = _to_bytes(255 * np.concatenate([rgb, opacities[:, None]], axis=1))
    table["quats"] = _to_bytes(128 + 128 * _largest_negative(quats))
    importance = scales.astype(np.float64).prod(axis=1) * opacities
    with replacing(path) as temporary:
        temporary.write_bytes(table[np.argsort(-importance, kind="stable")].tobytes())


def read(path: Path) -> Gaussians:
    """Read a .splat file: float32, on the CPU, degree 0. An empty file holds no Gaussians.

    Raises:
        FileProblem: if the file is missing, or its size is not a multiple of 32 bytes.
    """
    content = read_bytes(path)
    if len(content) % _RECORD.itemsize:
        refuse(path, f"{len(content)} bytes, expected a multiple of 32; it is truncated or not a .splat file")
    table = np.frombuffer(content, dtype=_RECORD)
    means, scales = table["means"].copy(), table["scales"].copy()
    quats = (table["quats"].astype(np.float32) - 128) / 128
    rgba = table["rgba"].astype(np.float32) / 255
    return Gaussians(
        means=torch.from_numpy(means),
        scales=torch.from_numpy(scales),
        quats=torch.from_numpy(quats),
        opacities=torch.from_numpy(rgba[:, 3].copy()),
        sh=rgb_to_sh(torch.from_numpy(rgba[:, None, :3].copy())),
    )


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return values.round().clip(0, 255).astype(np.uint8)


def _largest_negative(quats: np.ndarray) -> np.ndarray:
    """The rotations [N, 4] as unit quaternions [N, 4] whose component of largest magnitude is negative."""
    place = np.abs(quats).argmax(axis=1)[:, None]
    scaled = quats.astype(np.float64) / -np.take_along_axis(quats, place, axis=1)  # Works for tiny lengths, too.
    return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
