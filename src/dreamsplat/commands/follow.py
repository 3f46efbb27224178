"""Carrying out a run from the command line: progress on stderr, and Ctrl-C that ends it after its step."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from dreamsplat.commands.messages import with_flags
from dreamsplat.config import DreamConfig
from dreamsplat.runs import Failed, Finished, Pictures, Stop, Warned

PICTURES = Pictures()
"""How large the preview and the film of a run are."""

_log = logging.getLogger(__name__)


def follow(folder: Path, config: DreamConfig, **settings: Any) -> tuple[Finished, int]:
    """Carry out a run, showing how it goes.

    Args:
        folder: Where it is kept.
        config: The run.
        settings: More of `runs.execute`.

    Returns:
        Its last event, and the exit code: 0; 130 or 143 if Ctrl-C or SIGTERM stopped it.

    Raises:
        DreamsplatError: if the run failed.
    """
    from dreamsplat.commands.progress import show_progress
    from dreamsplat.runs import execute  # Here and not above: it waits for torch.

    signals = _Signals(Stop())
    events = execute(folder, config, stop=signals.stop, pictures=PICTURES, **settings)
    # Closed whatever happens here, so that no fault of the display costs a checkpoint.
    with signals.handled(), show_progress() as show, closing(events):
        for event in events:
            show(event)
            match event:
                case Warned(message=message):
                    _log.warning("%s", with_flags(message))
                case Finished(state=state):
                    return event, 0 if state == "done" else 128 + signals.number
                case Failed(error=error):
                    raise error
    raise AssertionError("a run ends with Finished or Failed")


class _Signals:
    """Turns the first SIGINT or SIGTERM into a request to stop; the second one ends the process at once."""

    def __init__(self, stop: Stop) -> None:
        self.stop, self.number = stop, int(signal.SIGINT)

    @contextmanager
    def handled(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # where signals cannot be handled
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.stop.is_set():
            os._exit(128 + number)  # At once, whatever runs: files are whole at any moment.
        self.number = number
        self.stop.set()
        again = "Press Ctrl-C" if number == signal.SIGINT else "Send the signal"
        with suppress(OSError):  # A log that is full or closed does not stop the run before its step is done.
            print(f"Stopping after this step. {again} again to quit now.", file=sys.stderr)
