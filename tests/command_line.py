"""What the tests of several commands share."""

from __future__ import annotations


def is_one_error(err: str) -> bool:
    """Whether stderr ends with a message of one or two lines, and shows no traceback."""
    message = err[err.index("error: ") :].strip()
    return message.count("\n") <= 1 and "Traceback" not in err
