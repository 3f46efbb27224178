"""Runs that survive: resumed, killed, gone astray, out of disk, fought over."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from analytic import GaussianDenoiser, GaussianPrior
from small_run import CONFIG, go_on

from dreamsplat import dream_steps
from dreamsplat.commands import main, rerun
from dreamsplat.config import DreamConfig
from dreamsplat.errors import Diverged, FileProblem, InvalidInput
from dreamsplat.formats import load
from dreamsplat.guidance import VSD
from dreamsplat.presets import PRESETS
from dreamsplat.priors2d import AbstractImagePrior
from dreamsplat.runs import checkpoints, execute
from dreamsplat.runs import record as records
from dreamsplat.runs.folder import RunFolder
from dreamsplat.runs.lock import holder, locked
from dreamsplat.runs.summary import describe, find_runs

HERE = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("unbroken")
    go_on(folder)
    return folder


def asset(folder: Path) -> bytes:
    return (folder / "asset.ply").read_bytes()


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    """Raise an error once, when the run has done so many steps."""
    real = execute.dream_steps
    raised = []

    def steps(config: DreamConfig, state: Any):
        for one in real(config, state):
            if one.index == step and not raised:
                raised.append(step)
                raise error
            yield one

    monkeypatch.setattr(execute, "dream_steps", steps)


@pytest.fixture
def died(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of a run that died after 33 steps, with checkpoints of 25 and 30."""
    original = tmp_path_factory.getbasetemp() / "died"
    if not original.exists():
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, 33, RuntimeError("killed"))
            with pytest.raises(RuntimeError):
                go_on(original)
    return Path(shutil.copytree(original, tmp_path / "run"))


# Going on


@pytest.mark.parametrize("at", [0, 1, 17, 39, 40])
def test_a_snapshot_goes_on_bit_for_bit(at: int) -> None:
    whole = list(dream_steps(CONFIG))
    state = next(step for step in dream_steps(CONFIG) if step.index == at).snapshot
    rest = list(dream_steps(CONFIG, state))
    assert [step.index for step in rest] == list(range(at + 1, 41))
    if rest:
        pairs = zip(vars(rest[-1].gaussians).values(), vars(whole[-1].gaussians).values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert rest[-1].metrics == whole[-1].metrics


def test_a_snapshot_stays_what_it_was_while_the_run_goes_on() -> None:
    steps = dream_steps(CONFIG)
    state = next(steps).snapshot
    kept = {name: tensor.clone() for name, tensor in state.items()}
    list(steps)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


@pytest.mark.parametrize("at", [0, 3, 20, 38])
def test_a_run_that_dies_anywhere_and_is_resumed_gives_the_same_files(
    at: int, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, at, RuntimeError("killed"))
        with pytest.raises(RuntimeError):
            go_on(tmp_path)
    go_on(tmp_path)
    for name in ("asset.ply", "preview.png", "config.json"):
        assert (tmp_path / name).read_bytes() == (unbroken / name).read_bytes(), name
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(41))


def test_resuming_a_finished_run_changes_nothing(unbroken: Path) -> None:
    before = asset(unbroken)
    go_on(unbroken)
    assert asset(unbroken) == before and records.read(unbroken)["state"] == "done"


def kill_until_done(folder: Path, steps: int, kills: int, seed: int) -> int:
    """Start the run again and again, and kill it at random moments, `kills` times; then let it end."""
    chance = random.Random(seed)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "small_run.py"), str(folder), str(steps)]
    done = 0
    while done < kills:
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
        start, seen = time.monotonic(), set((folder / "checkpoints").glob("*")) if folder.exists() else set()
        # The clock starts when the run has written something new: before that only Python and torch start.
        while process.poll() is None and time.monotonic() - start < 60:
            if folder.exists() and set((folder / "checkpoints").glob("*.safetensors")) - seen:
                break
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        _, error = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), error.decode()
        done += 1
        if process.returncode == 0:
            break
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stderr
    return done


def test_two_kills_leave_no_trace_in_the_result(tmp_path: Path) -> None:
    assert kill_until_done(tmp_path / "run", 250, kills=2, seed=0) == 2
    go_on(tmp_path / "whole", replace(CONFIG, steps=250))
    assert asset(tmp_path / "run") == asset(tmp_path / "whole")


@pytest.mark.slow
def test_twenty_kills_leave_no_trace_in_the_result(tmp_path: Path) -> None:
    assert kill_until_done(tmp_path / "run", 4000, kills=20, seed=1) == 20
    go_on(tmp_path / "whole", replace(CONFIG, steps=4000))
    assert asset(tmp_path / "run") == asset(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_leaves_asset_checkpoint_and_the_command_to_go_on(
    number: int, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = execute.dream_steps

    def steps(config: DreamConfig, state: Any):
        for one in real(config, state):
            if one.index == 13 and state is None:
                os.kill(os.getpid(), number)
            yield one

    monkeypatch.setattr(execute, "dream_steps", steps)
    with pytest.raises(execute.Stopped) as stopped:
        go_on(tmp_path)
    assert stopped.value.exit_code == 128 + number
    newest = checkpoints.read_newest(tmp_path)
    assert newest is not None and newest.step == 13
    assert len(load(tmp_path / "asset.ply")) > 0 and records.read(tmp_path)["state"] == "stopped"
    go_on(tmp_path)
    assert asset(tmp_path) == asset(unbroken)


# Checkpoints


def test_the_newest_two_checkpoints_are_kept(unbroken: Path) -> None:
    names = sorted(path.name for path in (unbroken / "checkpoints").glob("step-*"))
    assert names == ["step-0000035.safetensors", "step-0000040.safetensors"]


@pytest.mark.parametrize("damage", [b"", b"\x00" * 50, "cut", "flip in the header", "flip in the numbers"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_and_says_so(
    damage: Any, unbroken: Path, died: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = died / "checkpoints" / "step-0000030.safetensors"
    content = path.read_bytes()
    changed = {
        "cut": content[: len(content) // 2],
        "flip in the header": content[:20] + b"~" + content[21:],
        "flip in the numbers": content[:-99] + bytes([content[-99] ^ 1]) + content[-98:],
    }
    path.write_bytes(changed.get(damage, damage))
    go_on(died)
    assert any("step-0000030" in r.message and "damaged" in r.message for r in caplog.records)
    assert asset(died) == asset(unbroken)


def test_only_damaged_checkpoints_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for step in (5, 10):
        (tmp_path / "checkpoints" / f"step-{step:07d}.safetensors").write_bytes(b"nonsense")
    with pytest.raises(FileProblem, match="--overwrite"):
        go_on(tmp_path)


def test_a_full_disk_ends_in_one_line_and_leaves_the_last_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = checkpoints.save_file, []

    def save(tensors: Any, path: Path, metadata: Any) -> None:
        if len(written) == 3:
            Path(path).write_bytes(b"half of i")
            raise OSError(28, "No space left on device")
        written.append(path)
        real(tensors, path, metadata)

    monkeypatch.setattr(checkpoints, "save_file", save)
    with pytest.raises(FileProblem, match="No space left on device"):
        go_on(tmp_path)
    newest = checkpoints.read_newest(tmp_path)
    assert newest is not None and newest.step == 10  # after 0 and 5
    assert not list((tmp_path / "checkpoints").glob("*.tmp*")) and not list((tmp_path / "checkpoints").glob(".*"))
    assert len(load(tmp_path / "asset.ply")) > 0


JUNK = [b"", b"\x00" * 50, b"\xff{}[\n", b"[]\n{}\n3}\n", "half"]


@pytest.mark.parametrize("damage", JUNK)
@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "run.json", "checkpoints/first-rows.safetensors", "checkpoints/lock"]
)
def test_whatever_else_of_a_run_is_damaged_it_goes_on(name: str, damage: Any, unbroken: Path, died: Path) -> None:
    path = died / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "half" else damage)
    assert describe(died)["state"] == ("damaged" if name == "run.json" else "died")
    go_on(died)
    assert asset(died) == asset(unbroken)
    steps = [json.loads(line)["step"] for line in (died / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-10:] == list(range(31, 41))


def test_a_run_killed_before_its_first_step_goes_on_and_is_listed(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "forget", lambda folder: None)  # SIGKILL leaves no time for it.
        patch.setattr(execute, "dream_steps", lambda config, state: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            go_on(tmp_path)
    assert describe(tmp_path)["state"] == "died" and (tmp_path / "config.json").exists()
    go_on(tmp_path)
    assert asset(tmp_path) == asset(unbroken)
    assert any("no checkpoint yet: beginning anew" in record.message for record in caplog.records)


def test_what_a_killed_writer_left_is_removed_and_nothing_else(died: Path) -> None:
    ours = [".preview.4711.tmp.png", "checkpoints/.step-0000035.4711.tmp.safetensors", ".run.1.tmp.json"]
    others = [".gitignore", "notes.tmp", ".notes.tmp", ".a.b.tmp.png"]
    for name in ours + others:
        (died / name).write_text("half a f")
    go_on(died)
    assert [name for name in ours + others if (died / name).exists()] == others


def test_a_run_that_could_not_begin_leaves_nothing(tmp_path: Path) -> None:
    few = ["--steps", "1", "--device", "cpu"]
    assert main(["generate", "a red dinosaur", "--out", str(tmp_path / "run"), *few]) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", [{"seed": 5}, {"steps": 60}])
def test_settings_that_were_changed_between_are_noticed(died: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="not the settings that its checkpoints were made with"):
        go_on(died, replace(CONFIG, **change))
    go_on(died)


def test_a_folder_in_the_place_of_a_checkpoint_is_passed_over(unbroken: Path, died: Path) -> None:
    (died / "checkpoints" / "step-0000030.safetensors").unlink()
    (died / "checkpoints" / "step-0000030.safetensors").mkdir()
    with pytest.raises(FileProblem, match="step-0000030"):  # It is in the way of the next one.
        go_on(died)
    (died / "checkpoints" / "step-0000030.safetensors").rmdir()
    go_on(died)
    assert asset(died) == asset(unbroken)


# Going astray


class Faulty(GaussianPrior):
    """Answers 22 times, then with nonsense, as often as `resolution` says beyond 16."""

    def load(self, device: torch.device) -> AbstractImagePrior:
        prior, faults = GaussianDenoiser(self), self.resolution - 16
        prior.resolution = 16
        denoise = prior.denoise

        def sometimes(z_noisy, sigma, condition):
            CALLS.append(len(CALLS))
            wrong = 22 < len(CALLS) <= 22 + faults
            return denoise(z_noisy, sigma, condition) * (float("nan") if wrong else 1)

        prior.denoise = sometimes
        return prior


CALLS: list[int] = []


def test_a_run_that_goes_astray_is_set_back_once_with_half_the_rates(tmp_path: Path, caplog) -> None:
    CALLS.clear()
    go_on(tmp_path, replace(CONFIG, prior2d=Faulty(resolution=17)))  # type: ignore[arg-type]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert (
        "step 22: the gradient of the loss holds a number that is not finite" in warning
        and "step 20 with half" in warning
    )
    newest = checkpoints.read_newest(tmp_path)
    assert newest is not None and (newest.step, newest.slowed) == (40, 1)
    assert records.read(tmp_path)["state"] == "done"
    assert [json.loads(x)["step"] for x in (tmp_path / "metrics.jsonl").read_text().splitlines()] == list(range(41))


def test_the_second_time_it_ends_with_an_error_and_a_valid_asset(tmp_path: Path) -> None:
    CALLS.clear()
    with pytest.raises(Diverged, match="set back once before"):
        go_on(tmp_path, replace(CONFIG, prior2d=Faulty(resolution=99)))  # type: ignore[arg-type]
    assert bool(load(tmp_path / "asset.ply").means.isfinite().all())
    record = records.read(tmp_path)
    assert (record["state"], record["step"]) == ("failed", 20)
    assert "not finite" in record["why"]


def test_an_object_that_vanishes_is_noticed() -> None:
    splats = CONFIG.representation
    faint = replace(splats, rates=replace(splats.rates, opacities=0.0), lift=replace(splats.lift, opacity=0.001))
    fading = replace(CONFIG, representation=faint)
    with pytest.raises(Diverged, match="nothing is left"):
        list(dream_steps(fading))


def test_too_many_gaussians_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamsplat.representations.splat_model.MOST_GAUSSIANS", 200)
    with pytest.raises(Diverged, match="over 200"):
        list(dream_steps(CONFIG))


# One writer


def test_a_second_writer_is_refused_by_name_and_the_first_goes_on(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert f"process {os.getpid()}" in (holder(tmp_path) or "")
        with pytest.raises(FileProblem, match=f"process {os.getpid()}"), locked(tmp_path):
            pass
        assert holder(tmp_path) is not None
    assert holder(tmp_path) is None
    with locked(tmp_path):
        pass


def test_the_lock_of_a_dead_process_is_taken_over_and_explained(tmp_path: Path, caplog) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "lock").write_text('{"pid": 4194304, "host": "elsewhere", "since": "yesterday"}')
    with locked(tmp_path):
        pass
    assert any("process 4194304 on elsewhere" in record.getMessage() for record in caplog.records)


# Records


@pytest.mark.parametrize("name", PRESETS)
def test_a_configuration_survives_json(name: str) -> None:
    config = replace(PRESETS[name], prompt="a fox")
    assert DreamConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    losing = replace(config, loss=VSD())
    assert DreamConfig.from_json(json.loads(json.dumps(losing.to_json()))) == losing


@pytest.mark.parametrize("change", [{"steps": "many"}, {"loss": {"kind": "None"}}, {"extra": 1}])
def test_a_configuration_of_another_version_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"^{next(iter(change))}"):
        DreamConfig.from_json(PRESETS["bundled"].to_json() | change)


def test_runs_are_listed_with_what_became_of_them(unbroken: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    stop_at(monkeypatch, 7, RuntimeError("killed"))
    with pytest.raises(RuntimeError):
        go_on(tmp_path / "broken")
    assert describe(unbroken)["state"] == "done" and describe(unbroken)["step"] == 40
    assert describe(tmp_path / "broken")["state"] == "died"
    assert find_runs(tmp_path) == [tmp_path / "broken"]
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "died" in out and "5/40" in out and "anything" in out and "preview.png" in out
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "broken" / "run.json").write_text("{}")
    assert main(["runs", str(tmp_path)]) == 0
    assert "damaged" in capsys.readouterr().out


@pytest.mark.parametrize("same", [True, False])
def test_a_rerun_tells_whether_the_result_is_identical(same: bool, tmp_path: Path, capsys) -> None:
    few = "--steps 2 --prior3d.sampling-steps 3 --prior3d.points 512 --device cpu --checkpoint-every 2".split()
    assert main(["generate", "a red mushroom", "--out", str(tmp_path / "run"), *few]) == 0
    if not same:
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"seed": 5}))
    assert main(["rerun", str(tmp_path / "run")]) == (0 if same else 1)
    assert ("identical" if same else "different") in capsys.readouterr().out
    assert json.loads((tmp_path / "run-rerun" / "run.json").read_text())["checkpoint_every"] == 2
    assert (tmp_path / "run-rerun" / "asset.ply").exists()


def test_a_rerun_of_an_asset_that_was_changed_is_refused(died: Path, capsys) -> None:
    go_on(died)
    (died / "config.json").write_text(json.dumps(PRESETS["bundled"].to_json()))
    for change in (lambda path: path.write_bytes(b"hi"), Path.unlink):
        change(died / "asset.ply")
        assert main(["rerun", str(died)]) == 2
        assert "is gone, or not what the run made" in capsys.readouterr().err


def test_a_rerun_that_is_stopped_says_how_to_repeat_it(tmp_path: Path, monkeypatch, capsys) -> None:
    few = "--steps 2 --prior3d.sampling-steps 3 --prior3d.points 512 --device cpu".split()
    assert main(["generate", "a red mushroom", "--out", str(tmp_path / "run"), *few]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(rerun, "carry_out", lambda *arguments: (_ for _ in ()).throw(execute.Stopped(signal.SIGTERM)))
        assert main(["rerun", str(tmp_path / "run")]) == 143
    assert f"dreamsplat rerun {tmp_path / 'run'} --overwrite" in capsys.readouterr().err
    assert main(["rerun", str(tmp_path / "run"), "--overwrite"]) == 0


def test_a_folder_of_somebody_else_does_not_hide_the_runs_beside_it(
    unbroken: Path, tmp_path: Path, monkeypatch
) -> None:
    shutil.copytree(unbroken, tmp_path / "mine")
    (tmp_path / "theirs").mkdir()
    real = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent.name == "theirs":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    assert find_runs(tmp_path) == [tmp_path / "mine"]


def test_the_command_resumes_a_run_and_names_a_folder_that_is_none(tmp_path: Path, capsys, monkeypatch) -> None:
    few = "--steps 6 --prior3d.sampling-steps 3 --prior3d.points 512 --device cpu --checkpoint-every 2".split()
    with monkeypatch.context() as patch:
        stop_at(patch, 5, KeyboardInterrupt())
        assert main(["generate", "a red mushroom", "--out", str(tmp_path / "run"), *few]) == 130
    assert f"dreamsplat generate --resume {tmp_path / 'run'}" in capsys.readouterr().err
    assert main(["generate", "--resume", str(tmp_path / "run")]) == 0
    assert main(["generate", "a red mushroom", "--out", str(tmp_path / "whole"), *few]) == 0
    assert asset(tmp_path / "run") == asset(tmp_path / "whole")
    assert main(["generate", "--resume", str(tmp_path)]) == 2
    assert "not the folder of a run" in capsys.readouterr().err


def test_a_folder_of_a_run_without_checkpoint_begins_anew(unbroken: Path, tmp_path: Path) -> None:
    RunFolder(tmp_path, new=False).start(json.dumps(CONFIG.to_json()))
    go_on(tmp_path)
    assert asset(tmp_path) == asset(unbroken)
