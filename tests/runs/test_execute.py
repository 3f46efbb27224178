"""A run as events: their order, stopping, consumers that fail, branches, runs that diverge."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from analytic import GaussianDenoiser, GaussianPrior, LearningPrior
from small_run import CONFIG, BallPrior, events, go_on

from dreamsplat import dream_steps
from dreamsplat.errors import Diverged, FileProblem, InvalidInput
from dreamsplat.formats import load
from dreamsplat.guidance import VSD
from dreamsplat.priors2d import AbstractImagePrior
from dreamsplat.runs import (
    Checkpoint,
    Failed,
    Finished,
    Saved,
    Started,
    Stepped,
    Stop,
    Warned,
    holder,
    newest_checkpoint,
    read_checkpoint,
    read_record,
)


def asset(folder: Path) -> bytes:
    return (folder / "asset.ply").read_bytes()


def newest(folder: Path) -> Checkpoint:
    found = newest_checkpoint(folder)
    assert found is not None
    return found


# Events


def test_a_run_is_told_from_its_start_to_its_end(tmp_path: Path) -> None:
    happened = go_on(tmp_path, replace(CONFIG, steps=7))
    assert [type(event) for event in happened] == (
        [Started, Stepped, Saved] + 4 * [Stepped] + [Stepped, Saved, Stepped] + [Stepped, Saved, Finished]
    )
    assert all((event.folder, event.total) == (tmp_path, 7) for event in happened)
    assert [event.step for event in happened if isinstance(event, Stepped)] == list(range(8))
    assert [event.seconds for event in happened] == sorted(event.seconds for event in happened)
    steps = [event.result for event in happened if isinstance(event, Stepped)]
    assert steps[0].stage == "lift" and steps[-1].index == 7
    (last,) = [event for event in happened if isinstance(event, Finished)]
    assert last.state == "done" and {path.name for path in last.paths} > {"asset.ply", "preview.png"}
    assert all(path.exists() for path in last.paths)


def test_what_is_due_is_on_disk_before_its_event(tmp_path: Path) -> None:
    for event in events(tmp_path, replace(CONFIG, steps=10)):
        if isinstance(event, Stepped) and event.step % 5 == 0:
            assert newest(tmp_path).step == event.step == read_record(tmp_path).step
        if isinstance(event, Stepped) and event.step == 0:
            assert (tmp_path / "asset.ply").exists() and (tmp_path / "preview.png").exists()
        if isinstance(event, Saved):
            assert event.paths and all(path.exists() for path in event.paths)


def test_the_lock_is_held_to_the_end_and_not_longer(tmp_path: Path) -> None:
    for event in events(tmp_path, replace(CONFIG, steps=2)):
        assert (holder(tmp_path) is None) == isinstance(event, Finished)


def test_nothing_happens_before_the_first_event_is_asked_for(tmp_path: Path) -> None:
    events(tmp_path / "run").close()
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_the_same_folder_is_an_event_and_leaves_the_first_alone(tmp_path: Path) -> None:
    for event in events(tmp_path, replace(CONFIG, steps=6)):
        if isinstance(event, Stepped) and event.step == 3:
            (refused,) = events(tmp_path, replace(CONFIG, steps=6))
            assert isinstance(refused, Failed) and "another run writes there" in str(refused.error)
    assert read_record(tmp_path).state == "done"


# Stopping


def test_a_run_in_a_thread_is_stopped_from_another(unbroken: Path, tmp_path: Path) -> None:
    stop, reached, happened = Stop(), threading.Event(), []

    def work() -> None:
        for event in events(tmp_path, stop=stop):
            happened.append(event)
            if event.step == 3:
                reached.set()

    worker = threading.Thread(target=work)
    worker.start()
    assert reached.wait(60)
    stop.set()
    worker.join(60)
    last = happened[-1]
    assert isinstance(last, Finished) and last.state == "stopped" and 3 <= last.step < 40
    assert newest(tmp_path).step == last.step == read_record(tmp_path).step
    assert read_record(tmp_path).state == "stopped"
    go_on(tmp_path)
    assert asset(tmp_path) == asset(unbroken)


def test_a_run_that_is_stopped_before_it_starts_leaves_its_first_asset(tmp_path: Path) -> None:
    stop = Stop()
    stop.set()
    last = go_on(tmp_path, stop=stop)[-1]
    assert isinstance(last, Finished) and (last.state, last.step) == ("stopped", 0) and last.paths


@pytest.mark.parametrize("way", ["close", "break", "raise", "forget"])
def test_a_consumer_that_leaves_costs_no_checkpoint(way: str, unbroken: Path, tmp_path: Path) -> None:
    def consume() -> None:
        with closing(events(tmp_path)) as happening:
            for event in happening:
                if event.step == 13:
                    if way == "raise":
                        raise BrokenPipeError
                    return

    if way == "raise":
        with pytest.raises(BrokenPipeError):
            consume()
    elif way == "forget":
        for event in events(tmp_path):
            if event.step == 13:
                break
        gc.collect()
    else:
        consume()
    assert newest(tmp_path).step == 13
    record = read_record(tmp_path)
    assert (record.state, record.step) == ("stopped", 13) and holder(tmp_path) is None
    go_on(tmp_path)
    assert asset(tmp_path) == asset(unbroken)


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt(), "stopped"), (RuntimeError("a fault"), "failed")])
def test_an_error_that_is_nobodys_advice_is_raised_and_leaves_a_run_that_goes_on(
    error: BaseException, state: str, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoise, calls = GaussianDenoiser.denoise, []

    def fail(self: GaussianDenoiser, *arguments: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 14:
            raise error
        return denoise(self, *arguments)

    monkeypatch.setattr(GaussianDenoiser, "denoise", fail)
    with pytest.raises(type(error)):
        go_on(tmp_path)
    record = read_record(tmp_path)
    assert (record.state, record.step) == (state, 13) and newest(tmp_path).step == 13
    assert record.why == ("RuntimeError: a fault" if state == "failed" else None)
    go_on(tmp_path)
    assert asset(tmp_path) == asset(unbroken)


# What an earlier run left


class NoPrior(GaussianPrior):
    """A prior whose weights are missing."""

    def load(self, device: torch.device) -> AbstractImagePrior:
        raise InvalidInput("no weights.", setting="prior2d.weights")


@pytest.mark.parametrize("name", ["n" * 5000, "a/" * 2500])
def test_a_name_that_no_folder_can_have_is_an_event(tmp_path: Path, name: str) -> None:
    (failed,) = events(tmp_path / name)
    assert isinstance(failed, Failed) and isinstance(failed.error, FileProblem) and "too long" in str(failed.error)


def test_a_run_that_could_not_start_leaves_nothing(tmp_path: Path) -> None:
    started, failed = events(tmp_path / "run", replace(CONFIG, prior2d=NoPrior()))
    assert isinstance(started, Started) and isinstance(failed, Failed)
    assert failed.error.setting == "prior2d.weights" and not (tmp_path / "run").exists()


def test_a_run_that_could_not_start_keeps_an_earlier_one(killed: Path) -> None:
    before = {path: path.read_bytes() for path in killed.rglob("*") if path.is_file() and path.name != "owner.json"}
    *_, failed = events(killed, replace(CONFIG, prior2d=NoPrior()), resume=False)
    assert isinstance(failed, Failed)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_run_that_could_not_start_keeps_files_that_are_no_run(tmp_path: Path) -> None:
    names = ("asset.ply", "metrics.jsonl", "checkpoints/step-0000007.safetensors")
    (tmp_path / "checkpoints").mkdir()
    for name in names:
        (tmp_path / name).write_text("mine")
    *_, failed = events(tmp_path, replace(CONFIG, prior2d=NoPrior()), resume=False)
    assert isinstance(failed, Failed) and all((tmp_path / name).read_text() == "mine" for name in names)
    assert not (tmp_path / "config.json").exists() and not (tmp_path / "run.json").exists()


def test_a_run_that_starts_replaces_an_earlier_one(unbroken: Path, killed: Path) -> None:
    (killed / "notes.txt").write_text("mine")
    go_on(killed, resume=False)
    assert asset(killed) == asset(unbroken) and (killed / "notes.txt").read_text() == "mine"
    assert len((killed / "metrics.jsonl").read_text().splitlines()) == 41


@pytest.mark.parametrize("every", [0, -5])
def test_checkpoints_without_distance_are_refused(tmp_path: Path, every: int) -> None:
    (failed,) = events(tmp_path / "run", checkpoint_every=every)
    assert isinstance(failed, Failed) and failed.error.setting == "checkpoint_every"
    assert not (tmp_path / "run").exists()


# Branches


def test_a_branch_begins_where_another_run_was_with_settings_of_its_own(unbroken: Path, tmp_path: Path) -> None:
    start = read_checkpoint(unbroken / "checkpoints" / "step-0000035.safetensors")
    config = replace(CONFIG, prompt="another thing", steps=50, views=3, prior3d=NoCloud())
    happened = go_on(tmp_path / "branch", config, start=start)
    steps = [event for event in happened if isinstance(event, Stepped)]
    assert happened[0].step == 35 and [event.step for event in steps] == list(range(36, 51))
    assert {event.result.metrics["views"] for event in steps} == {3}
    record = read_record(tmp_path / "branch")
    assert (record.state, record.step, record.prompt) == ("done", 50, "another thing")
    assert record.start_sha256 == start.config_sha256 == newest(unbroken).config_sha256


@dataclass(frozen=True)
class NoCloud(BallPrior):
    """A 3D prior that a branch does not need."""

    def load(self, device: torch.device):  # noqa: ANN202
        pytest.fail("a branch has its object already")


def test_a_branch_that_changes_nothing_is_the_run_itself(unbroken: Path, tmp_path: Path) -> None:
    start = read_checkpoint(unbroken / "checkpoints" / "step-0000035.safetensors")
    go_on(tmp_path, start=start)
    assert asset(tmp_path) == asset(unbroken)


def test_a_branch_is_resumed_from_its_own_checkpoints(unbroken: Path, tmp_path: Path) -> None:
    start = read_checkpoint(unbroken / "checkpoints" / "step-0000035.safetensors")
    config = replace(CONFIG, steps=50)
    go_on(tmp_path / "whole", config, start=start)
    for event in events(tmp_path / "parts", config, start=start):
        if event.step == 38:
            break
    happened = go_on(tmp_path / "parts", config)
    assert isinstance(happened[0], Started) and happened[0].step == 38
    assert asset(tmp_path / "parts") == asset(tmp_path / "whole")
    assert read_record(tmp_path / "parts").start_sha256 == start.config_sha256


def test_a_branch_killed_before_its_first_step_goes_on_where_it_started(
    unbroken: Path, tmp_path: Path, kill_at: Callable[..., Path]
) -> None:
    start = read_checkpoint(unbroken / "checkpoints" / "step-0000035.safetensors")
    killed = kill_at(-1, tmp_path / "run", tmp_path / "killed", start=start)
    assert not (tmp_path / "run").exists()  # Its consumer left before there was anything.
    started, *_ = go_on(killed)
    assert started.step == 35 and asset(killed) == asset(unbroken)


def test_a_branch_that_lost_its_checkpoints_does_not_start_again_as_something_else(
    unbroken: Path, tmp_path: Path
) -> None:
    go_on(tmp_path, start=newest(unbroken), config=replace(CONFIG, steps=42))
    for path in (tmp_path / "checkpoints").glob("step-*"):
        path.unlink()
    with pytest.raises(FileProblem, match="started from a checkpoint of another run"):
        go_on(tmp_path, replace(CONFIG, steps=42))
    assert (tmp_path / "asset.ply").exists()


def test_a_branch_may_have_another_loss(unbroken: Path, tmp_path: Path) -> None:
    start = read_checkpoint(unbroken / "checkpoints" / "step-0000035.safetensors")
    config = replace(CONFIG, loss=VSD(guidance_scale=1.0), prior2d=LearningPrior(mean=0.8, spread=0.3))
    go_on(tmp_path, config, start=start)
    assert newest(tmp_path).state["learned.updates"] == 5


@pytest.mark.parametrize("steps", [35, 10])
def test_a_branch_without_a_step_to_do_is_refused(unbroken: Path, tmp_path: Path, steps: int) -> None:
    start = read_checkpoint(unbroken / "checkpoints" / "step-0000035.safetensors")
    (failed,) = events(tmp_path / "run", replace(CONFIG, steps=steps), start=start)
    assert isinstance(failed, Failed) and failed.error.setting == "steps" and "35" in str(failed.error)
    assert not (tmp_path / "run").exists()


# Diverging


CALLS: list[int] = []


@dataclass(frozen=True)
class Faulty(GaussianPrior):
    """Answers 22 times, then `faults` times with nonsense."""

    faults: int = 1

    def load(self, device: torch.device) -> AbstractImagePrior:
        prior = GaussianDenoiser(self)
        denoise = prior.denoise

        def sometimes(z_noisy: torch.Tensor, sigma: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            CALLS.append(len(CALLS))
            wrong = 22 < len(CALLS) <= 22 + self.faults
            return denoise(z_noisy, sigma, condition) * (float("nan") if wrong else 1)

        prior.denoise = sometimes  # type: ignore[method-assign]
        return prior


def test_a_run_that_diverges_goes_back_once_with_half_the_rates(tmp_path: Path) -> None:
    CALLS.clear()
    happened = go_on(tmp_path, replace(CONFIG, prior2d=Faulty()))
    (warned,) = [event for event in happened if isinstance(event, Warned)]
    assert "step 22: the gradient of the loss holds a number that is not finite" in warned.message
    assert "step 20 with half" in warned.message and isinstance(warned.error, Diverged) and warned.step == 20
    assert (newest(tmp_path).step, newest(tmp_path).slowed) == (40, 1)
    assert read_record(tmp_path).state == "done"
    assert [json.loads(x)["step"] for x in (tmp_path / "metrics.jsonl").read_text().splitlines()] == list(range(41))


def test_the_second_time_it_ends_with_an_error_and_a_valid_asset(tmp_path: Path) -> None:
    CALLS.clear()
    with pytest.raises(Diverged, match="had gone back once before.* holds step 20"):
        go_on(tmp_path, replace(CONFIG, prior2d=Faulty(faults=99)))
    assert bool(load(tmp_path / "asset.ply").means.isfinite().all())
    record = read_record(tmp_path)
    assert (record.state, record.step) == ("failed", 20)
    assert record.why is not None and "not finite" in record.why


def test_an_object_that_vanishes_is_noticed() -> None:
    splats = CONFIG.representation
    faint = replace(splats, rates=replace(splats.rates, opacities=0.0), lift=replace(splats.lift, opacity=0.001))
    with pytest.raises(Diverged, match="nothing is left"):
        list(dream_steps(replace(CONFIG, representation=faint)))


def test_too_many_gaussians_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamsplat.representations.splat_model.MOST_GAUSSIANS", 200)
    with pytest.raises(Diverged, match="over 200"):
        list(dream_steps(CONFIG))
