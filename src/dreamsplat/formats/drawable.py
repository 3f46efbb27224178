"""One rule for rows that cannot be drawn, whatever file they come from: what can be drawn is kept."""

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dreamsplat.assets.gaussians import Splats, rows
from dreamsplat.errors import FileProblem
from dreamsplat.types import Gaussians, PointCloud

LEAST_SHARE = 0.1
"""A file of which less than this share can be drawn is damaged as a whole."""
SMALLEST_SCALE = float(torch.finfo(torch.float32).tiny)
"""What a scale of 0, or one whose logarithm is -inf, is raised to."""

_log = logging.getLogger(__name__)


def drawable(path: Path, gaussians: Gaussians, strict: bool = False) -> Gaussians:
    """The Gaussians of a file that can be drawn, with quaternions of length 1 and scales above 0.

    Dropped are those with a centre, scale, rotation, opacity or colour that is NaN or infinite, a scale below 0, or a
    rotation 0 0 0 0. A scale of 0 is kept, as the smallest normal float32; an opacity beyond [0, 1] is cut to it.

    Args:
        path: The file, for messages.
        gaussians: N of them as read, quaternions of any length.
        strict: Refuse the file instead of dropping anything.

    Raises:
        FileProblem: if anything would be dropped and `strict`, or little would be left.
    """
    lengths = gaussians.quats.double().norm(dim=1)
    words = zip(("centre", "scale", "rotation", "opacity", "colour"), gaussians.tensors().values(), strict=True)
    reasons = {f"NaN or infinite {word}": _not_finite(values) for word, values in words}
    reasons |= {"scale below 0": (gaussians.scales < 0).any(dim=1), "rotation 0 0 0 0": lengths == 0}
    kept = _kept(path, "Gaussians", gaussians, reasons, strict)
    quats = kept.quats / kept.quats.double().norm(dim=1, keepdim=True)
    return replace(
        kept,
        scales=kept.scales.clamp_min(SMALLEST_SCALE),
        quats=quats.to(kept.quats.dtype),
        opacities=kept.opacities.clamp(0, 1),
    )


def drawable_points(path: Path, cloud: PointCloud, strict: bool = False) -> PointCloud:
    """The points of a file whose position and colour are finite; see `drawable`."""
    reasons = {"NaN or infinite position": _not_finite(cloud.xyz), "NaN or infinite colour": _not_finite(cloud.rgb)}
    return _kept(path, "points", cloud, reasons, strict)


def _kept(path: Path, what: str, values: Splats, reasons: dict[str, Tensor], strict: bool) -> Splats:
    """The rows that no reason speaks against."""
    dropped = torch.stack(list(reasons.values())).any(dim=0)
    count = int(dropped.sum())
    if count == 0:
        return values
    why = ", ".join(f"{reason} ({int(where.sum())})" for reason, where in reasons.items() if where.any())
    found = f"{count:,} of {len(values):,} {what}"
    if strict:
        raise FileProblem(f"{path}: {found} cannot be drawn: {why}.", advice="Omit `strict` to drop them.")
    if len(values) - count < LEAST_SHARE * len(values):
        raise FileProblem(f"{path}: damaged, {found} cannot be drawn: {why}.", advice="Export it again.")
    _log.warning("%s: dropped %s: %s.", path, found, why)
    return rows(values, ~dropped)


def _not_finite(values: Tensor) -> Tensor:
    """Which rows [N] of values [N, ...] hold a NaN or an infinity, as float32."""
    good = values.float().isfinite()
    return ~good.flatten(1).all(dim=1) if values.dim() > 1 else ~good
