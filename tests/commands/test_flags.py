"""Arguments that cannot be parsed are told in one line each, whatever the terminal."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Literal

import pytest
import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.errors import InvalidInput


@dataclass(frozen=True)
class Paint:
    """Paint a wall."""

    wall: tyro.conf.Positional[Path]
    """Which one."""
    colour: Literal["red", "blue"]
    """A colour, described at such length that the help of this flag does not fit into one line of any terminal."""
    coats: int = 1
    """How many."""
    size: tuple[float, float] = (1.0, 2.0)
    """Width and height."""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Missing from dreamsplat paint: PATH, --colour {red,blue}."),
        (["w"], "Missing from dreamsplat paint: --colour {red,blue}."),
        (["w", "--colour"], "Missing value for argument '--colour'. Expected 1 values."),
        (["w", "--colour", "red", "--coats", "two"], "--coats: invalid literal for int() with base 10: 'two'."),
        (
            ["w", "--colour", "green"],
            "invalid choice 'green' for argument '--colour'. Expected one of ('red', 'blue').",
        ),
        (["w", "--colour", "red", "--size", "3"], "Missing value for argument '--size'. Expected 2 values."),
        (["w", "--colour", "red", "x", "y"], "Unrecognized options: x, y."),
        (["w", "--colour", "red", "--caots", "3"], "Unrecognized options: --caots, 3. Perhaps you meant --coats INT."),
    ],
)
@pytest.mark.parametrize("columns", ["80", "40", "300"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_cannot_be_parsed_is_told_in_one_line(monkeypatch, columns, encoding, arguments, told):
    monkeypatch.setattr(sys, "stdout", out := TextIOWrapper(BytesIO(), encoding))
    monkeypatch.setattr(sys, "stderr", err := StringIO())
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(InvalidInput, match=re.escape(f"{told} See `dreamsplat paint --help`.")) as caught:
        parse_flags(Paint, arguments, "paint")
    assert "\n" not in str(caught.value)
    assert out.tell() == 0 and err.getvalue() == ""


def test_what_can_be_parsed_becomes_the_dataclass():
    assert parse_flags(Paint, ["w", "--colour", "blue", "--coats", "2"], "paint") == Paint(Path("w"), "blue", 2)


def test_help_is_still_printed_and_leaves(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_flags(Paint, ["--help"], "paint")
    assert caught.value.code == 0 and "How many." in capsys.readouterr().out
