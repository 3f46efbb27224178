"""Telling a person how a run goes: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dreamsplat.runs import Event, Stepped

LINE_SECONDS = 5.0
"""Between two plain lines."""

_STAGES = {"lift": "lift to Gaussians", "distil": "distil"}
_Show = Callable[[Event], None]
_log = logging.getLogger(__name__)


@contextmanager
def show_progress(console: Console | None = None) -> Iterator[_Show]:
    """Lend a function that shows each event of a run, on stderr, as long as that works."""
    console = console or Console(stderr=True)
    if console.is_terminal:
        with _live_bar(console) as show:
            yield _harmless(show)
    else:
        yield _harmless(_plain_lines(console))


def _harmless(show: _Show) -> _Show:
    """A display that ends with its first fault, such as a log that is full or closed, and does not stop the run."""
    works = True

    def show_if_it_works(event: Event) -> None:
        nonlocal works
        try:
            if works:
                show(event)
        except Exception as fault:
            works = False
            _log.warning("The run goes on without a progress display (%s).", fault)

    return show_if_it_works


@contextmanager
def _live_bar(console: Console) -> Iterator[_Show]:
    pace = _Pace()
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}")]
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("models and 3D prior", total=None, numbers="")

        def show(event: Event) -> None:
            if isinstance(event, Stepped):
                counted = f"step {event.step}/{event.total}" if event.result.stage == "distil" else ""
                numbers = _joined(counted, pace.in_words(event), event.result.asset.size)
                description = _STAGES[event.result.stage]
                bar.update(task, description=description, total=event.total, completed=event.step, numbers=numbers)

        yield show


def _plain_lines(console: Console) -> _Show:
    pace = _Pace()
    last = -LINE_SECONDS

    def show(event: Event) -> None:
        nonlocal last
        if not isinstance(event, Stepped):
            return
        stage = event.result.stage
        told = _joined(pace.in_words(event), pace.left_in_words(event), event.result.asset.size)
        if stage == "distil" and event.step < event.total and event.seconds - last < LINE_SECONDS:
            return
        last = event.seconds
        counted = f" step {event.step}/{event.total}" if stage == "distil" else ""
        # Not by rich, which ends the process when a log is closed.
        print(f"{_STAGES[stage]}{counted}: {told}", file=console.file, flush=True)

    return show


class _Pace:
    """Steps per second, from the first optimisation step on that is seen; a late one in a resumed run."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None  # step, seconds
        self._per_second = 0.0

    def in_words(self, event: Stepped) -> str:
        if self._first is None or event.result.stage == "lift" or event.step <= self._first[0]:
            self._first = (event.step, event.seconds)
            return ""
        step, seconds = self._first
        self._per_second = (event.step - step) / max(event.seconds - seconds, 1e-9)
        return f"{self._per_second:.1f} steps/s"

    def left_in_words(self, event: Stepped) -> str:
        return f"{(event.total - event.step) / self._per_second:.0f} s left" if self._per_second else ""


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))
