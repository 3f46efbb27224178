"""The command line: what it writes, what it prints, how it fails. Mostly with a few quick steps for the method."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from command_line import is_one_error
from PIL import Image
from rich.console import Console

from dreamsplat import commands
from dreamsplat.assets.draw import BACKDROP
from dreamsplat.commands import follow, generate, progress
from dreamsplat.config import DreamConfig
from dreamsplat.errors import DeviceUnavailable, UnknownWord
from dreamsplat.formats import load
from dreamsplat.presets import PRESETS
from dreamsplat.priors2d import BundledImagePrior
from dreamsplat.priors3d import BundledCloudPrior, FromFile, ShapE
from dreamsplat.runs import Pictures, Started, Stepped, execute, preview
from dreamsplat.types import PointCloud, Step


@pytest.fixture(autouse=True)
def pictures_are_small(monkeypatch) -> None:
    monkeypatch.setattr(follow, "PICTURES", Pictures(preview_px=24, film_px=16, film_frames=2))


@pytest.fixture
def quick_steps(monkeypatch, random_gaussians) -> Callable[..., list[DreamConfig]]:
    """`quick_steps(before={"distil": error})` replaces the method; returns what it was asked for."""

    def replace(before: dict[str, BaseException] | None = None, watch: Callable[[Step], None] = lambda step: None):
        asked: list[DreamConfig] = []

        def steps(config: DreamConfig, state: dict[str, torch.Tensor] | None) -> Iterator[Step]:
            assert state is None
            asked.append(config)
            gaussians = random_gaussians(30)
            cloud = PointCloud(gaussians.means, torch.rand(30, 3, generator=torch.Generator().manual_seed(1)))
            stages: list[Literal["lift", "distil"]] = ["lift", "distil", "distil"]
            for index, stage in enumerate(stages):
                if before and stage in before:
                    raise before[stage]
                shown = cloud if stage == "lift" else None
                numbers = {"gradient_norm": float("nan"), "gaussians": 30}
                step = Step(stage, index, 2, gaussians, shown, None, numbers, {"step": torch.zeros(())})
                watch(step)
                yield step

        monkeypatch.setattr(import_module("dreamsplat.runs.execute"), "dream_steps", steps)
        return asked

    return replace


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


# --- the command itself -----------------------------------------------------------------------------------------------


def test_help_and_version_do_not_wait_for_torch():
    program = (
        "import sys; from dreamsplat.commands import main; main([]); main(['--version']);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in commands.COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("runs", "."), 0),
        (("runs", "--no-such-flag"), 2),
        (("rerun", "nowhere"), 2),
        (("generate", "--help"), 0),
        (("generate", "a red mug", "--sede", "3"), 2),
        (("generate", "a red mug", "--clip.steps", "0"), 2),
        (("generate", "a red zeppelin"), 2),
        (("generate", "a red mug", "--dry-run"), 0),
        (("generate", "--resume", "nowhere"), 2),
        (("render", "nowhere.ply", "--out", "x.png"), 2),
        (("render", "x.png", "--out", "x.jpg"), 2),
        (("convert", "nowhere.ply", "x.ply"), 2),
        (("convert", "nowhere", "x.unknown"), 2),
        (("convert", "--help"), 0),
        (("doctor", "nowhere.ply"), 2),
        (("doctor", "--help"), 0),
    ],
)
def test_what_needs_no_model_does_not_wait_for_torch(tmp_path, arguments, code):
    program = (
        "import sys; from dreamsplat.commands import main\n"
        "try: code = main(sys.argv[1:])\n"
        "except SystemExit as stop: code = stop.code\n"
        "sys.exit(100 if 'torch' in sys.modules else code)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("convert", "n" * 300 + ".ply", "x.ply"), ("runs", "n" * 300), ("generate", "a red mug", "--out", "n" * 300),
     ("generate", "--resume", "n" * 300)],
)  # fmt: skip
def test_a_name_that_is_too_long_is_one_error(run, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2 and is_one_error(err) and "File name too long" in err and list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_written_is_one_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "dreamsplat", "words"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2 and is_one_error(done.stderr) and "No space left" in done.stderr


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--representation.lift.candidates", 10**12), ("--prior3d.points", 10**11), ("--prior3d.points", 0),
     ("--prior3d.sampling-steps", 10**9), ("--representation.rates.means", "nan"),
     ("--representation.rates.scales", "inf")],
)  # fmt: skip
def test_settings_that_no_machine_could_bear_are_refused(run, tmp_path, flag, value):
    quick = () if "prior3d" in flag else ("--prior3d.sampling-steps", 2, "--prior3d.points", 512)
    code, _, err = run("generate", "a red mug", "--out", tmp_path / "x", flag, value, *quick)
    assert code == 2 and is_one_error(err) and str(value) in err and not (tmp_path / "x").exists()


def test_a_terminal_that_knows_few_letters_still_shows_the_name_of_a_file(tmp_path, asset):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "dreamsplat", "convert", asset, tmp_path / "\u00fc.ply"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "\\xfc.ply: " in done.stdout and done.stderr == ""


def test_a_reader_that_has_had_enough_is_no_error():
    program = f"{sys.executable} -m dreamsplat words | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "value"), [("--seed", 10**30), ("--render-size", 100_000), ("--steps", -1), ("--views", 0)]
)
def test_numbers_out_of_any_range_are_refused(run, tmp_path, flag, value):
    code, _, err = run("generate", "a red mug", "--out", tmp_path / "x", flag, value)
    assert code == 2 and is_one_error(err) and str(value) in err and not (tmp_path / "x").exists()


def test_the_module_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "dreamsplat", "genrate"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: no command 'genrate'.") and "Did you mean 'generate'?" in done.stderr


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_every_command_explains_itself(run, command):
    code, out, err = run(command, "--help")
    assert code == 0 and err == "" and out.startswith(f"usage: dreamsplat {command} ")
    _, what, *rest = out.split("\n\n")
    assert what.strip().endswith(".") and "(default: )" not in out
    assert "--help" in "".join(rest)


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_a_wrong_flag_is_one_line_and_exit_code_2(run, command):
    code, out, err = run(command, "--no-such-flag")
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert f"See `dreamsplat {command} --help`." in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("a red mug", "--sede", 3), "unknown: --sede, 3. Perhaps you meant --seed."),
        (("a red mug", "--densify.every", 3), "Perhaps you meant --representation.densify.every."),
        (("a red mug", "loss:imsm"), "Perhaps you meant loss:ism."),
        (("a red mug", "loss:ism", "loss:sds"), "unknown: loss:sds. There can be only one loss."),
        (("a", "red", "mug"), 'unknown: red, mug. Quote the prompt: "a red mug".'),
        (("a red mug", "--prior3d.file", "x.ply"), "--prior3d.file is a flag of prior3d:points: put that before it."),
        (("a red mug", "--promt", "x"), "Perhaps you meant --preset."),  # The prompt has no flag.
    ],
)
def test_an_unknown_flag_is_told_with_what_was_perhaps_meant(run, arguments, told):
    code, _, err = run("generate", *arguments)
    assert code == 2 and is_one_error(err) and told in err


# --- generate ---------------------------------------------------------------------------------------------------------


def test_generate_writes_everything_a_person_wants(run, quick_steps, tmp_path):
    (config,) = (quick_steps(),)
    code, out, err = run("generate", "a red mushroom", "--out", tmp_path / "new" / "run", "--seed", 3, "--steps", 2)
    folder = tmp_path / "new" / "run"
    assert code == 0, err
    assert config[0].prompt == "a red mushroom" and config[0].seed == 3
    written = {path.name for path in folder.iterdir()}
    assert {"asset.ply", "preview.png", "config.json", "metrics.jsonl", "run.json", "checkpoints"} < written
    assert len(written & {"turntable.mp4", "turntable.gif"}) == 1 and len(written) == 7
    opened = {name for name in written if Path(name).suffix in (".ply", ".png", ".mp4", ".gif")}
    assert set(out.split()) == {str(folder / name) for name in opened}
    assert len(load(folder / "asset.ply")) == 30
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        ("lift", 0),
        ("distil", 1),
        ("distil", 2),
    ]
    assert all(line["gaussians"] == 30 and line["gradient_norm"] is None for line in lines)
    assert "distil step 2/2" in err and "\x1b" not in err


def test_the_first_picture_and_asset_are_on_disk_before_the_first_optimisation_step(run, quick_steps, tmp_path):
    seen = []

    def watch(step: Step) -> None:
        seen.append((step.stage, step.index, (tmp_path / "preview.png").exists() and (tmp_path / "asset.ply").exists()))

    quick_steps(watch=watch)
    run("generate", "a red mushroom", "--out", tmp_path)
    assert seen == [("lift", 0, False), ("distil", 1, True), ("distil", 2, True)]


def test_the_preview_has_rows_for_cloud_start_and_result_seen_from_six_sides(run, quick_steps, monkeypatch, tmp_path):
    sheets = []
    draw = preview.contact_sheet
    monkeypatch.setattr(
        preview, "contact_sheet", lambda rows, columns: sheets.append((rows, columns)) or draw(rows, columns)
    )
    quick_steps()
    run("generate", "a red mushroom", "--out", tmp_path)
    for rows, columns in sheets:
        assert [label.split()[0] for label, _ in rows[:2]] == ["3D", "initial"] and len(rows) == 3 and len(columns) == 6
        for _, images in rows:
            assert images.shape == (6, 24, 24, 3)
            assert all(not torch.equal(images[0], other) for other in images[1:])
            assert (images - torch.tensor(BACKDROP)).abs().amax() > 0.2
    assert [rows[2][0].split()[0] for rows, _ in sheets] == ["now", "final"]
    assert pixels(tmp_path / "preview.png").shape == draw(*sheets[-1]).shape


def test_dry_run_prints_the_configuration_that_a_run_writes(run, quick_steps, tmp_path, monkeypatch):
    quick_steps()
    monkeypatch.chdir(tmp_path)
    flags = ("a blue car", "--seed", 7, "--steps", 2)
    code, out, _ = run("generate", *flags, "--dry-run")
    assert code == 0 and list(tmp_path.iterdir()) == []
    assert json.loads(out)["prompt"] == "a blue car" and json.loads(out)["seed"] == 7
    run("generate", *flags, "--out", tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == json.loads(out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "prompt: empty. Say what to make"),
        (("a red zeppelin",), "zeppelin"),
        (("a red mug", "prior3d:points", "--prior3d.file", "none.ply"), "none.ply: no such file"),
        (("a red mug", "--background", "white"), "--background: 'white'"),
        (("a red mug", "loss:vsd"), "loss: VSD trains a LoRA on the 2D prior, and this prior takes none."),
        (("a red mug", "loss:vsd", "prior2d:perfect"), "this prior takes none"),
        (("a red mug", "loss:vsd", "prior2d:stable-diffusion", "--prior2d.compile"), "--prior2d.compile: a compiled"),
        (("a red mug", "--checkpoint-every", 0), "--checkpoint-every: 0, expected at least 1 step."),
        (("a red mug", "--out", "taken"), "taken: the folder exists and is not empty."),
        (("a red mug", "--out", "taken/file"), "taken/file: "),
        (("a red mug", "--out", "taken/file/below/deeper", "--overwrite"), "taken/file is a file, expected a folder."),
        (("a red mug", "--out", "n" * 300), "File name too long"),
        (("--resume", "taken"), "taken is not the folder of a run"),
        (("a red mug", "times:annealed", "--times.first", 2), "error: times: least 0.02"),
    ],
)
def test_a_dry_run_checks_what_needs_no_model(run, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    code, out, err = run("generate", *arguments, "--dry-run")
    assert code == 2 and is_one_error(err) and told in err and out == ""


@pytest.mark.parametrize("extra", [(), ("--dry-run",)])
def test_a_missing_device_is_one_error(run, tmp_path, monkeypatch, extra):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = run("generate", "a red mug", "--out", tmp_path / "x", "--device", "cuda", *extra)
    assert code == 2 and is_one_error(err) and "cuda" in err and out == "" and not (tmp_path / "x").exists()


def test_a_missing_package_is_refused_before_anything_is_fetched(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    code, _, err = run("generate", "a fox", "--preset", "gaussiandreamer", "--dry-run")
    assert code == 2 and is_one_error(err) and 'pip install "dreamsplat[diffusion]"' in err


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory) -> Path:
    """A run that was left after the first of two steps, with a checkpoint every 7. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    config = DreamConfig("a red mug", steps=2, prior3d=BundledCloudPrior(points=512, sampling_steps=2))
    pictures = Pictures(preview_px=24, film_px=16, film_frames=2)
    with closing(execute(folder, config, checkpoint_every=7, pictures=pictures)) as events:
        assert any(event.step == 1 for event in events)
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path) -> Path:
    """A copy of `stopped_once`."""
    return Path(shutil.copytree(stopped_once, tmp_path / "run"))


def test_a_dry_run_of_resume_tells_where_the_run_would_go_on(run, stopped):
    code, out, err = run("generate", "--resume", stopped, "--dry-run")
    assert code == 0 and json.loads(out)["prompt"] == "a red mug"
    assert err == f"{stopped}: the run would continue from step 1 of 2.\n"
    for path in stopped.glob("checkpoints/*.safetensors"):
        path.write_bytes(b"damaged")
    code, out, err = run("generate", "--resume", stopped, "--dry-run")
    assert code == 2 and err == f"error: {stopped}/checkpoints: all checkpoints are damaged. Start the run again.\n"


def test_a_run_with_a_loss_of_a_python_program_is_resumed_by_that_program(run, stopped):
    config = json.loads((stopped / "config.json").read_text())
    (stopped / "config.json").write_text(json.dumps(config | {"loss": {"kind": "my_program:Tug"}}))
    code, _, err = run("generate", "--resume", stopped)
    assert code == 2 and is_one_error(err) and "config.json: loss.kind: 'my_program:Tug'" in err
    assert err.endswith(
        "Use the Python program that has this class; `execute(folder, config, resume=True)` resumes a run.\n"
    )


@pytest.mark.parametrize(("flags", "every"), [((), 7), (("--checkpoint-every", 3), 3)])
def test_a_run_goes_on_with_its_own_distance_between_checkpoints_and_then_is_finished(run, stopped, flags, every):
    assert run("generate", "--resume", stopped, *flags)[0] == 0
    assert json.loads((stopped / "run.json").read_text())["checkpoint_every"] == every
    code, out, err = run("generate", "--resume", stopped, "--dry-run")
    assert code == 0 and json.loads(out)["steps"] == 2 and "the run is finished" in err
    code, out, err = run("generate", "--resume", stopped)
    assert code == 0 and "asset.ply" in out
    assert err.endswith(f"{stopped}: the run was finished already. Only asset and pictures were written again.\n")


def test_the_folder_has_a_default_that_replaces_nothing(run, quick_steps, tmp_path, monkeypatch):
    quick_steps()
    monkeypatch.chdir(tmp_path)
    for name in ("a-red-mug-3", "a-red-mug-3-2", "a-red-mug-3-3"):
        code, out, err = run("generate", "a red  mug!", "--seed", 3)
        assert code == 0 and f"runs/{name}/asset.ply" in out, err
    code, out, _ = run("generate", "a blue mug", "--seed", 3)
    assert code == 0 and "runs/a-blue-mug-3/asset.ply" in out


@pytest.mark.parametrize(
    ("prompt", "name"),
    [("!?", "run-0"), ("Ein rotes \u00c4pfelchen", "ein-rotes-\u00e4pfelchen-0"), ("x" * 999, "x" * 40 + "-0")],
)
def test_a_default_folder_can_be_a_file_name(prompt, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert generate.default_folder(DreamConfig(prompt=prompt)) == Path("runs") / name


def test_relative_paths_hold_wherever_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = generate.parse(["a red mug", "prior3d:points", "--prior3d.file", "chair.ply", "prior2d:bundled",
                           "--prior2d.weights", "w.safetensors"])  # fmt: skip
    config = args.settings()
    assert isinstance(config.prior3d, FromFile) and isinstance(config.prior2d, BundledImagePrior)
    assert config.prior3d.file == tmp_path / "chair.ply" and config.prior2d.weights == tmp_path / "w.safetensors"


def test_a_picture_goes_to_a_3d_prior_that_can_start_from_one(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = generate.parse(["a fox", "--image", "fox.png", "prior3d:shap-e"]).settings()
    assert isinstance(config.prior3d, ShapE) and config.prior3d.image == tmp_path / "fox.png"
    code, _, err = run("generate", "a red mug", "--image", "fox.png")
    assert code == 2 and err.startswith("error: --image: BundledCloudPrior does not start from a picture.")
    assert "prior3d:shap-e" in err and is_one_error(err)


def test_memory_is_fitted_by_the_2d_prior(run):
    code, _, err = run("generate", "a red mug", "--vram", 8)
    assert (
        code == 2
        and err.startswith("error: --vram: BundledImagePrior has no settings that save memory.")
        and is_one_error(err)
    )


def test_help_tells_how_to_resume_and_where_results_go(run):
    code, out, _ = run("generate", "--help")
    told = " ".join(out.replace("\u2502", " ").split())
    assert code == 0 and "--resume FOLDER" in told and "runs/PROMPT-SEED" in told
    assert "PROMPT What to make" in told and "(default: '')" not in told.split("options")[0]
    assert "--representation.densify.every" in told and "--config" not in told


@pytest.mark.parametrize("extra", [("a red mug",), ("--seed", 5), ("--out", "x"), ("--preset", "fast")])
def test_a_run_that_goes_on_takes_no_other_settings(run, tmp_path, extra):
    code, _, err = run("generate", *extra, "--resume", tmp_path)
    assert code == 2 and err.startswith("error: --resume: a run continues with its own settings.")
    assert "--checkpoint-every" in err and is_one_error(err)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("flag", [("--preset", "{}"), ("--preset={}",)])
def test_a_preset_gives_the_defaults_that_other_flags_override(preset, flag):
    chosen = [part.format(preset) for part in flag]
    args = generate.parse(["a red mug", "--out", "x", "--seed", "11", *chosen])
    assert args.settings() == dataclasses.replace(PRESETS[preset], prompt="a red mug", seed=11)


def test_an_unknown_preset_is_refused_with_the_known_ones(run, tmp_path):
    code, _, err = run("generate", "a red mug", "--out", tmp_path / "x", "--preset", "papre")
    assert code == 2 and is_one_error(err) and all(name in err for name in PRESETS)


@pytest.mark.parametrize("prompt", ["", "   ", "red " * 2500, "a red zeppelin"])
def test_a_prompt_that_cannot_be_used_is_one_error_and_leaves_no_folder(run, tmp_path, prompt):
    code, _, err = run("generate", prompt, "--out", tmp_path / "x")  # The method itself, not a stand-in, refuses these.
    assert code == 2 and is_one_error(err) and len(err) < 1000
    assert not (tmp_path / "x").exists()


def test_a_folder_with_something_in_it_is_refused_before_any_work(run, quick_steps, tmp_path):
    asked = quick_steps()
    (tmp_path / "mine.txt").write_text("keep me")
    code, _, err = run("generate", "a red mug", "--out", tmp_path)
    assert code == 2 and is_one_error(err) and "--overwrite" in err and asked == []


def test_overwrite_replaces_results_and_keeps_other_files(run, quick_steps, tmp_path):
    quick_steps()
    for name in ("mine.txt", "turntable.gif", "turntable.mp4", "metrics.jsonl"):
        (tmp_path / name).write_text("old")
    code, _, err = run("generate", "a red mug", "--out", tmp_path, "--overwrite")
    assert code == 0, err
    assert (tmp_path / "mine.txt").read_text() == "old"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    assert len(list(tmp_path.glob("turntable.*"))) == 1


@pytest.mark.parametrize("error", [UnknownWord("prompt: unknown."), DeviceUnavailable("device: no.")])
def test_an_error_before_the_first_step_keeps_the_results_of_an_earlier_run(run, quick_steps, tmp_path, error):
    quick_steps(before={"lift": error})
    (tmp_path / "asset.ply").write_text("old")
    code, _, err = run("generate", "a red mug", "--out", tmp_path, "--overwrite")
    assert code == 2 and is_one_error(err) and (tmp_path / "asset.ply").read_text() == "old"


@pytest.mark.parametrize("place", ["file", "file/below", "file/below/deeper"])
def test_a_path_that_cannot_be_a_folder_is_refused_before_any_work(run, quick_steps, tmp_path, place):
    asked = quick_steps()
    (tmp_path / "file").write_text("")
    code, _, err = run("generate", "a red mug", "--out", tmp_path / place, "--overwrite")
    assert code == 2 and is_one_error(err) and asked == [] and str(tmp_path / place) in err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_write_permission_is_refused_before_any_work(run, quick_steps, tmp_path):
    asked = quick_steps()
    (tmp_path / "locked").mkdir(mode=0o500)
    code, _, err = run("generate", "a red mug", "--out", tmp_path / "locked")
    assert code == 2 and is_one_error(err) and asked == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_and_tells_how_to_go_on(run, quick_steps, tmp_path, number):
    quick_steps(watch=lambda step: os.kill(os.getpid(), number) if step.index == 1 else None)
    code, out, err = run("generate", "a red mug", "--out", tmp_path / "run")
    assert (
        code == 128 + number
        and out == ""
        and f"{'Press Ctrl-C' if number == signal.SIGINT else 'Send the signal'} again to quit now." in err
    )
    assert f"Stopped. {tmp_path / 'run'} holds step 1. To continue:\n  dreamsplat generate --resume" in err
    assert len(load(tmp_path / "run" / "asset.ply")) == 30
    assert (tmp_path / "run" / "checkpoints" / "step-0000001.safetensors").exists()
    with Image.open(tmp_path / "run" / "preview.png") as picture:
        assert picture.width > 6 * 24 and picture.height > 3 * 24
    assert json.loads((tmp_path / "run" / "config.json").read_text())["prompt"] == "a red mug"
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)


def test_a_second_signal_quits_at_once(run, quick_steps, tmp_path, monkeypatch):
    class Quit(BaseException):
        pass

    def quit_now(code: int) -> None:
        raise Quit(code)

    def twice(step: Step) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "_exit", quit_now)
    quick_steps(watch=twice)
    with pytest.raises(Quit, match="130"):
        run("generate", "a red mug", "--out", tmp_path / "run")


def test_a_fault_of_the_display_does_not_stop_the_run(run, quick_steps, tmp_path, monkeypatch):
    def fail(self: object, event: Stepped) -> str:
        raise RuntimeError("a fault")

    monkeypatch.setattr(progress._Pace, "in_words", fail)
    quick_steps()
    code, out, err = run("generate", "a red mug", "--out", tmp_path / "run", "--steps", 2)
    assert code == 0 and "asset.ply" in out
    assert err.count("The run goes on without a progress display (a fault).") == 1 and "Traceback" not in err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "done"


def test_two_real_steps_with_one_seed_give_the_same_asset_twice(run, tmp_path):
    few = ("--steps", 2, "--prior3d.sampling-steps", 3, "--prior3d.points", 512)
    for name in ("a", "b"):
        code, _, err = run("generate", "a red mushroom", "--out", tmp_path / name, *few)
        assert code == 0, err
    assert (tmp_path / "a" / "asset.ply").read_bytes() == (tmp_path / "b" / "asset.ply").read_bytes()


# --- progress ---------------------------------------------------------------------------------------------------------


def stepped(stage: Literal["lift", "distil"], step: int, total: int, seconds: float, gaussians) -> Stepped:
    result = Step(stage, step, total, gaussians, None, None, {"gaussians": len(gaussians)}, {})
    return Stepped(Path("run"), step, total, seconds, result)


def shown(terminal: bool, gaussians, steps: int, first: int = 0) -> str:
    console = Console(file=(file := StringIO()), force_terminal=terminal, width=200)
    with progress.show_progress(console) as show:
        show(Started(Path("run"), first, steps, 0.0))
        for index in range(first, steps + 1):
            show(stepped("distil" if index else "lift", index, steps, 0.01 * index, gaussians))
    return file.getvalue()


def test_plain_progress_is_a_few_lines_however_many_steps(random_gaussians):
    lines = shown(False, random_gaussians(1234), steps=500).splitlines()
    assert lines == [
        "lift to Gaussians: 1,234 Gaussians",
        "distil step 500/500: 100.0 steps/s, 0 s left, 1,234 Gaussians",
    ]


def test_plain_progress_tells_how_long_it_will_take_every_few_seconds(random_gaussians):
    lines = shown(False, random_gaussians(12), steps=1100).splitlines()
    assert lines[1] == "distil step 500/1100: 100.0 steps/s, 6 s left, 12 Gaussians" and len(lines) == 4


def test_the_rate_of_a_resumed_run_counts_its_own_steps_only(random_gaussians):
    pace, gaussians = progress._Pace(), random_gaussians(3)
    assert pace.in_words(stepped("distil", 201, 400, 100.0, gaussians)) == ""
    assert pace.in_words(stepped("distil", 221, 400, 110.0, gaussians)) == "2.0 steps/s"
    assert pace.in_words(stepped("distil", 151, 400, 70.0, gaussians)) == ""  # It went back.
    assert pace.in_words(stepped("distil", 161, 400, 71.0, gaussians)) == "10.0 steps/s"


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")])
def test_a_log_that_is_closed_or_full_does_not_stop_a_run(random_gaussians, monkeypatch, error):
    tries: list[str] = []

    def write(text: str) -> None:
        tries.append(text)
        raise error

    closed = SimpleNamespace(write=write, flush=lambda: None, isatty=lambda: False)
    monkeypatch.setattr(sys, "stdout", None)  # as where both are closed
    with progress.show_progress(Console(file=closed, force_terminal=False)) as show:  # type: ignore[arg-type]
        for _ in range(2):
            show(stepped("lift", 0, 1, 0.0, random_gaussians(3)))
    assert sum("lift" in text for text in tries) == 1  # and silence from then on


def test_a_terminal_shows_a_bar_with_the_same_numbers(random_gaussians):
    text = shown(True, random_gaussians(1234), steps=5)
    assert "step 5/5, 100.0 steps/s, 1,234 Gaussians" in text


# --- words ------------------------------------------------------------------------------------------------------------


def test_words_lists_every_known_word_and_two_prompts_that_work(run):
    from dreamsplat.world.language.captions import known_words, parse_caption

    code, out, err = run("words")
    assert code == 0, err
    assert all(f" {word}" in out for word in known_words())
    prompts = [line.split('"')[1] for line in out.splitlines() if line.startswith("try: ")]
    assert len(prompts) == 2 and all(parse_caption(prompt).category is not None for prompt in prompts)
