"""JSON from strangers: questions to ask of a value before it is used, and how to name it in an error message."""

from __future__ import annotations

import json
from typing import Any

NUMBER_LIMIT = 1e30
"""Numbers below this in magnitude are accepted: far beyond any length, and their products still fit float64."""


def parse(text: bytes) -> dict[str, Any] | None:
    """The JSON object in `text`; None if it is damaged, nested too deep, or something else than an object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_whole(value: object, least: int, most: int) -> bool:
    """Whether a value is a whole number (True and False are not) in a range, ends included."""
    return type(value) is int and least <= value <= most


def are_numbers(value: object) -> bool:
    """Whether a value is a list of finite numbers of sane size."""
    return isinstance(value, list) and all(
        type(each) in (int, float) and -NUMBER_LIMIT < each < NUMBER_LIMIT for each in value
    )


def shown(value: object) -> str:
    """A value for an error message: one short line of ASCII, whatever it is."""
    return ascii(value)[:60] if isinstance(value, (str, int, float, type(None))) else type(value).__name__
