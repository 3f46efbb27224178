"""Point clouds in PLY files of any layout."""

import logging
from pathlib import Path

import numpy as np
import torch

from dreamsplat.files.atomic import refuse
from dreamsplat.formats.any_ply import Ply
from dreamsplat.formats.ply_colours import colour_names, display_colours
from dreamsplat.formats.ply_header import singles
from dreamsplat.types import PointCloud

GREY = 0.5
"""Display colour, in every channel, where a file has none; so start the paper's avatars."""

_log = logging.getLogger(__name__)


def read_points(path: Path) -> PointCloud:
    """The vertices of a PLY as they are, with their colours or, where it has none, grey: float64, on the CPU.

    Raises:
        FileProblem: if the file is missing, damaged, or lacks x, y and z.
    """
    ply = Ply.open(path)
    vertex = ply.header.elements.get("vertex")
    known = {} if vertex is None else {name.lower(): name for name in singles(vertex.properties)}
    if vertex is None or not {"x", "y", "z"} <= known.keys():
        refuse(path, "its header declares no vertices with x, y and z")
    names = colour_names(known.values())
    columns = ply.columns({"vertex": (known["x"], known["y"], known["z"], *(names or ()))})["vertex"]
    with np.errstate(invalid="ignore"):  # a signalling NaN, which is not drawn, like any other
        xyz = torch.from_numpy(np.stack([columns[known[a]].values.astype(np.float64) for a in "xyz"], axis=1))
    if names is None:
        others = " ".join(name for name in known.values() if name.lower() not in "xyz")
        _log.warning("%s: it has no colours%s: all of it is grey.", path, f", only {others[:80]}" if others else "")
        return PointCloud(xyz, torch.full_like(xyz, GREY))
    return PointCloud(xyz, display_colours(path, columns, names, vertex.properties))
