"""What happens in a run, as values: `execute` yields them to a progress bar, a server or a worker."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dreamsplat.errors import DreamsplatError
    from dreamsplat.types import Step


@dataclass(frozen=True)
class AbstractEvent:
    """Where the run is."""

    folder: Path
    """The folder of the run."""
    step: int
    """Optimisation steps done."""
    total: int
    """Optimisation steps of the whole run."""
    seconds: float
    """How long the run has taken, all its parts together."""


@dataclass(frozen=True)
class Started(AbstractEvent):
    """The folder is locked; the models are loaded next. `step` is above 0 for a resumed run."""


@dataclass(frozen=True, eq=False)
class Stepped(AbstractEvent):
    """A step is done, and whatever was due is on disk."""

    result: Step
    """What `dream_steps` yielded."""


@dataclass(frozen=True)
class Saved(AbstractEvent):
    """Files were written."""

    paths: tuple[Path, ...]
    """Which: a checkpoint, or asset and preview."""


@dataclass(frozen=True)
class Warned(AbstractEvent):
    """Something that a person should know; the run continues."""

    message: str
    """One line."""
    error: DreamsplatError | None = None
    """What went wrong; None if nothing did."""


@dataclass(frozen=True)
class Finished(AbstractEvent):
    """The last event of a run that reached its end or was asked to stop: everything is written."""

    state: Literal["done", "stopped"]
    """Whether it reached its end."""
    paths: tuple[Path, ...]
    """What a person wants to open: asset, preview and, at its end, the turntable."""


@dataclass(frozen=True)
class Failed(AbstractEvent):
    """The last event of a run that cannot continue; what it has made so far is written."""

    error: DreamsplatError
    """Why."""


Event = Started | Stepped | Saved | Warned | Finished | Failed
"""Whatever `execute` yields."""


class Stop:
    """Asks a run to end after its current step. Any thread may set it."""

    def __init__(self) -> None:
        """Not set."""
        self._event = threading.Event()

    def set(self) -> None:
        """Ask."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether it was asked."""
        return self._event.is_set()
