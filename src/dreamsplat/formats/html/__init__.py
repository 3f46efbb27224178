"""A web page that shows the asset: one file that opens anywhere, offline, in any browser with WebGL2.

The page holds a small viewer (the files viewer*) and the numbers of the Gaussians as base64. It loads nothing from
elsewhere, which its content security policy enforces. A fragment in the address selects a fixed view:
`asset.html#azimuth=30&elevation=15`, in degrees, with `distance` in world units and `background` as `light`, `dark` or
six hexadecimal digits.

The data are three tables in row order, little-endian, one row per Gaussian. The columns of the last two are quantised
in even steps between their least and greatest values, so the error is at most half a step:

| table | columns | bytes per Gaussian |
|---|---|---|
| float32 | x y z, world units | 12 |
| uint16 | logarithms of the 3 scales; quaternion w x y z with w >= 0; opacity; the 3 coefficients of degree 0 | 22 |
| uint8 | the coefficients of higher degree, each as red, green, blue | 0, 9, 24 or 45 |

With base64 that is 4.5 MB for 100,000 Gaussians of degree 0, and 10.5 MB for degree 3.
"""

import base64
import html
import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreamsplat.files.atomic import replacing
from dreamsplat.types import Gaussians

_TRIM = 0.005  # Share of the Gaussians at either end that are ignored when the page chooses where to look.


def write(gaussians: Gaussians, path: Path, title: str | None = None) -> None:
    """Write a page that shows the Gaussians; the same Gaussians and title always give the same bytes.

    Args:
        gaussians: finite values, scales > 0, opacities in [0, 1], quaternions of any non-zero length; any device.
        path: where to write; an existing file is replaced in one step.
        title: of the page; by default the name of the file without its suffix.

    Raises:
        FileProblem: if the file cannot be written.
    """
    title = path.stem.encode("utf-8", "replace").decode() if title is None else title
    about, tables = _encode(gaussians)
    count = f"{len(gaussians):,}"
    fields = {
        "title": html.escape(title),
        "label": html.escape(
            f"{title}: a 3D object of {count} Gaussians. Arrow keys turn it, plus and minus zoom, Home resets the view."
        ),
        "count": count,
        "about": json.dumps(about, separators=(",", ":")),
        "data": base64.b64encode(tables).decode("ascii"),
        "drawing": _part("viewer_drawing.js"),
        "controls": _part("viewer_controls.js"),
    }
    # In one pass, so that nothing inside a value is replaced in turn.
    page = re.sub("@([a-z]+)@", lambda place: fields[place[1]], _part("viewer.html"))
    with replacing(path) as temporary:
        temporary.write_bytes(page.encode("utf-8"))


def framing(means: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The point [3] that the page looks at, and the radius around it that shows means [N, 3] without outliers."""
    if len(means) == 0:
        return np.zeros(3), 1.0
    low, high = np.quantile(means, [_TRIM, 1 - _TRIM], axis=0)
    centre = (low + high) / 2
    radius = float(np.quantile(np.linalg.norm(means - centre, axis=1), 1 - _TRIM))
    return centre, radius or 1.0


def _encode(gaussians: Gaussians) -> tuple[dict[str, object], bytes]:
    """What the viewer must know to decode the tables, and the tables."""
    means, scales, quats, opacities, sh = (field.double().cpu().numpy() for field in gaussians.tensors().values())
    quats = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    quats = np.where(quats[:, :1] < 0, -quats, quats)  # The same rotations; a fixed sign halves the steps of w.
    wide = np.concatenate([np.log(scales), quats, opacities[:, None], sh[:, 0]], axis=1)
    wide_codes, wide_steps = _quantise(wide, "<u2")
    narrow_codes, narrow_steps = _quantise(sh[:, 1:].reshape(len(sh), 3 * (sh.shape[1] - 1)), "u1")
    centre, radius = framing(means)
    about = {
        "count": len(gaussians), "centre": centre.tolist(), "radius": radius, "wide": wide_steps, "narrow": narrow_steps
    }  # fmt: skip
    return about, means.astype("<f4").tobytes() + wide_codes.tobytes() + narrow_codes.tobytes()


def _quantise(
    columns: NDArray[np.float64],  # [N, columns]
    dtype: str,
) -> tuple[np.ndarray, list[list[float]]]:
    """The codes [N, columns], and for each column the value of code 0 and the step between codes."""
    if len(columns) == 0:
        return columns.astype(dtype), [[0.0, 0.0]] * columns.shape[1]
    low = columns.min(axis=0)
    step = (columns.max(axis=0) - low) / np.iinfo(dtype).max
    codes = np.rint((columns - low) / np.where(step > 0, step, 1)).astype(dtype)
    return codes, np.stack([low, step], axis=1).tolist()


def _part(name: str) -> str:
    return (files("dreamsplat.formats.html") / name).read_text(encoding="utf-8")
