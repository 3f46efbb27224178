"""Colours of vertices in PLY files: under which names they go, and what their numbers mean."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dreamsplat.files.atomic import refuse
from dreamsplat.formats.any_ply import Column
from dreamsplat.formats.ply_header import Properties

ALIASES = (
    ("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("color_r", "color_g", "color_b"), ("colour_r", "colour_g", "colour_b"), ("red_0", "green_0", "blue_0"),
    ("scalar_r", "scalar_g", "scalar_b"), ("scalar_red", "scalar_green", "scalar_blue"),
    ("vertex_red", "vertex_green", "vertex_blue"), ("base_color_r", "base_color_g", "base_color_b"),
    ("color_red", "color_green", "color_blue"),
)  # fmt: skip
"""What the three properties are called, in any case; the first that are all there are used."""

_log = logging.getLogger(__name__)


def colour_names(names: Iterable[str]) -> list[str] | None:
    """The properties that hold red, green and blue, in this order; None if there are none."""
    known = {name.lower(): name for name in names}
    found = next((alias for alias in ALIASES if known.keys() >= set(alias)), None)
    return None if found is None else [known[name] for name in found]


def display_colours(path: Path, columns: dict[str, Column], names: Sequence[str], properties: Properties) -> Tensor:
    """Display colours [N, 3] in [0, 1], float64: uchar counts to 255, ushort to 65535, float to 1 or, if above, to 255.

    Raises:
        FileProblem: if they are of no known range.
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN, which is not drawn, like any other
        rgb = torch.from_numpy(np.stack([columns[name].values.astype(np.float64) for name in names], axis=1))
    kind = properties[names[0]][0]
    top = {"u2": 65535.0, "f4": 1.0, "f8": 1.0}.get(kind, 255.0)
    finite = rgb[rgb.isfinite()]
    largest = float(finite.max()) if len(finite) else 0.0
    if kind.startswith("f") and 2 < largest <= 255:
        _log.warning("%s: its colours reach %.4g: read as 0 to 255.", path, largest)
        top = 255.0
    elif largest > 2 * top:
        refuse(path, f"its colours reach {largest:.4g}", "Store them as uchar, or as float from 0 to 1.")
    elif kind in ("u1", "u2") and len(finite) >= 30 and 0 < largest <= 1:
        _log.warning("%s: its colours are whole numbers of at most 1 of %g: nearly black.", path, top)
    return (rgb / top).clamp(0, 1)
