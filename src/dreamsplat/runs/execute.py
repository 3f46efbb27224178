"""A run from wherever it stands to its end: checkpoints, stopping, going back once when it goes astray."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from dreamsplat.config import DreamConfig
from dreamsplat.dream import dream_steps
from dreamsplat.errors import Diverged, DreamsplatError, InvalidInput
from dreamsplat.files.atomic import remove_leftovers
from dreamsplat.method.state import asset_in
from dreamsplat.runs import checkpoints, record
from dreamsplat.runs.checkpoints import Checkpoint
from dreamsplat.runs.folder import RunFolder
from dreamsplat.types import Step

Report = Callable[[Step], None]
"""Called with each step."""

_log = logging.getLogger(__name__)


class Stopped(Exception):
    """A signal asked for the end; everything is written."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def carry_out(
    folder: RunFolder, config: DreamConfig, report: Report, checkpoint_every: int, resume: bool = False
) -> list[Path]:
    """Carry a run to its end, and return what a person wants to open. The lock of the folder must be held.

    Args:
        folder: Where the run is kept.
        config: The run.
        report: Called with each step.
        checkpoint_every: Steps between checkpoints; there is one after the lift and one at the end too.
        resume: Go on from the newest checkpoint in the folder, if there is any; else what is there is replaced.

    Raises:
        Stopped: when SIGINT or SIGTERM came; the step was finished, asset and checkpoint are written.
        Diverged: if the run goes astray again after it was set back with half the learning rates.
        DreamsplatError: as of `dream_steps`.
    """
    for written in (folder.path, folder.path / checkpoints.FOLDER):
        remove_leftovers(written)
    checkpoint = _newest_checkpoint(folder, config) if resume else None
    promised = _promise(folder, config, checkpoint_every)
    try:
        with stop_requests() as stop:
            while True:
                try:
                    _walk(folder, config, checkpoint, report, checkpoint_every, stop)
                    break
                except Diverged as error:
                    checkpoint = _set_back(folder, config, error)
        paths = folder.finish()
        record.write(folder.path, config, "done", config.steps, folder.seconds, checkpoint_every)
        return paths
    except (Stopped, KeyboardInterrupt):
        _leave(folder, config, checkpoint_every, "stopped", None)
        raise
    except DreamsplatError as error:
        _leave(folder, config, checkpoint_every, "failed", str(error))
        raise
    finally:
        if promised and folder.step is None:  # Nothing came of it, and it was told why.
            folder.forget()


def _newest_checkpoint(folder: RunFolder, config: DreamConfig) -> Checkpoint | None:
    """Where the run stands; None if it has no checkpoint, which is told if there is a run at all.

    Raises:
        InvalidInput: if the settings are not those that it was made with.
    """
    checkpoint = checkpoints.read_newest(folder.path)
    if checkpoint is None:
        if (folder.path / "config.json").exists():
            _log.warning("%s: it has no checkpoint yet: beginning anew.", folder.path)
    elif checkpoint.config_sha256 != record.config_sha256(config):
        raise InvalidInput(
            f"{folder.path / 'config.json'}: these are not the settings that its checkpoints were made with. Put them "
            "back, or begin a run of its own with the new ones."
        )
    return checkpoint


def _promise(folder: RunFolder, config: DreamConfig, every: int) -> bool:
    """Write settings and record into a folder that has none, so that a run killed before its first step can go on."""
    if (folder.path / "config.json").exists():  # Of an earlier run, which stays until this one has something.
        return False
    folder.write_config(_as_text(config))
    record.write(folder.path, config, "running", 0, folder.seconds, every)
    return True


def _as_text(config: DreamConfig) -> str:
    return json.dumps(config.to_json(), indent=2)


def _walk(
    folder: RunFolder, config: DreamConfig, checkpoint: Checkpoint | None, report: Report, every: int, stop: StopRequest
) -> None:
    slowed = 0 if checkpoint is None else checkpoint.slowed
    slower = replace(config, representation=config.representation.slower(0.5**slowed))
    if checkpoint is not None:
        folder.rewind(asset_in(checkpoint.state, config), checkpoint.step, config.steps, checkpoint.seconds)
    for step in dream_steps(slower, None if checkpoint is None else checkpoint.state):
        if step.stage == "lift":  # Prompt, device and models are good: only now is an earlier run's result given up.
            folder.start(_as_text(config))
            record.write(folder.path, config, "running", 0, folder.seconds, every)
        folder.record(step)
        report(step)
        if step.index % every == 0 or step.index == step.total or stop.signal is not None:
            _keep(folder, config, every, step, slowed)
        if stop.signal is not None:
            raise Stopped(stop.signal)


def _keep(folder: RunFolder, config: DreamConfig, every: int, step: Step, slowed: int) -> None:
    settings = record.config_sha256(config)
    checkpoints.write(folder.path, Checkpoint(step.snapshot, step.index, folder.seconds, slowed, settings))
    record.write(folder.path, config, "running", step.index, folder.seconds, every)


def _set_back(folder: RunFolder, config: DreamConfig, error: Diverged) -> Checkpoint:
    """The newest checkpoint with half the learning rates; the second time, the error."""
    checkpoint = checkpoints.read_newest(folder.path)
    if checkpoint is None:
        raise error
    folder.rewind(asset_in(checkpoint.state, config), checkpoint.step, config.steps, checkpoint.seconds)
    if checkpoint.slowed:
        raise Diverged(
            f"{error} It was set back once before; {folder.path} holds step {checkpoint.step}. "
            "Lower --rates or the guidance scale."
        ) from error
    _log.warning("%s Going back to step %d with half the learning rates.", error, checkpoint.step)
    slower = replace(checkpoint, slowed=1)
    checkpoints.write(folder.path, slower)
    return slower


def _leave(folder: RunFolder, config: DreamConfig, every: int, state: record.State, why: str | None) -> None:
    """Write asset and record, if there is anything."""
    if folder.refresh(state):
        assert folder.step is not None, "there is something"
        record.write(folder.path, config, state, folder.step, folder.seconds, every, why)


@dataclass
class StopRequest:
    """Whether the end was asked for."""

    signal: int | None = None
    """The signal's number."""


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of ending at once; a second one ends at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # where signals cannot be handled
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal is not None:
            os._exit(128 + number)  # At once, whatever runs: files are whole at any moment.
        request.signal = number
        print("stopping after this step; once more stops at once.", file=sys.stderr)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
