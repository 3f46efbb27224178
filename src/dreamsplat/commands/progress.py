"""Telling a person how a run goes: a live bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dreamsplat.runs.execute import Report
from dreamsplat.types import Step

STAGES = {"lift": "lift to Gaussians", "distil": "distil"}
"""What each stage is called."""
LINE_SECONDS = 5.0
"""Between two plain lines."""


@contextmanager
def show_progress(console: Console | None = None) -> Iterator[Report]:
    """Lend a function that shows each step it is called with, on stderr."""
    console = console or Console(stderr=True)
    if console.is_terminal:
        with _live_bar(console) as report:
            yield report
    else:
        yield _plain_lines(console)


class _Pace:
    """Steps per second and seconds left, from the first optimisation step on."""

    def __init__(self) -> None:
        self._start: tuple[int, float] | None = None  # of the first step seen, which is late in a resumed run

    def describe(self, step: Step) -> str:
        if step.stage != "distil" or self._start is None:
            # In a resumed run the first step seen is a late one, and it is that step's end.
            self._start = (step.index, time.monotonic())
            return f"{len(step.gaussians):,} Gaussians"
        index, moment = self._start
        per_second = (step.index - index) / max(time.monotonic() - moment, 1e-9)
        left = (step.total - step.index) / max(per_second, 1e-9)
        return f"{per_second:.1f} steps/s, {left:.0f} s left, {len(step.gaussians):,} Gaussians"


@contextmanager
def _live_bar(console: Console) -> Iterator[Report]:
    pace = _Pace()
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}")]
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("models and 3D prior", total=None, numbers="")

        def report(step: Step) -> None:
            counted = f"step {step.index}/{step.total}, " if step.stage == "distil" else ""
            numbers = counted + pace.describe(step)
            bar.update(task, description=STAGES[step.stage], total=step.total, completed=step.index, numbers=numbers)

        yield report


def _plain_lines(console: Console) -> Report:
    pace = _Pace()
    last = -LINE_SECONDS

    def report(step: Step) -> None:
        nonlocal last
        numbers = pace.describe(step)
        now = time.monotonic()
        if step.stage == "distil" and step.index < step.total and now - last < LINE_SECONDS:
            return
        last = now
        counted = f" step {step.index}/{step.total}" if step.stage == "distil" else ""
        with suppress(OSError, SystemExit):  # A log that is full or closed does not stop a run; rich would exit.
            console.print(f"{STAGES[step.stage]}{counted}: {numbers}", highlight=False, markup=False, soft_wrap=True)

    return report
