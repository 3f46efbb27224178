"""Radiance fields as safetensors: one tensor, `grid` [4, R, R, R] in float32, and in the header what it is.

The header's metadata has one entry, since safetensors writes several in any order: `dreamsplat_voxel_field`, the JSON
object {"version": 1, "extent": half the side of the cube, world units}. `RadianceField` says what the numbers mean.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dreamsplat.assets.radiance_field import RadianceField
from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import replacing
from dreamsplat.files.kinds import FIELD_MARK

_VERSION = 1
_MOST_CELLS = 1024
_ADVICE = "Expected an asset.safetensors of a run."


def write_field(field: RadianceField, path: Path) -> None:
    """Write a field; the same field always gives the same bytes.

    Raises:
        FileProblem: if the file cannot be written.
    """
    facts = json.dumps({"version": _VERSION, "extent": field.extent})
    with replacing(path) as temporary:
        temporary.write_bytes(save({"grid": field.grid.detach().float().cpu().contiguous()}, {FIELD_MARK: facts}))


def read_field(path: Path) -> RadianceField:
    """A field, on the CPU. Sizes are checked before anything is allocated.

    Raises:
        FileProblem: if the file is missing, damaged, or holds something else.
    """
    try:
        with safe_open(path, "pt") as file:
            extent = _extent(path, (file.metadata() or {}).get(FIELD_MARK))
            if list(file.keys()) != ["grid"]:
                raise FileProblem(f"{path}: a field has one tensor, `grid`.", advice=_ADVICE)
            part = file.get_slice("grid")
            shape, dtype = part.get_shape(), part.get_dtype()
            cells = shape[-1] if shape else 0
            if shape != [4, cells, cells, cells] or dtype != "F32" or not 2 <= cells <= _MOST_CELLS:
                raise FileProblem(
                    f"{path}: the grid is {dtype} {shape}, expected F32 [4, R, R, R] with R of 2 to {_MOST_CELLS}."
                )
            grid = file.get_tensor("grid")
    except (SafetensorError, OSError) as error:
        raise FileProblem(f"{path}: cannot be read as a field ({error}).", advice=_ADVICE) from error
    if not bool(torch.isfinite(grid).all()):
        raise FileProblem(f"{path}: a number of the field is NaN or infinite.", advice=_ADVICE)
    return RadianceField(grid, extent)


def _extent(path: Path, facts: str | None) -> float:
    """Half the side of the cube, of a file of our version."""
    if facts is None:
        raise FileProblem(f"{path}: a safetensors file, but not of a field.", advice=_ADVICE)
    try:
        values: Any = json.loads(facts)
        version, extent = values["version"], float(values["extent"])
    except (ValueError, TypeError, KeyError):
        raise FileProblem(f"{path}: its header is damaged: {facts[:40]!r}.", advice=_ADVICE) from None
    if version != _VERSION:
        raise FileProblem(f"{path}: a field of version {version!s:.20}, expected {_VERSION}.")
    if not 0 < extent <= 1e6:
        raise FileProblem(f"{path}: extent {extent:g}, expected a number above 0.", advice=_ADVICE)
    return extent
