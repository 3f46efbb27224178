"""Runs that go on: from a snapshot, after a kill, after a stop, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from analytic import GaussianDenoiser, GaussianPrior, LearningPrior
from small_run import CONFIG, CONFIGS, events, go_on

from dreamsplat import dream_steps
from dreamsplat.errors import InvalidInput
from dreamsplat.formats.field_file import read_field
from dreamsplat.guidance import VSD
from dreamsplat.priors2d import AbstractImagePrior
from dreamsplat.runs import Finished, Started, Stepped, Warned, newest_checkpoint, read_record, summarise

HERE = Path(__file__).parent.parent
MOST_CALLS = 60_000
"""Of functions until a run is killed; a step is about 3,000."""


def asset(folder: Path) -> bytes:
    return (folder / "asset.ply").read_bytes()


def steps_logged(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("representation", CONFIGS)
@pytest.mark.parametrize("at", [0, 1, 17, 39, 40])
def test_a_snapshot_goes_on_bit_for_bit(at: int, representation: str) -> None:
    config = CONFIGS[representation]
    whole = list(dream_steps(config))
    state = next(step for step in dream_steps(config) if step.index == at).snapshot
    rest = list(dream_steps(config, state))
    assert [step.index for step in rest] == list(range(at + 1, 41))
    if rest:
        last, expected = rest[-1].asset.tensors(), whole[-1].asset.tensors()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in last.items())
        assert rest[-1].metrics == whole[-1].metrics


def test_a_snapshot_stays_what_it_was_while_the_run_goes_on() -> None:
    steps = dream_steps(CONFIG)
    state = next(steps).snapshot
    kept = {name: tensor.clone() for name, tensor in state.items()}
    list(steps)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


@pytest.mark.parametrize("at", [-1, 0, 3, 20, 38])
def test_a_run_that_is_killed_anywhere_and_resumed_gives_the_same_files(
    at: int, unbroken: Path, tmp_path: Path, kill_at: Callable[..., Path]
) -> None:
    killed = kill_at(at, tmp_path / "run", tmp_path / "killed")
    assert summarise(killed).state == "died"
    go_on(killed)
    for name in ("asset.ply", "preview.png", "config.json"):
        assert (killed / name).read_bytes() == (unbroken / name).read_bytes(), name
    assert steps_logged(killed) == list(range(41))


def test_a_run_killed_before_its_first_checkpoint_says_that_it_starts_again(
    tmp_path: Path, kill_at: Callable[..., Path]
) -> None:
    killed = kill_at(-1, tmp_path / "run", tmp_path / "killed")
    started, warned, *_ = go_on(killed)
    assert isinstance(started, Started) and started.step == 0
    assert isinstance(warned, Warned) and "no checkpoint yet: starting again" in warned.message


def test_resuming_a_finished_run_loads_nothing_and_changes_nothing(killed: Path, monkeypatch) -> None:
    go_on(killed)
    before = asset(killed)
    monkeypatch.setattr(GaussianPrior, "load", lambda self, device: pytest.fail("loaded"))
    assert [type(event) for event in go_on(killed)] == [Started, Finished]
    assert asset(killed) == before and read_record(killed).state == "done"


def kill_until_done(folder: Path, representation: str, steps: int, kills: int, seed: int) -> None:
    """Start the run again and again; each part kills itself after a random number of calls; then let it end."""
    chance = random.Random(seed)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "small_run.py"), str(folder), representation, str(steps)]
    for _ in range(kills):
        calls = str(chance.randrange(MOST_CALLS))
        killed = subprocess.run([*command, calls], env=environment, capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("representation", CONFIGS)
@pytest.mark.parametrize(("steps", "kills"), [(100, 2), pytest.param(600, 20, marks=pytest.mark.slow)])
def test_kills_at_any_moment_leave_no_trace_in_the_result(
    tmp_path: Path, representation: str, steps: int, kills: int
) -> None:
    kill_until_done(tmp_path / "run", representation, steps, kills, seed=kills)
    go_on(tmp_path / "whole", replace(CONFIGS[representation], steps=steps))
    assert asset(tmp_path / "run") == asset(tmp_path / "whole")
    if representation == "voxel-field":
        runs = [read_field(tmp_path / name / "asset.safetensors") for name in ("run", "whole")]
        assert torch.equal(*(field.grid for field in runs))


JUNK = [b"", b"\x00" * 50, b"\xff{}[\n", b"[]\n{}\n3}\n", "half"]


@pytest.mark.parametrize("damage", JUNK)
@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "run.json", "checkpoints/first-rows.safetensors", "checkpoints/owner.json"]
)
def test_whatever_else_of_a_run_is_damaged_it_goes_on(name: str, damage: Any, unbroken: Path, killed: Path) -> None:
    path = killed / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "half" else damage)
    assert summarise(killed).state == ("damaged" if name == "run.json" else "died")
    go_on(killed)
    assert asset(killed) == asset(unbroken)
    steps = steps_logged(killed)
    assert steps == sorted(set(steps)) and steps[-10:] == list(range(31, 41))


def test_what_a_killed_writer_left_is_removed_and_nothing_else(killed: Path) -> None:
    ours = [".preview.4711.tmp.png", "checkpoints/.step-0000035.4711.tmp.safetensors", ".run.1.tmp.json"]
    others = [".gitignore", "notes.tmp", ".notes.tmp", ".a.b.tmp.png"]
    for name in ours + others:
        (killed / name).write_text("half a f")
    go_on(killed)
    assert [name for name in ours + others if (killed / name).exists()] == others


@pytest.mark.parametrize("change", [{"seed": 5}, {"steps": 60}])
def test_settings_that_were_changed_between_are_noticed(killed: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="not the settings that its checkpoints were made with"):
        go_on(killed, replace(CONFIG, **change))
    assert read_record(killed).step == 30
    go_on(killed)


# Losses and devices with a state of their own


def test_a_vsd_run_is_resumed_with_what_its_second_network_learned(tmp_path: Path) -> None:
    config = replace(CONFIG, loss=VSD(guidance_scale=1.0), prior2d=LearningPrior(mean=0.8, spread=0.3), steps=20)
    go_on(tmp_path / "whole", config)
    for event in events(tmp_path / "parts", config):
        if isinstance(event, Stepped) and event.step == 8:
            break
    middle = newest_checkpoint(tmp_path / "parts")
    assert middle is not None and middle.step == 8 and middle.state["learned.updates"] == 8
    go_on(tmp_path / "parts", config)
    assert asset(tmp_path / "parts") == asset(tmp_path / "whole")


class FullOnce(GaussianPrior):
    """A prior on a device whose memory is full, once, with two views."""

    def load(self, device: torch.device) -> AbstractImagePrior:
        prior = GaussianDenoiser(self)
        denoise = prior.denoise

        def sometimes(z_noisy: torch.Tensor, sigma: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            if len(z_noisy) == 2 and prior.calls == 6:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return denoise(z_noisy, sigma, condition)

        prior.denoise = sometimes  # type: ignore[method-assign]
        return prior


def test_a_run_whose_views_were_halved_goes_on_with_half_of_them(tmp_path: Path) -> None:
    config = replace(CONFIG, prior2d=FullOnce(mean=0.8, spread=0.3), steps=20)
    views = [event.result.metrics["views"] for event in go_on(tmp_path / "whole", config)
             if isinstance(event, Stepped) and event.step]  # fmt: skip
    assert views == [2] * 6 + [1] * 14
    for event in events(tmp_path / "parts", config):
        if isinstance(event, Stepped) and event.step == 9:
            break
    rest = [event.result.metrics["views"] for event in go_on(tmp_path / "parts", config) if isinstance(event, Stepped)]
    assert rest == [1] * 11
    assert asset(tmp_path / "parts") == asset(tmp_path / "whole")
