"""A contact sheet: rows of pictures with labels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.srgb import to_uint8

PAPER = (255, 255, 255)
"""Background of a contact sheet."""
INK = (60, 60, 60)
"""Colour of its labels."""


def contact_sheet(
    rows: Sequence[tuple[str, Tensor]],  # (label, images [V, H, W, 3])
    columns: Sequence[str],  # V labels
    gap_px: int = 8,
) -> NDArray[np.uint8]:
    """Rows of images on white, with a label to the left of each row and above each column.

    Returns:
        [height, width, 3] bytes.

    Raises:
        InvalidInput: if there are no rows, or they differ in number or size of images.
    """
    shapes = {tuple(images.shape) for _, images in rows}
    if len(shapes) != 1 or next(iter(shapes))[:1] != (len(columns),):
        raise InvalidInput(f"contact_sheet: rows {sorted(shapes)}, expected equal rows of {len(columns)} images.")
    _, height, width, _ = shapes.pop()
    font = ImageFont.load_default(size=max(10, height // 12))
    text_height = int(font.getbbox("Ag")[3]) + gap_px
    margin = max(int(font.getlength(line)) for label, _ in rows for line in label.splitlines()) + 2 * gap_px
    size = (margin + len(columns) * (width + gap_px), text_height + gap_px + len(rows) * (height + gap_px))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(columns):
        x = margin + column * (width + gap_px)
        draw.text((x + width / 2, gap_px + text_height / 2), label, fill=INK, font=font, anchor="mm")
        for row, (_, images) in enumerate(rows):
            sheet.paste(Image.fromarray(to_uint8(images[column])), (x, text_height + gap_px + row * (height + gap_px)))
    for row, (label, _) in enumerate(rows):
        y = text_height + gap_px + row * (height + gap_px) + height / 2
        draw.multiline_text((margin - gap_px, y), label, fill=INK, font=font, anchor="rm", align="right")
    return np.asarray(sheet)
