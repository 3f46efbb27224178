"""A run from its start, or from its newest checkpoint, to its end, as a stream of events."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from dreamsplat.config import DreamConfig
from dreamsplat.dream import dream_steps
from dreamsplat.errors import Diverged, DreamsplatError, FileProblem, InvalidInput
from dreamsplat.runs import checkpoints
from dreamsplat.runs.checkpoints import Checkpoint
from dreamsplat.runs.events import Event, Failed, Finished, Saved, Started, Stepped, Stop, Warned
from dreamsplat.runs.folder import CONFIG, Pictures, claimed
from dreamsplat.runs.record import read_record
from dreamsplat.runs.writer import RunWriter

FULL_SIZE = Pictures()
"""What people look at; tests make smaller ones."""


def execute(
    folder: Path,
    config: DreamConfig,
    *,
    stop: Stop | None = None,
    resume: bool = False,
    checkpoint_every: int = 50,
    start: Checkpoint | None = None,
    pictures: Pictures = FULL_SIZE,
) -> Generator[Event]:
    """Carry out a run in a folder, yielding what happens; nothing happens until the first event is asked for.

    Whatever is due is on disk before its event is yielded. The iterator may be closed at any event, by the consumer's
    own failure too: then the newest step is written and the run can be resumed. The last event is `Finished` or
    `Failed`; every `DreamsplatError` comes as `Failed`, and only a fault of this package is raised.

    Args:
        folder: Where the run is kept; made if need be, and locked meanwhile.
        config: The run.
        stop: Ends the run after its current step, once it is set.
        resume: Continue from the newest checkpoint in the folder, if there is one. Otherwise an earlier run in the
            folder is replaced, once this one has made its first step.
        checkpoint_every: Optimisation steps between checkpoints; there is one at the end too, however the run ends.
        start: Begin where another run was, with other settings: its prompt, its rates, its steps. What is random
            continues from there. A run that has checkpoints of its own is resumed from those.
        pictures: How large preview and turntable are.
    """
    writer = RunWriter(folder, config, checkpoint_every, pictures)
    last: Event
    try:
        with claimed(folder):
            try:
                state = yield from _run(writer, start, stop or Stop(), resume)
                paths = writer.end(state)
            except BaseException as error:
                writer.end_after(error)
                raise
        last = Finished(*_position(writer), state, paths)
    except DreamsplatError as error:
        last = Failed(*_position(writer), error)
    yield last


_Running = Generator[Event, None, Literal["done", "stopped"]]


def _run(writer: RunWriter, start: Checkpoint | None, stop: Stop, resume: bool) -> _Running:
    if writer.record.checkpoint_every < 1:
        raise InvalidInput(f"{writer.record.checkpoint_every}, expected at least 1 step.", setting="checkpoint_every")
    again = resume and (writer.path / CONFIG).exists()
    checkpoint = checkpoints.checkpoint_of(writer.path, writer.config) if resume else None
    if checkpoint is not None:
        writer.resume(checkpoint)
    else:
        if again and start is None:
            _check_origin(writer.path)
        checkpoint = None if start is None else _as_start(start, writer)
        writer.announce(checkpoint, None if start is None else start.config_sha256)
    yield Started(*_position(writer))
    if again and checkpoint is None:
        yield Warned(*_position(writer), f"{writer.path}: there is no checkpoint yet: starting again.")
    while checkpoint is None or checkpoint.step < writer.config.steps:
        try:
            return (yield from _run_steps(writer, checkpoint, stop))
        except Diverged as error:
            checkpoint = _roll_back(writer, error)
            message = f"{error} Going back to step {checkpoint.step} with half the learning rates."
            yield Warned(*_position(writer), message, error)
    return "done"


def _run_steps(writer: RunWriter, checkpoint: Checkpoint | None, stop: Stop) -> _Running:
    slowed = 0 if checkpoint is None else checkpoint.slowed
    config = replace(writer.config, representation=writer.config.representation.slower(0.5**slowed))
    for step in dream_steps(config, None if checkpoint is None else checkpoint.state):
        changed = writer.note_sources(lifted=checkpoint is None)
        written = writer.add(step, slowed)
        yield Stepped(*_position(writer), step)
        if written:
            yield Saved(*_position(writer), tuple(written))
        for line in changed:
            yield Warned(*_position(writer), f"{line}: the run cannot be repeated exactly.")
        if stop.is_set() and step.index < step.total:
            return "stopped"
    return "done"


def _check_origin(folder: Path) -> None:
    """Refuse to start a run again that began from another run's checkpoint: its settings alone do not repeat it."""
    try:
        origin = read_record(folder).start_sha256
    except FileProblem:  # Nothing is known against it.
        return
    if origin is not None:
        raise FileProblem(
            f"{folder}: its checkpoints are gone, and it started from a checkpoint of another run.",
            advice="Start it from that checkpoint again.",
        )


def _as_start(start: Checkpoint, writer: RunWriter) -> Checkpoint:
    """Another run's checkpoint as the first one of this run."""
    config = writer.config
    if start.step >= config.steps:
        raise InvalidInput(
            f"{config.steps}, but {start.step} steps are done where the run starts.",
            setting="steps", advice=f"Use more than {start.step}.",
        )  # fmt: skip
    views = torch.tensor(config.views)  # A snapshot's own may have been halved, or differ in the other config.
    return Checkpoint(start.state | {"views": views}, start.step, 0.0, 0, writer.config_sha256)


def _roll_back(writer: RunWriter, error: Diverged) -> Checkpoint:
    """The newest checkpoint with half the learning rates; the second time, the error."""
    checkpoint = checkpoints.newest_checkpoint(writer.path) if writer.begun else None
    if checkpoint is None:
        raise error
    writer.resume(checkpoint)
    if checkpoint.slowed:
        raise Diverged(
            f"{error} The run had gone back once before; {writer.path} holds step {checkpoint.step}.",
            advice="Lower the learning rates or `loss.guidance_scale`.",
        ) from error
    slower = replace(checkpoint, slowed=1)
    writer.write_checkpoint(slower)
    return slower


def _position(writer: RunWriter) -> tuple[Path, int, int, float]:
    """The fields that all events have."""
    return writer.path, writer.step, writer.config.steps, writer.seconds
