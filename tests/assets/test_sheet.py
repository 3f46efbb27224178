"""Contact sheets: every picture in its place, and labels."""

from __future__ import annotations

import pytest
import torch

from dreamsplat.assets.sheet import contact_sheet
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.srgb import to_uint8


def test_a_contact_sheet_shows_every_image_where_its_row_and_column_meet():
    colours = torch.rand(2, 3, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    rows = [("first\nrow", colours[0].expand(3, 20, 30, 3)), ("second", colours[1].expand(3, 20, 30, 3))]
    sheet = contact_sheet(rows, ["a", "b", "c"], gap_px=5)
    height, width, _ = sheet.shape
    for row in range(2):
        for column in range(3):
            y, x = height - (2 - row) * 25, width - (3 - column) * 35
            assert (sheet[y : y + 20, x : x + 30] == to_uint8(colours[row, column])).all()
    labels = sheet.min(axis=-1) < 200
    assert labels[:, : width - 3 * 35].any() and labels[: height - 2 * 25].any()  # Words are there, beside and above.


def test_a_contact_sheet_of_unequal_rows_is_refused():
    with pytest.raises(InvalidInput, match="equal rows of 2 images"):
        contact_sheet([("a", torch.zeros(2, 4, 4, 3)), ("b", torch.zeros(3, 4, 4, 3))], ["1", "2"])
    with pytest.raises(InvalidInput, match="equal rows"):
        contact_sheet([], [])
