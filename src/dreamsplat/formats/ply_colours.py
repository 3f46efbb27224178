"""Colours of vertices: under which names PLY files hold them, and what the numbers of any file mean."""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dreamsplat.files.atomic import refuse
from dreamsplat.formats.any_ply import Column
from dreamsplat.formats.ply_header import Properties

_CHANNELS = (("red", "green", "blue"), ("r", "g", "b"))
_LAST = re.compile("ambient|specular|emissive|back")  # Colours that are not what is mainly seen.
_ENOUGH = 10  # Of fewer colours nothing can be said.

_log = logging.getLogger(__name__)


def colour_names(names: Iterable[str]) -> list[str] | None:
    """The properties that hold red, green and blue, in this order; None if there are none.

    Any three names are colours that differ only in red, green, blue or r, g, b, whatever their case: Red, diffuse_red,
    color_r, scalar_R. Of several, the plain names and then the first that describe the surface are taken.
    """
    known = {name.lower(): name for name in names}
    triples = [
        triple
        for channels in _CHANNELS
        for name in known
        for at in re.finditer(channels[0], name)
        if known.keys() >= set(triple := [name[: at.start()] + c + name[at.end() :] for c in channels])
    ]
    triples.sort(key=lambda triple: (triple[0] not in ("red", "r"), bool(_LAST.search(triple[0]))))
    return [known[name] for name in triples[0]] if triples else None


def display_colours(path: Path, columns: dict[str, Column], names: Sequence[str], properties: Properties) -> Tensor:
    """Display colours [N, 3] in [0, 1], float64: uchar counts to 255, ushort to 65535, float to 1; see `scaled_to_1`.

    Raises:
        FileProblem: if they are of no known range.
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN, which is not drawn, like any other
        rgb = torch.from_numpy(np.stack([columns[name].values.astype(np.float64) for name in names], axis=1))
    return scaled_to_1(path, rgb, {"u2": 65535.0, "f4": 1.0, "f8": 1.0}.get(properties[names[0]][0], 255.0))


def scaled_to_1(path: Path, rgb: Tensor, top: float) -> Tensor:
    """Colours [N, 3] of a file in [0, 1]; where their range is not what their type says, a warning says so.

    Args:
        path: The file.
        rgb: Its numbers, of which some may be NaN.
        top: The brightest by their type: 1, 255 or 65535.

    Raises:
        FileProblem: if they are of no known range.
    """
    finite = rgb[rgb.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    is_enough = len(finite) >= 3 * _ENOUGH
    used = next((t for t in (1.0, 255.0, 65535.0) if t >= top and high <= (2 if t == 1 else t)), None)
    if top == 65535 and 1 < high <= 255 and is_enough:
        used = 255.0
    if used is None or (used == 65535 > top and high < 32768):
        refuse(path, f"its colours reach {high:.4g}", "Store them as uchar, or as float from 0 to 1.")
    if used != top:
        _log.warning("%s: its colours reach %.4g: read as 0 to %g.", path, high, used)
    elif top > 1 and 0 < high <= 1 and is_enough:
        _log.warning("%s: its colours are whole numbers of at most 1 of %g: nearly black.", path, top)
    elif low < -0.01 * used or high > 1.05 * used:
        _log.warning("%s: its colours reach from %.4g to %.4g: clamped to 0 to %g.", path, low, high, used)
    return (rgb / used).clamp(0, 1)
