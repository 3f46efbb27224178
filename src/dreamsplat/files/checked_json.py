"""JSON from untrusted files: checks before a value is used, and how to show it in an error message."""

import json
from typing import Any

NUMBER_LIMIT = 1e30
"""Numbers must be smaller than this in magnitude: far above any length, and their products still fit float64."""


def parse(text: bytes) -> dict[str, Any] | None:
    """The JSON object in `text`; None if it is damaged, nested too deeply, or not an object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_whole(value: object, least: int, most: int) -> bool:
    """Whether a value is an integer (not True or False) in a range that includes its ends."""
    return type(value) is int and least <= value <= most


def are_numbers(value: object) -> bool:
    """Whether a value is a list of finite numbers below `NUMBER_LIMIT`."""
    return isinstance(value, list) and all(
        type(each) in (int, float) and -NUMBER_LIMIT < each < NUMBER_LIMIT for each in value
    )


def shown(value: object) -> str:
    """A value for an error message: one short line of ASCII, whatever it is."""
    return ascii(value)[:60] if isinstance(value, (str, int, float, type(None))) else type(value).__name__
