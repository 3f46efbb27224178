"""Values that a file may hold, and that are likely a mistake: said once, never changed."""

import logging
import math
from pathlib import Path

import torch

from dreamsplat.types import Gaussians

_NEARLY_ALL = 0.99
_ENOUGH = 20  # Of fewer Gaussians nothing can be said.
_log = logging.getLogger(__name__)


def warn_of_activated_values(path: Path, gaussians: Gaussians) -> None:
    """Say where a PLY seems to hold scales, opacities or colours themselves instead of what the standard stores."""
    if len(gaussians) < _ENOUGH:
        return
    logs, logits = gaussians.scales.log(), gaussians.opacities.logit()
    extent = float((gaussians.means.amax(dim=0) - gaussians.means.amin(dim=0)).max())
    if bool((logs >= 0).all()) and float(gaussians.scales.median()) > 0.1 * extent:
        _log.warning("%s: its scale_* look like lengths; they should be the logarithms of lengths.", path)
    if bool(((logits >= -1e-4) & (logits <= 1.0001)).all()) and float(logits.max()) > 0.05:
        _log.warning("%s: its opacities look like 0 to 1; they should be logits, such as -2 to 5.", path)
    first = gaussians.sh[:, 0]
    low, high = float(first.min()), float(first.max())
    if float(first.abs().median()) > 8 or (0 <= low < 0.1 and 0.9 < high <= 1):
        reach = f"reach from {low:.4g} to {high:.4g} like colours"
        _log.warning("%s: its f_dc_* %s; they should be harmonics, such as -1.8 to 1.8.", path, reach)


def warn_of_lost_detail(path: Path, gaussians: Gaussians) -> None:
    """Say where centres are so far from the origin that float32 keeps them in steps as large as Gaussians."""
    if len(gaussians) == 0:
        return
    # Of nearly all of them: a few strays far away say nothing about the object.
    reach = gaussians.means.abs().amax(dim=1)
    far = float(reach.kthvalue(math.ceil(_NEARLY_ALL * len(reach))).values)
    step = far * float(torch.finfo(torch.float32).eps)
    size = float(gaussians.scales.amax(dim=1).median())
    if step < 0.1 * size:
        return
    lost = f"centres near {far:.4g} are kept in steps of {step:.2g}, and a typical Gaussian has a size of {size:.2g}"
    if gaussians.means.dtype == torch.float64:
        _log.warning("%s: %s: detail is lost. Add --centre, or move the object to the origin first.", path, lost)
    else:
        _log.warning("%s: %s: detail was lost when the file was written. Export it near the origin.", path, lost)
