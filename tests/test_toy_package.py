"""A package outside the tree adds one of everything: it is built, installed and used as its author would."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests" / "toy_package"
DOCUMENT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
CHOICES = ["prior3d:ball", "prior2d:shade", "loss:tug", "representation:blobs"]
GENERATE = ["-m", "dreamsplat", "generate"]
SETTINGS = "aball --steps 12 --views 2 --render-size 16 --device cpu --checkpoint-every 4 --dry-run".split() + CHOICES

RUN = """
import os, signal, sys
from pathlib import Path
from dreamsplat import DreamConfig
from dreamsplat.runs import Pictures, Stepped, execute, read_config
folder = Path(sys.argv[1])
values = {"prompt": "a ball", "steps": 12, "views": 2, "render_size": 16, "device": "cpu", "prior3d": {"kind": "ball"},
          "prior2d": {"kind": "shade"}, "loss": {"kind": "tug"}, "representation": {"kind": "blobs"}}
config = read_config(folder) if folder.exists() else DreamConfig.from_json(values)
small = Pictures(preview_px=24, film_px=16, film_frames=2)
for event in execute(folder, config, checkpoint_every=4, resume=True, pictures=small):
    if isinstance(event, Stepped) and sys.argv[2:] == [str(event.step)]:
        os.kill(os.getpid(), signal.SIGKILL)
print(event.state, len(list((folder / "metrics.jsonl").open())))
"""
CHECKED = """
import sys, torch, dreamsplat
from pathlib import Path
from dreamsplat import registry
from dreamsplat.evaluate import contracts
contracts.check_loss(registry.by_name("losses", "tug")(strength=2.0))
contracts.check_prior2d(registry.by_name("priors2d", "shade")())
contracts.check_prior3d(registry.by_name("priors3d", "ball")())
contracts.check_representation(registry.by_name("representations", "blobs")())
contracts.check_renderer(registry.by_name("renderers", "plain"))
contracts.check_scorer(registry.by_name("scorers", "prompt-length")())
contracts.check_format(registry.by_name("formats", ".gs.json"), Path(sys.argv[1]) / "a.gs.json")
asset = dreamsplat.load(sys.argv[2])
dreamsplat.save(asset, Path(sys.argv[1]) / "b.gs.json")
again = dreamsplat.load(Path(sys.argv[1]) / "b.gs.json")
assert torch.allclose(again.means, asset.means)
cameras = dreamsplat.orbit(2, size=16).cameras
plain, reference = (dreamsplat.render(asset, cameras, backend=name).rgb for name in ("plain", "reference"))
assert torch.equal(plain, reference)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the toy package is installed into; nothing is fetched for it."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copytree(TOY, folder / "source")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", folder / "site", folder / "source"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def python(site: Path, *arguments: object, code: int = 0) -> str:
    """What a Python process prints that sees the toy package."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_what_it_adds_is_offered_by_the_command_line_and_checked_like_our_own(site: Path) -> None:
    told = python(site, *GENERATE, "--help")
    for choice in CHOICES:
        assert choice in told
    resolved = json.loads(python(site, *GENERATE, *SETTINGS, "--loss.strength", 3))
    assert (resolved["loss"], resolved["representation"]["kind"]) == ({"kind": "tug", "strength": 3.0}, "blobs")
    refused = python(site, *GENERATE, *SETTINGS, "--loss.strength", -1, code=2)
    assert "-1.0, expected above 0" in refused and "Traceback" not in refused


def test_a_run_with_all_of_it_is_killed_resumes_and_repeats_identically(site: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    python(site, "-c", RUN, run, 6, code=-signal.SIGKILL)
    assert json.loads((run / "run.json").read_text())["state"] == "running"
    assert python(site, "-c", RUN, run).split()[:2] == ["done", "13"]  # the lift and 12 steps, none of them twice
    written = json.loads((run / "config.json").read_text())
    kinds = [written[part]["kind"] for part in ("prior3d", "prior2d", "loss", "representation")]
    assert kinds == ["ball", "shade", "tug", "blobs"]
    assert "identical" in python(site, "-m", "dreamsplat", "rerun", run)
    (tmp_path / "files").mkdir()
    python(site, "-c", CHECKED, tmp_path / "files", run / "asset.ply")


def test_without_the_package_its_run_is_refused_by_name(site: Path, tmp_path: Path) -> None:
    values = json.loads(python(site, *GENERATE, *SETTINGS))
    (tmp_path / "config.json").write_text(json.dumps(values))
    told = python(tmp_path, "-m", "dreamsplat", "generate", "--resume", tmp_path, code=2)
    assert "prior3d.kind: 'ball', expected one of" in told and "Traceback" not in told


# docs/extending.md


def blocks(language: str) -> list[str]:
    return [text for found, text in re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT, re.M | re.S) if found == language]


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.splitlines()[0])
def test_every_python_block_of_the_document_is_a_file_of_the_toy_package_or_runs(
    block: str, site: Path, tmp_path: Path
):
    first, _, rest = block.partition("\n")
    if first.startswith("# dreamsplat_toy/"):
        assert rest.strip() == (TOY / first.removeprefix("# ")).read_text(encoding="utf-8").strip()
    else:
        (tmp_path / "test_mine.py").write_text(block)
        python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path / "test_mine.py")


def test_the_project_file_of_the_document_is_that_of_the_toy_package() -> None:
    (block,) = blocks("toml")
    assert block == (TOY / "pyproject.toml").read_text(encoding="utf-8")


def test_the_commands_of_the_document_run(site: Path) -> None:
    lines = "".join(blocks("")).splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("dreamsplat ")]
    assert commands
    for _, *arguments in commands:
        python(site, "-m", "dreamsplat", *arguments)
