"""Everything that a run writes into its folder while it goes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from dreamsplat.config import DreamConfig
from dreamsplat.errors import DreamsplatError, FileProblem
from dreamsplat.formats import save
from dreamsplat.method.state import asset_in
from dreamsplat.runs import checkpoints, folder, record
from dreamsplat.runs.checkpoints import Checkpoint
from dreamsplat.runs.folder import Pictures
from dreamsplat.runs.preview import Preview
from dreamsplat.runs.record import Record, State
from dreamsplat.runs.sources import sources_of
from dreamsplat.types import AbstractAsset, Step

REFRESH_SECONDS = 10.0
"""How often asset and preview are written during a run."""

_log = logging.getLogger(__name__)


class RunWriter:
    """Writes one run: `announce` or `resume`, then `add` each step, then `end`. The lock of the folder must be held."""

    def __init__(self, path: Path, config: DreamConfig, checkpoint_every: int, pictures: Pictures) -> None:
        """Write nothing yet."""
        self.path, self.config = path, config
        self.begun = False  # the folder holds this run, and no earlier one
        self.config_sha256 = record.config_sha256(config)
        self.preview = Preview(path, pictures)
        self.record = Record(config.prompt, "running", 0, config.steps, config.seed, checkpoint_every, 0.0)
        self.latest: Checkpoint | None = None  # after the newest step, on disk or not yet
        self.asset: AbstractAsset | None = None  # after the newest step
        self._has_placeholder = self._has_steps = self._has_sources = False
        self._epoch = time.monotonic()
        self._next_refresh = 0.0
        self._written_step = -1

    @property
    def seconds(self) -> float:
        """How long the run has taken, all its parts together."""
        return time.monotonic() - self._epoch

    @property
    def step(self) -> int:
        """Optimisation steps done."""
        return 0 if self.latest is None else self.latest.step

    def announce(self, start: Checkpoint | None, start_sha256: str | None) -> None:
        """Write settings and record into a folder that has none, so that a run killed before its first step is found.

        An earlier run stays as it is until this one has made a step.

        Args:
            start: What the run begins with, if another one made that.
            start_sha256: The hash of that one's settings.
        """
        self.latest, self.record = start, replace(self.record, start_sha256=start_sha256)
        if not (self.path / folder.CONFIG).exists():
            self._has_placeholder = True
            self._write_start()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Return to a checkpoint of this run: metrics beyond it are removed."""
        self.begun = self._has_steps = True
        self.latest, self.asset = checkpoint, asset_in(checkpoint.state, self.config)
        self._written_step = checkpoint.step
        self._epoch = time.monotonic() - checkpoint.seconds
        folder.cut_metrics(self.path, checkpoint.step)
        self.preview.resume()
        with suppress(FileProblem):  # A damaged record is written again.
            old = record.read_record(self.path)
            self.record = replace(self.record, sources=old.sources, start_sha256=old.start_sha256)
        self._write_record("running")

    def note_sources(self, lifted: bool) -> list[str]:
        """Find out what the loaded models and the files are, for the record.

        Args:
            lifted: Whether the 3D prior was loaded; else what it was is known from the record, if at all.

        Returns:
            What is no longer as it was in earlier parts of the run, a line each.
        """
        if self._has_sources:
            return []
        self._has_sources, before = True, self.record
        found = sources_of(self.config, lifted)
        kept = {} if lifted else {"prior3d": before.sources.get("prior3d", {})}
        self.record = replace(before, sources=kept | found)
        return record.differences(before, self.record) if before.sources else []

    def add(self, step: Step, slowed: int) -> list[Path]:
        """Log a step, and write what is due; returns the paths written."""
        if not self.begun:  # Prompt, device and models are good: only now is an earlier run's result given up.
            self._begin()
        self._has_steps = True
        self.latest = Checkpoint(step.snapshot, step.index, self.seconds, slowed, self.config_sha256)
        self.asset = step.asset
        place = {"stage": step.stage, "step": step.index, "seconds": round(self.seconds, 3)}
        folder.append_metrics(self.path, place | step.metrics)
        written: list[Path] = []
        if step.stage == "lift":
            self.preview.begin(step.asset, step.cloud)
        if step.stage == "lift" or time.monotonic() >= self._next_refresh:
            written += self._refresh("now")
        if step.index % self.record.checkpoint_every == 0 or step.index == step.total:
            written.append(self.write_checkpoint(self.latest))
        return written

    def write_checkpoint(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint and the record; returns the path of the checkpoint."""
        self.latest, self._written_step = checkpoint, checkpoint.step
        path = checkpoints.write(self.path, checkpoint)
        self._write_record("running")
        return path

    def end(self, state: Literal["done", "stopped"]) -> tuple[Path, ...]:
        """Write what a run leaves; returns the paths that a person wants to open."""
        assert self.latest is not None and self.asset is not None, "there was a step"
        if self._written_step != self.step:
            self.write_checkpoint(self.latest)
        paths = self._refresh("final" if state == "done" else state)
        if state == "done":
            paths.append(self.preview.write_film(self.asset))
        self._write_record(state)
        return tuple(paths)

    def end_after(self, error: BaseException) -> None:
        """Write what a run leaves that an error ended, as far as it can be written; what cannot is logged."""
        if not self._has_steps:
            return self._remove_placeholder()
        state: State = "failed" if isinstance(error, Exception) else "stopped"  # by Ctrl-C, or a consumer that left
        told = str(error) if isinstance(error, DreamsplatError) else f"{type(error).__name__}: {error}"
        parts: list[Callable[[], object]] = [
            lambda: self._refresh(state),
            lambda: self._write_record(state, told if state == "failed" else None),
        ]
        if self.latest is not None and self._written_step != self.step:
            parts.insert(0, partial(self.write_checkpoint, self.latest))
        for part in parts:
            try:
                part()
            except DreamsplatError as problem:
                _log.warning("%s", problem)
        return None

    def _begin(self) -> None:
        """Replace what an earlier run left by what this one starts with."""
        old = [self.path / name for name in folder.OUTPUTS]
        for path in (*old, *checkpoints.newest_first(self.path)):
            path.unlink(missing_ok=True)
        self.begun = True
        self._write_start()

    def _write_start(self) -> None:
        """Write settings, record and, where another run made it, the state that the run starts from."""
        folder.write_config(self.path, self.config)
        self._write_record("running")
        if self.latest is not None:
            self.asset = asset_in(self.latest.state, self.config)
            self.preview.begin(self.asset, None)
            self.write_checkpoint(self.latest)

    def _remove_placeholder(self) -> None:
        """Remove what `announce` wrote for a run that came to nothing."""
        if self._has_placeholder:
            started = [] if self.latest is None else [checkpoints.path_of(self.path, self.latest.step)]
            names = (folder.CONFIG, folder.RECORD, folder.FIRST_ROWS)
            for path in (*(self.path / name for name in names), *started):
                path.unlink(missing_ok=True)

    def _refresh(self, word: str) -> list[Path]:
        """Write asset and preview, its last row labelled `word`; returns their paths."""
        assert self.asset is not None, "there is something"
        start = time.monotonic()
        written = []
        if self.asset.own_ending:
            written.append((self.path / folder.ASSET).with_suffix(self.asset.own_ending))
        if not self.asset.own_ending or word != "now":  # Making Gaussians of it may take seconds.
            written.append(self.path / folder.ASSET)
        for path in written:
            save(self.asset, path)
        preview = self.preview.write(self.asset, word, self.step, self.config.steps)
        # On a slow renderer pictures may take long: never more than a tenth of the time goes into them.
        self._next_refresh = time.monotonic() + max(REFRESH_SECONDS, 9 * (time.monotonic() - start))
        return [*written, preview]

    def _write_record(self, state: State, why: str | None = None) -> None:
        record.write_record(self.path, replace(self.record, state=state, why=why, step=self.step, seconds=self.seconds))
