"""PNG files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import replacing
from dreamsplat.maths.srgb import to_uint8


def write_png(image: Tensor | NDArray[np.uint8], path: Path) -> None:
    """Write one image, [H, W, 3] display colours or bytes; an existing file is replaced in one step.

    Raises:
        FileProblem: if the suffix is not .png, or the file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise FileProblem(f"{path}: unknown kind of picture.", advice="Use .png.")
    pixels = to_uint8(image) if isinstance(image, Tensor) else image
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary)
