"""What is known of a run afterwards: what it was made of, what became of it, and lists of runs."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from analytic import GaussianPrior
from small_run import CONFIG, BallPrior, events, go_on

from dreamsplat.codec import paths
from dreamsplat.config import DreamConfig
from dreamsplat.errors import FileProblem
from dreamsplat.guidance import VSD
from dreamsplat.presets import PRESETS
from dreamsplat.priors2d import StableDiffusion
from dreamsplat.priors3d import FromFile, ShapE
from dreamsplat.runs import Stepped, Warned, find_runs, read_record, summarise
from dreamsplat.runs.record import differences
from dreamsplat.runs.sources import sources_of, with_absolute_paths


@dataclass(frozen=True)
class BallFromFile(BallPrior):
    """A 3D prior with a repository and a file."""

    commit: str = "1234abc"
    file: Path = Path()

    def sources(self) -> dict[str, str]:
        self.file.stat()  # It is there as long as the model is asked for.
        return {"owner/ball": self.commit}


@dataclass(frozen=True)
class GaussianFromHub(GaussianPrior):
    """A 2D prior with a repository and an optional file."""

    commit: str = "5678def"
    weights: Path | None = None

    def sources(self) -> dict[str, str]:
        return {"owner/gaussian": self.commit}


def made_of_files(tmp_path: Path) -> DreamConfig:
    (tmp_path / "ball.ply").write_bytes(b"ball")
    (tmp_path / "gaussian.bin").write_bytes(b"gaussian")
    return replace(
        CONFIG, steps=6, prior3d=BallFromFile(file=tmp_path / "ball.ply"),
        prior2d=GaussianFromHub(mean=0.8, spread=0.3, weights=tmp_path / "gaussian.bin"),
    )  # fmt: skip


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# What a run was made of


def test_a_record_names_models_and_files(tmp_path: Path) -> None:
    go_on(tmp_path / "run", made_of_files(tmp_path))
    assert read_record(tmp_path / "run").sources == {
        "prior3d": {"owner/ball": "1234abc", "file": sha256(b"ball")},
        "prior2d": {"owner/gaussian": "5678def", "weights": sha256(b"gaussian")},
    }


def test_models_are_asked_once_they_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = GaussianPrior.load
    monkeypatch.setattr(GaussianPrior, "load", lambda self, device: loaded.append("2d") or load(self, device))
    monkeypatch.setattr(GaussianFromHub, "sources", lambda self: {"loaded": str(len(loaded))})
    go_on(tmp_path / "run", made_of_files(tmp_path))
    assert read_record(tmp_path / "run").sources["prior2d"]["loaded"] == "1"


def test_a_resumed_run_keeps_what_its_3d_prior_was_and_says_what_has_changed(tmp_path: Path) -> None:
    config = made_of_files(tmp_path)
    with closing(events(tmp_path / "run", config)) as happening:
        for event in happening:
            if isinstance(event, Stepped) and event.step == 3:
                break
    (tmp_path / "ball.ply").unlink()
    (tmp_path / "gaussian.bin").write_bytes(b"another")
    warned = [event.message for event in go_on(tmp_path / "run", config) if isinstance(event, Warned)]
    old, new = sha256(b"gaussian"), sha256(b"another")
    assert warned == [f"prior2d.weights was {old}, is {new}: the run cannot be repeated exactly."]
    sources = read_record(tmp_path / "run").sources
    assert sources["prior3d"] == {"owner/ball": "1234abc", "file": sha256(b"ball")}
    assert sources["prior2d"]["weights"] == new


def test_differences_name_versions_models_and_files(tmp_path: Path) -> None:
    go_on(tmp_path / "run", made_of_files(tmp_path))
    before = read_record(tmp_path / "run")
    after = replace(
        before, packages=before.packages | {"torch": "9.9"}, machine="another",
        sources={"prior3d": before.sources["prior3d"], "prior2d": {"mirror/gaussian": "5678def"}},
    )  # fmt: skip
    told = differences(before, after)
    assert [line.split()[0] for line in told] == [
        "machine", "packages.torch", "prior2d.mirror/gaussian", "prior2d.owner/gaussian", "prior2d.weights",
    ]  # fmt: skip
    assert told[3] == "prior2d.owner/gaussian was 5678def, is unknown"
    assert differences(before, before) == []


def test_a_model_that_is_here_stays_the_same_in_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner/name").mkdir(parents=True)
    (tmp_path / "tiny.safetensors").touch()
    given = StableDiffusion("owner/name", tiny_autoencoder="tiny.safetensors", config="other/name")
    config = with_absolute_paths(replace(CONFIG, prior3d=ShapE("owner/name"), prior2d=given))
    assert config.prior2d == StableDiffusion(
        str(tmp_path / "owner/name"), tiny_autoencoder=str(tmp_path / "tiny.safetensors"), config="other/name"
    )
    assert config.prior3d == ShapE(str(tmp_path / "owner/name"))


def test_paths_are_found_and_made_absolute_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = replace(CONFIG, prior3d=FromFile(file=Path("a.ply")), prior2d=GaussianFromHub(weights=Path("b/c.bin")))
    assert paths(config) == {"prior3d.file": Path("a.ply"), "prior2d.weights": Path("b/c.bin")}
    assert paths(with_absolute_paths(config)) == {
        "prior3d.file": tmp_path / "a.ply", "prior2d.weights": tmp_path / "b" / "c.bin",
    }  # fmt: skip
    assert with_absolute_paths(CONFIG) is CONFIG and paths(CONFIG) == {}
    assert paths(replace(CONFIG, prior3d=FromFile())) == {}  # An empty path names no file.
    assert sources_of(CONFIG) == {"prior3d": {}, "prior2d": {}}


# Records


@pytest.mark.parametrize("name", PRESETS)
def test_a_configuration_survives_json(name: str) -> None:
    config = replace(PRESETS[name], prompt="a fox")
    assert DreamConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    losing = replace(config, loss=VSD())
    assert DreamConfig.from_json(json.loads(json.dumps(losing.to_json()))) == losing


def test_a_record_of_the_first_version_is_read(killed: Path) -> None:
    values = json.loads((killed / "run.json").read_text())
    for name in ("sources", "start_sha256"):
        del values[name]
    (killed / "run.json").write_text(json.dumps(values | {"weights": {"image.safetensors": "abc"}}))
    record = read_record(killed)
    assert (record.step, record.sources, record.start_sha256) == (30, {}, None)


@pytest.mark.parametrize("change", [{"step": "3"}, {"seed": None}, {"sources": []}, {"why": 5}])
def test_a_record_of_wrong_types_is_damaged(killed: Path, change: dict[str, object]) -> None:
    values = json.loads((killed / "run.json").read_text())
    (killed / "run.json").write_text(json.dumps(values | change))
    with pytest.raises(FileProblem, match=f"damaged .its {next(iter(change))} is"):
        read_record(killed)


# Lists


def test_runs_are_listed_with_what_became_of_them(unbroken: Path, killed: Path, tmp_path: Path) -> None:
    assert (summarise(unbroken).state, summarise(unbroken).step) == ("done", 40)
    summary = summarise(killed)
    assert (summary.state, summary.step, summary.steps) == ("died", 30, 40)
    assert summary.prompt == "anything" and summary.picture == killed / "preview.png"
    assert find_runs(tmp_path) == [killed]
    (killed / "run.json").write_text("{}")
    assert summarise(killed).state == "damaged"


def test_a_run_that_goes_is_listed_as_running(tmp_path: Path) -> None:
    with closing(events(tmp_path)) as happening:
        for event in happening:
            assert summarise(tmp_path).state == "running"
            if event.step == 2:
                break
    assert summarise(tmp_path).state == "stopped"


def test_a_folder_that_we_may_not_read_does_not_hide_the_runs_beside_it(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir()
    real = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent.name == "theirs":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    assert find_runs(tmp_path) == [killed]


@pytest.mark.parametrize("module", ["dreamsplat.runs", "dreamsplat.runs.summary", "dreamsplat.runs.events"])
def test_asking_about_runs_does_not_wait_for_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
