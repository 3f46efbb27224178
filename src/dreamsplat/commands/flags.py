"""Arguments of a command become its frozen dataclass (tyro); what cannot be one is told in a line, like every error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any, TypeVar

import tyro

from dreamsplat.commands.choices import CHOICES
from dreamsplat.errors import InvalidInput

T = TypeVar("T")

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RULE = re.compile(r" *[─-]{3,}$")
_NAME_INDENT, _HELP_INDENT = 5 * " ", 9 * " "


def parse_flags(kind: type[T], arguments: Sequence[str], command: str, **settings: Any) -> T:
    """The dataclass `kind` with the values that `arguments` give its fields; prints help and exits where they ask.

    Args:
        kind: A dataclass whose fields are the flags.
        arguments: What follows the command.
        command: Its name, for help and messages.
        settings: Further settings of `tyro.cli`.

    Raises:
        InvalidInput: if an argument is unknown, missing or no value of its kind.
    """
    with flag_errors_in_one_line(command):
        return tyro.cli(kind, args=arguments, prog=f"dreamsplat {command}", registry=CHOICES, **settings)


@contextmanager
def flag_errors_in_one_line(command: str) -> Iterator[None]:
    """Turn the boxes in which tyro complains into one line: an InvalidInput that names the command's help."""
    told = StringIO()
    try:
        with redirect_stderr(told):
            yield
    except SystemExit as stop:
        if stop.code != 2:
            raise
        raise InvalidInput(f"{_in_one_line(told.getvalue())} See `dreamsplat {command} --help`.") from None


def _in_one_line(box: str) -> str:
    """The complaint of a box, and the flag that was perhaps meant; not the help texts that are repeated with them."""
    lines = [line for line in _COLOUR.sub("", box).splitlines() if line.strip()]
    # On terminals without such letters there are no sides, and a rule below the title.
    inside = lines[1:-1] if lines[0].startswith("╭") else lines[2:]
    paragraphs: list[list[str]] = [[]]
    for line in inside:
        text = line[1:].removesuffix("│").rstrip()
        if _RULE.match(text):
            paragraphs.append([])
        elif not text.startswith(_HELP_INDENT):
            paragraphs[-1].append(text)
    complaint = _joined(paragraphs[0]).removeprefix("Error parsing ")
    for title, *flags in paragraphs[1:]:
        if title.strip() == "Perhaps you meant:" and flags:
            complaint += f" Perhaps you meant {flags[0].strip()}."
    return complaint


def _joined(lines: list[str]) -> str:
    """The lines of a paragraph as one sentence; those that are indented name a flag each."""
    words = "".join(f", {line.strip()}" if line.startswith(_NAME_INDENT) else f" {line.strip()}" for line in lines)
    return words.replace(":,", ":").strip().rstrip(".") + "."
