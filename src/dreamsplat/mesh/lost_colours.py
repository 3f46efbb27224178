"""Colours of .obj, .off and .stl files that trimesh does not read."""

import logging
import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dreamsplat.formats.ply_colours import scaled_to_1

_OBJ_VERTEX = re.compile(rb"^(v[ \t]+\S+[ \t]+\S+[ \t]+\S+[ \t]+)(\S+)[ \t]+(\S+)[ \t]+(\S+)", re.MULTILINE)

_log = logging.getLogger(__name__)


def obj_in_unit_range(path: Path, content: bytes) -> bytes:
    """An .obj whose vertices have colours from 0 to 1: some programs write them from 0 to 255.

    Raises:
        ValueError: if a colour is not a number.
        FileProblem: if they are of no known range.
    """
    found = [each.groups()[1:] for each in _OBJ_VERTEX.finditer(content)]
    if not found:
        return content
    given = torch.tensor([[float(value) for value in rgb] for rgb in found], dtype=torch.float64)
    rows = iter(scaled_to_1(path, given.nan_to_num(), 1.0).tolist())
    if float(given.nan_to_num().max()) <= 1:
        return content
    return _OBJ_VERTEX.sub(lambda at: at[1] + " ".join(f"{value:.6f}" for value in next(rows)).encode(), content)


def off_colours(path: Path, content: bytes, count: int) -> NDArray[np.float64] | None:
    """The display colours [V, 3] of the `count` vertices of a COFF; None if it has none.

    Raises:
        ValueError: if a colour is not a number.
        FileProblem: if they are of no known range.
    """
    stripped = (line.partition(b"#")[0].split() for line in content.splitlines())
    lines = [line for line in stripped if line]
    start = 2 if lines and len(lines[0]) == 1 else 1  # The counts follow in the same line or in the next.
    rows = lines[start : start + count] if lines and lines[0][0] == b"COFF" else []
    if any(len(face) > int(face[0]) + 1 for face in lines[start + count :] if face[0].isdigit()):
        _log.warning("%s: the colours of its faces cannot be read from .off. Save it as .ply to keep them.", path)
    if len(rows) < count or any(len(row) < 6 for row in rows) or not rows:
        return None
    given = torch.tensor([[float(value) for value in row[3:6]] for row in rows], dtype=torch.float64)
    top = 1.0 if any(b"." in value for row in rows for value in row[3:6]) else 255.0
    return scaled_to_1(path, given.nan_to_num(), top).numpy()


def stl_colours(content: bytes, bits: NDArray[np.uint16]) -> NDArray[np.float64] | None:
    """The display colours [F, 3] of the faces of a binary .stl, of 5 bits each; None if it has none.

    Two programs defined them: VisCAM, with blue in the lowest bits where the highest is 1, and Materialise Magics, with
    red in the lowest bits where the highest is 0 and one colour in the header for all other faces.
    """
    highest = (bits >> 15).astype(bool)
    channels = np.stack([bits >> shift & 31 for shift in (10, 5, 0)], axis=1) / 31
    header = re.search(rb"COLOR=([\0-\xff]{3})", content[:80])
    if header is not None:
        whole = np.frombuffer(header[1], np.uint8) / 255
        return np.where(highest[:, None], whole, channels[:, ::-1])
    return np.where(highest[:, None], channels, 0.5) if highest.any() else None
