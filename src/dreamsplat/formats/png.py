"""Pictures: 8-bit images, contact sheets with labels, PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.files.atomic import replacing

PAPER = (255, 255, 255)
"""Background of a contact sheet."""
INK = (60, 60, 60)
"""Colour of its labels."""


def to_uint8(
    image: Tensor,  # [..., 3] display colours
) -> NDArray[np.uint8]:
    """Display colours as bytes: clamped to [0, 1], times 255, rounded to nearest."""
    return (image.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy()


def contact_sheet(
    rows: Sequence[tuple[str, Tensor]],  # (label, images [V, H, W, 3])
    columns: Sequence[str],  # V labels
    gap_px: int = 8,
) -> NDArray[np.uint8]:
    """Rows of images on white, with a label before each row and above each column.

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


def write_png(image: Tensor | NDArray[np.uint8], path: Path) -> None:
    """Write one image, [H, W, 3] display colours or bytes; an old file is replaced in one step.

    Raises:
        FileProblem: if the suffix is not .png, or the file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise FileProblem(f"{path}: pictures are written as .png.")
    pixels = to_uint8(image) if isinstance(image, Tensor) else image
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary)
