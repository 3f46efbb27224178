"""A picture as Shap-E wants it: one object in the middle of a plain square."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files.atomic import read_start

_log = logging.getLogger(__name__)


def open_picture(path: Path) -> Image.Image:
    """The RGBA picture in a file, upright.

    Raises:
        FileProblem: if the file is missing or is not a picture.
    """
    read_start(path, 1)
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FileProblem(
            f"{path}: cannot be read as a picture ({error}).", setting="prior3d.image", advice="Use a PNG or JPEG file."
        ) from error


def read_picture(path: Path) -> Image.Image:
    """A square RGB picture with the object in its middle, filling four fifths of it.

    Where the picture has an alpha channel, that says what the object is, and the rest becomes white. Otherwise, if the
    border has one plain colour, all that differs from it is the object, and the colour stays. A picture with other
    surroundings is returned unchanged.

    Raises:
        FileProblem: if the file is missing or is not a picture.
        InvalidInput: if there is nothing but background in it.
    """
    rgba = open_picture(path)
    alpha = np.asarray(rgba)[..., 3]
    if alpha.min() < 255:
        background = (255, 255, 255)
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, background), rgba).convert("RGB")
        is_object = alpha > 12
    else:
        rgb = rgba.convert("RGB")
        pixels = np.asarray(rgb).astype(int)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        colour = np.median(border, axis=0)
        if (abs(border - colour).max(axis=1) > 16).mean() > 0.02:
            _log.warning("%s: its background is not plain, as Shap-E expects. Cut the object out.", path)
            return rgb
        background = tuple(int(channel) for channel in colour)
        is_object = abs(pixels - colour).max(axis=2) > 16
    if not is_object.any():
        raise InvalidInput(
            f"{path}: all background, no object in it.", setting="prior3d.image", advice="Use a picture of one object."
        )
    return _centred(rgb, is_object, background)


def _centred(rgb: Image.Image, is_object: NDArray[np.bool_], background: tuple[int, ...]) -> Image.Image:
    rows, columns = (np.flatnonzero(is_object.any(axis=axis)) for axis in (1, 0))
    cropped = rgb.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    side = round(max(cropped.size) / 0.8)
    square = Image.new("RGB", (side, side), background)
    square.paste(cropped, ((side - cropped.width) // 2, (side - cropped.height) // 2))
    return square
