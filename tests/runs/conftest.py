"""Runs that nothing happened to, and runs that were killed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from small_run import events, go_on

from dreamsplat.runs import Started, Stepped


def killed_at(step: int, folder: Path, copy: Path, **settings: Any) -> Path:
    """A copy of a run as SIGKILL leaves it after `step` steps; -1: before its models are loaded."""
    with closing(events(folder, **settings)) as happening:
        for event in happening:
            if (isinstance(event, Stepped) and event.step == step) or (isinstance(event, Started) and step == -1):
                shutil.copytree(folder, copy)
                break
    ended = subprocess.Popen(["true"])
    ended.wait()
    owner = copy / "checkpoints" / "owner.json"
    owner.write_text(json.dumps(json.loads(owner.read_text()) | {"pid": ended.pid}))
    return copy


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("unbroken")
    go_on(folder)
    return folder


@pytest.fixture(scope="session")
def killed_at_33(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after 33 steps, with checkpoints of 25 and 30. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("killed")
    return killed_at(33, folder / "run", folder / "copy")


@pytest.fixture
def killed(killed_at_33: Path, tmp_path: Path) -> Path:
    """A run that was killed after 33 steps, with checkpoints of 25 and 30."""
    return Path(shutil.copytree(killed_at_33, tmp_path / "run"))


@pytest.fixture
def kill_at() -> Callable[..., Path]:
    """`kill_at(step, folder, copy, **settings)`: see `killed_at`."""
    return killed_at
