"""Checking the settings of a dataclass where they are made: one rule, one message."""

from math import isfinite
from typing import Any, get_args

from dreamsplat.errors import InvalidInput


def check_range(setting: str, value: float, least: float, most: float, above: bool = False) -> None:
    """Refuse a number that is not finite or not within `least` to `most`, both included.

    Args:
        setting: Its name, for the message.
        value: The number.
        least: The smallest it may be; with `above` it must be larger.
        most: The largest it may be; infinite where only finiteness counts.
        above: Whether `least` itself is refused.

    Raises:
        InvalidInput: naming the setting, the value and the range.
    """
    if isfinite(value) and least <= value <= most and not (above and value == least):
        return
    low = f"above {least:g}" if above else f"at least {least:g}"
    expected = f"a finite number, {low}" if most == float("inf") else f"{low} and at most {most:g}"
    raise InvalidInput(f"{value}, expected {expected}.", setting=setting)


def check_ranges(owner: object, section: str = "", **limits: tuple[float, float] | tuple[float, float, bool]) -> None:
    """Refuse fields of a dataclass by `check_range`, whose last arguments the limits are; None is within any.

    Args:
        owner: The dataclass.
        section: How the names of its settings begin, such as "prior3d.".
        limits: By name of field: least, most, and True where least itself is refused.
    """
    for name, (least, most, *above) in limits.items():
        if (value := getattr(owner, name)) is not None:
            check_range(section + name, value, least, most, above=above == [True])


def check_choice(setting: str, value: object, choices: Any) -> None:
    """Refuse a value that is not among the arguments of a Literal type."""
    if value not in get_args(choices):
        raise InvalidInput(f"{str(value)[:40]!r}, expected one of {', '.join(get_args(choices))}.", setting=setting)
