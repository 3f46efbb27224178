"""Arguments that cannot be parsed are reported on one line each, whatever the terminal."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.commands.messages import in_shell_words, with_flags
from dreamsplat.errors import FileProblem, InvalidInput


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
        ([], "missing: PATH, --colour {red,blue}."),
        (["w"], "missing: --colour {red,blue}."),
        (["w", "--colour"], "--colour: expected {red,blue}."),
        (["w", "--colour", "red", "--coats", "two"], "--coats: 'two', expected INT."),
        (["w", "--colour", "green"], "--colour: 'green', expected one of red, blue."),
        (["w", "--colour", "red", "--size", "3"], "--size: expected FLOAT FLOAT."),
        (["w", "--colour", "red", "--size", "3", "wide"], "--size: expected FLOAT FLOAT."),
        (["w", "--colour", "red", "x", "y"], "unknown: x, y. A text or path with spaces needs quotes."),
        (["w", "--colour", "red", "--caots", "3"], "unknown: --caots, 3. Perhaps you meant --coats."),
    ],
)
@pytest.mark.parametrize("columns", ["80", "40", "300"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_cannot_be_parsed_is_reported_on_one_line(monkeypatch, columns, encoding, arguments, told):
    monkeypatch.setattr(sys, "stdout", out := TextIOWrapper(BytesIO(), encoding))
    monkeypatch.setattr(sys, "stderr", err := StringIO())
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(InvalidInput, match=re.escape(f"{told} See `dreamsplat paint --help`.")) as caught:
        parse_flags(Paint, arguments, "paint")
    assert "\n" not in str(caught.value)
    assert out.tell() == 0 and err.getvalue() == ""


@dataclass(frozen=True)
class Nap:
    """Nap; there is nothing to say about it."""


def test_quotes_are_not_advised_where_a_command_takes_no_words():
    with pytest.raises(InvalidInput, match=re.escape("unknown: x, y. See `dreamsplat nap --help`.")):
        parse_flags(Nap, ["x", "y"], "nap")


def test_what_can_be_parsed_becomes_the_dataclass():
    assert parse_flags(Paint, ["w", "--colour", "blue", "--coats", "2"], "paint") == Paint(Path("w"), "blue", 2)


def test_help_is_still_printed_and_leaves(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_flags(Paint, ["--help"], "paint")
    assert caught.value.code == 0 and "How many." in capsys.readouterr().out


@dataclass(frozen=True)
class Brush:
    """A part whose own check fails."""

    width: float = 1.0
    """How wide."""

    def __post_init__(self) -> None:
        if self.width <= 0:
            raise InvalidInput(f"{self.width}, expected above 0.", setting="width", advice="See `paint.coats`.")


@dataclass(frozen=True)
class Tools:
    """Brushes in a box."""

    brush: Brush = Brush()
    """The brush."""
    count: int = 1
    """How many."""

    def __post_init__(self) -> None:
        if self.count > 9:
            raise InvalidInput(f"{self.count}, expected at most 9.", setting="count")


@dataclass(frozen=True)
class Job:
    """Settings without a prefix, and a flag of the command itself."""

    config: Annotated[Tools, tyro.conf.arg(name="")] = Tools()
    """The settings."""
    days: int = 1
    """How long."""

    def __post_init__(self) -> None:
        if self.days < 1:
            raise InvalidInput(f"{self.days}, expected at least 1.", setting="days")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--brush.width", "0"], "--brush.width: 0.0, expected above 0. See --paint.coats."),
        (["--count", "10"], "--count: 10, expected at most 9."),
        (["--days", "0"], "--days: 0, expected at least 1."),
    ],
)
def test_what_a_setting_refuses_names_its_flag_wherever_the_setting_is(arguments, told):
    with pytest.raises(InvalidInput) as caught:
        parse_flags(Job, arguments, "job")
    assert in_shell_words(caught.value) == told


def test_settings_between_backticks_are_flags_and_commands_are_not():
    text = "Lower `render_size` or `loss.guidance_scale` for this `prompt`; see `dreamsplat words`."
    told = "Lower --render-size or --loss.guidance-scale for this prompt; see `dreamsplat words`."
    assert with_flags(text) == told
    error = InvalidInput("empty.", setting="prompt", advice="Say what to make.")
    assert in_shell_words(error) == "prompt: empty. Say what to make."
    assert in_shell_words(FileProblem("x.ply: no such file.")) == "x.ply: no such file."


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("a", "red", "mushroom", "--steps", 3), 'Quote the prompt: "a red mushroom".'),
        (("a fox", "--num-steps", 5), "Perhaps you meant --steps."),
        (("a fox", "--batch-size", 5), "Perhaps you meant --views."),
        (("a fox", "-o", "x"), "Perhaps you meant --out."),
        (("--prompt", "a fox"), 'The prompt has no flag: generate "a red mushroom".'),
        (("a fox", "--steps", 5, "--steps=6"), "--steps: given 2 times. Keep one of them."),
    ],
)
def test_what_strangers_type_is_answered_with_what_they_meant(run, arguments, told):
    code, out, err = run("generate", *arguments, "--dry-run")
    assert code == 2 and out == "" and told in err and err.count("\n") == 1


def test_flags_of_other_programs_lead_to_flags_that_exist():
    from dreamsplat.commands.flags import ELSEWHERE, _flags_of
    from dreamsplat.commands.generate import Generate

    known = dict(_flags_of(Generate))
    assert {name: flag for name, flag in ELSEWHERE.items() if f"--{flag}" not in known} == {}
    assert not {name for name in ELSEWHERE if f"--{name}" in known}
