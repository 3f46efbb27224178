"""`dreamsplat doctor`: whether this installation works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamsplat.commands.flags import parse_flags


@dataclass(frozen=True)
class Doctor:
    """Check this installation: versions, devices, a self-test of the renderer, bundled weights, cached models."""


def doctor(arguments: Sequence[str]) -> int:
    """Print the report.

    Returns:
        0, or 1 if the self-test fails or the bundled weights are missing. Optional parts may be missing.
    """
    parse_flags(Doctor, arguments, "doctor")
    from dreamsplat.commands.installation import report  # Here and not above: it waits for torch.

    return 0 if report() else 1
