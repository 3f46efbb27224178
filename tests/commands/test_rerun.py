"""The commands about runs that are there: going on, repeating, listing."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from small_run import SMALL, go_on

from dreamsplat.commands import follow, main
from dreamsplat.config import DreamConfig
from dreamsplat.runs import read_record, record
from dreamsplat.types import Step

FEW = "--steps 6 --prior3d.sampling-steps 3 --prior3d.points 512 --device cpu --checkpoint-every 2".split()


@pytest.fixture(autouse=True)
def pictures_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PICTURES", SMALL)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the command. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("original") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "PICTURES", SMALL)
        assert main(["generate", "a red mushroom", "--out", str(folder), *FEW]) == 0
    return folder


@pytest.fixture
def finished(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def signal_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Send this process a signal when a run has made so many steps."""
    module = import_module("dreamsplat.runs.execute")
    real = module.dream_steps

    def steps(config: DreamConfig, state: object) -> Iterator[Step]:
        for one in real(config, state):
            if one.index == step:
                os.kill(os.getpid(), number)
            yield one

    monkeypatch.setattr(module, "dream_steps", steps)


def test_a_run_that_was_stopped_is_resumed_by_the_command_that_was_told(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        signal_at(patch, 5, signal.SIGINT)
        assert main(["generate", "a red mushroom", "--out", str(tmp_path / "run"), *FEW]) == 130
    told = capsys.readouterr().err
    assert f"dreamsplat generate --resume {tmp_path / 'run'}" in told
    assert main(["generate", "--resume", str(tmp_path / "run"), "--checkpoint-every", "3"]) == 0
    assert (tmp_path / "run" / "asset.ply").read_bytes() == (original / "asset.ply").read_bytes()
    assert str(tmp_path / "run" / "asset.ply") in capsys.readouterr().out


def test_what_is_no_run_cannot_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--resume", str(tmp_path)]) == 2
    assert "not the folder of a run" in capsys.readouterr().err


@pytest.mark.parametrize("same", [True, False])
def test_a_rerun_tells_whether_the_result_is_identical(
    same: bool, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not same:
        config = json.loads((finished / "config.json").read_text())
        (finished / "config.json").write_text(json.dumps(config | {"seed": 5}))
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert main(["rerun", str(finished)]) == (0 if same else 1)
    told = capsys.readouterr()
    again = finished.with_name("run-rerun")
    if same:
        assert told.out.startswith(f"identical: {again / 'asset.ply'} has the bytes of {finished / 'asset.ply'}.")
    else:
        assert told.out.startswith("different: ") and "versions, models and files are the same" in told.err
    assert read_record(again).checkpoint_every == 2 and (again / "asset.ply").exists()
    assert not (again / "checkpoints").exists()
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_rerun_that_differs_names_what_it_was_made_of(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = read_record(finished)
    told = replace(old, asset_sha256="0", sources={"prior2d": {"owner/model": "abc"}}, packages={"torch": "1.0"})
    values = {f: getattr(told, f) for f in told.__dataclass_fields__}
    (finished / "run.json").write_text(json.dumps(values))
    monkeypatch.setattr("dreamsplat.commands.rerun.asset_sha256", lambda folder: "0")
    assert main(["rerun", str(finished)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert f"  packages.torch was 1.0, is {record._version('torch')}" in lines
    assert "  prior2d.owner/model was abc, is unknown" in lines


def test_a_rerun_that_is_stopped_says_how_to_repeat_it(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        signal_at(patch, 3, signal.SIGTERM)
        assert main(["rerun", str(finished)]) == 143
    assert f"dreamsplat rerun {finished} --overwrite" in capsys.readouterr().err
    assert main(["rerun", str(finished)]) == 2
    assert "Choose another --out, or add --overwrite." in capsys.readouterr().err
    assert main(["rerun", str(finished), "--overwrite"]) == 0


@pytest.mark.parametrize("change", ["other bytes", "gone"])
def test_a_rerun_of_an_asset_that_was_changed_is_refused(
    finished: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "asset.ply").write_bytes(b"hi")
    if change == "gone":
        (finished / "asset.ply").unlink()
    assert main(["rerun", str(finished)]) == 2
    assert "is gone, or not what the run made" in capsys.readouterr().err


def test_a_rerun_onto_itself_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rerun", str(finished), "--out", f"{finished}/../run", "--overwrite"]) == 2
    assert "is the run to be repeated" in capsys.readouterr().err and (finished / "asset.ply").exists()


def test_a_rerun_of_a_branch_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = json.loads((finished / "run.json").read_text())
    (finished / "run.json").write_text(json.dumps(values | {"start_sha256": "abc"}))
    assert main(["rerun", str(finished)]) == 2
    assert "started from a checkpoint of another run" in capsys.readouterr().err


def test_a_rerun_of_an_unfinished_run_says_how_to_finish_it(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = json.loads((finished / "run.json").read_text())
    (finished / "run.json").write_text(json.dumps(values | {"state": "stopped"}))
    assert main(["rerun", str(finished)]) == 2
    assert f"First: dreamsplat generate --resume {finished}" in capsys.readouterr().err


def test_runs_are_listed_as_a_table_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "dreamsplat generate PROMPT --out" in capsys.readouterr().out
    go_on(tmp_path / "one")
    assert main(["runs", str(tmp_path)]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["FOLDER", "STATE", "STEPS", "SECONDS", "PROMPT", "PICTURE"]
    assert line.split()[:3] == [str(tmp_path / "one"), "done", "40/40"] and line.split()[4:] == [
        "anything", str(tmp_path / "one" / "preview.png"),
    ]  # fmt: skip
    assert main(["runs", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "done" and told["picture"] == str(tmp_path / "one" / "preview.png")
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "one" / "run.json").write_text("{}")
    assert main(["runs", str(tmp_path)]) == 0
    assert "damaged" in capsys.readouterr().out
