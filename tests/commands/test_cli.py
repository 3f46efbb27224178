"""The command line: what it writes, what it prints, how it fails. Mostly with a few quick steps for the method."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import is_one_error
from PIL import Image
from rich.console import Console

from dreamsplat import commands
from dreamsplat.assets.draw import BACKDROP
from dreamsplat.commands import generate, progress
from dreamsplat.config import DreamConfig
from dreamsplat.errors import DeviceUnavailable, UnknownWord
from dreamsplat.formats import load
from dreamsplat.presets import PRESETS
from dreamsplat.runs import execute, folder
from dreamsplat.types import PointCloud, Step


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
            for index, stage in enumerate(["lift", "distil", "distil"]):
                if before and stage in before:
                    raise before[stage]
                shown = cloud if stage == "lift" else None
                numbers = {"gradient_norm": float("nan")}
                step = Step(stage, index, 2, gaussians, shown, None, numbers, {"step": torch.zeros(())})
                watch(step)
                yield step

        monkeypatch.setattr(execute, "dream_steps", steps)
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
    [("--lift.candidates", 10**12), ("--prior3d.points", 10**11), ("--prior3d.points", 0),
     ("--prior3d.sampling-steps", 10**9), ("--rates.means", "nan"), ("--rates.scales", "inf")],
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
    code, out, _ = run(command, "--help")
    assert code == 0 and "--help" in out


@pytest.mark.parametrize("command", commands.COMMANDS)
def test_a_wrong_flag_is_one_line_and_exit_code_2(run, command):
    code, out, err = run(command, "--no-such-flag")
    assert code == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert f"See `dreamsplat {command} --help`." in err


# --- generate ---------------------------------------------------------------------------------------------------------


def test_generate_writes_everything_a_person_wants(run, quick_steps, tmp_path):
    (config,) = (quick_steps(),)
    code, out, err = run("generate", "a red mushroom", "--out", tmp_path / "new" / "run", "--seed", 3)
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
    draw = folder.contact_sheet
    monkeypatch.setattr(
        folder, "contact_sheet", lambda rows, columns: sheets.append((rows, columns)) or draw(rows, columns)
    )
    quick_steps()
    run("generate", "a red mushroom", "--out", tmp_path)
    for rows, columns in sheets:
        assert [label.split()[0] for label, _ in rows[:2]] == ["3D", "initial"] and len(rows) == 3 and len(columns) == 6
        for _, images in rows:
            assert images.shape == (6, 192, 192, 3)
            assert all(not torch.equal(images[0], other) for other in images[1:])
            assert (images - torch.tensor(BACKDROP)).abs().amax() > 0.2
    assert [rows[2][0].split()[0] for rows, _ in sheets] == ["now", "final"]
    assert pixels(tmp_path / "preview.png").shape == draw(*sheets[-1]).shape


def test_dry_run_prints_the_configuration_that_a_run_writes(run, quick_steps, tmp_path):
    quick_steps()
    flags = ("a blue car", "--seed", 7, "--steps", 2)
    code, out, _ = run("generate", *flags, "--out", tmp_path / "dry", "--dry-run")
    assert code == 0 and not (tmp_path / "dry").exists()
    assert json.loads(out)["prompt"] == "a blue car" and json.loads(out)["seed"] == 7
    run("generate", *flags, "--out", tmp_path / "run")
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == json.loads(out)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("flag", [("--preset", "{}"), ("--preset={}",)])
def test_a_preset_gives_the_defaults_that_other_flags_override(preset, flag):
    chosen = [part.format(preset) for part in flag]
    args = generate.parse(["a red mug", "--out", "x", "--seed", "11", *chosen])
    assert args.config() == dataclasses.replace(PRESETS[preset], prompt="a red mug", seed=11)


def test_an_unknown_preset_is_refused_with_the_known_ones(run, tmp_path):
    code, _, err = run("generate", "a red mug", "--out", tmp_path / "x", "--preset", "papre")
    assert code == 2 and is_one_error(err) and all(name in err for name in PRESETS)


@pytest.mark.parametrize("prompt", ["", "   ", "red " * 2500, "a red zeppelin"])
def test_a_prompt_that_cannot_be_used_is_one_error_and_leaves_no_folder(run, tmp_path, prompt):
    code, _, err = run("generate", prompt, "--out", tmp_path / "x")  # The method itself, not a stand-in, refuses these.
    assert code == 2 and is_one_error(err) and len(err) < 1000
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_one_error(run, tmp_path):
    code, _, err = run("generate", "a red mug", "--out", tmp_path / "x", "--device", "cuda")
    assert code == 2 and is_one_error(err) and "cuda" in err.lower()


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


def test_ctrl_c_keeps_what_is_there(run, quick_steps, tmp_path):
    quick_steps(before={"distil": KeyboardInterrupt()})
    code, _, err = run("generate", "a red mug", "--out", tmp_path / "run")
    assert code == 130 and "stopped" in err and "Traceback" not in err
    assert len(load(tmp_path / "run" / "asset.ply")) == 30
    with Image.open(tmp_path / "run" / "preview.png") as preview:
        assert preview.width > 6 * 192 and preview.height > 3 * 192
    assert json.loads((tmp_path / "run" / "config.json").read_text())["prompt"] == "a red mug"


def test_ctrl_c_before_there_are_gaussians_leaves_nothing(run, quick_steps, tmp_path):
    quick_steps(before={"lift": KeyboardInterrupt()})
    code, _, err = run("generate", "a red mug", "--out", tmp_path / "run")
    assert code == 130 and "nothing yet" in err
    assert not (tmp_path / "run").exists()


def test_two_real_steps_with_one_seed_give_the_same_asset_twice(run, tmp_path):
    few = ("--steps", 2, "--prior3d.sampling-steps", 3, "--prior3d.points", 512)
    for name in ("a", "b"):
        code, _, err = run("generate", "a red mushroom", "--out", tmp_path / name, *few)
        assert code == 0, err
    assert (tmp_path / "a" / "asset.ply").read_bytes() == (tmp_path / "b" / "asset.ply").read_bytes()


# --- progress ---------------------------------------------------------------------------------------------------------


def shown_on(console: Console, random_gaussians, steps: int) -> str:
    gaussians = random_gaussians(1234)
    cloud = PointCloud(gaussians.means[:500], gaussians.means[:500])
    with console.capture() as capture, progress.show_progress(console) as report:
        report(Step("lift", 0, steps, gaussians, cloud, None, {}, {}))
        for index in range(1, steps + 1):
            report(Step("distil", index, steps, gaussians, None, None, {}, {}))
    return capture.get()


def test_plain_progress_is_a_few_lines_however_many_steps(random_gaussians):
    lines = shown_on(Console(force_terminal=False, width=200), random_gaussians, steps=500).splitlines()
    assert lines[0] == "lift to Gaussians: 1,234 Gaussians"
    assert len(lines) <= 4 and lines[-1].startswith("distil step 500/500: ")
    assert "steps/s" in lines[-1] and "0 s left" in lines[-1] and "1,234 Gaussians" in lines[-1]


def test_the_rate_of_a_resumed_run_counts_its_own_steps_only(random_gaussians, monkeypatch):
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    pace = progress._Pace()
    gaussians = random_gaussians(3)
    assert pace.describe(Step("distil", 200, 400, gaussians, None, None, {}, {})) == "3 Gaussians"
    assert "2.0 steps/s" in pace.describe(Step("distil", 220, 400, gaussians, None, None, {}, {}))


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device")])
def test_a_log_that_is_closed_or_full_does_not_stop_a_run(random_gaussians, error):
    def write(text: str) -> None:
        raise error

    closed = SimpleNamespace(write=write, flush=lambda: None, isatty=lambda: False)
    with progress.show_progress(Console(file=closed, force_terminal=False)) as report:
        report(Step("lift", 0, 1, random_gaussians(3), None, None, {}, {}))


def test_a_terminal_shows_a_bar_with_the_same_numbers(random_gaussians):
    text = shown_on(Console(force_terminal=True, width=200), random_gaussians, steps=5)
    assert "step 5/5" in text and "steps/s" in text and "1,234 Gaussians" in text


# --- words ------------------------------------------------------------------------------------------------------------


def test_words_lists_every_known_word_and_two_prompts_that_work(run):
    from dreamsplat.world.language.captions import known_words, parse_caption

    code, out, err = run("words")
    assert code == 0, err
    assert all(f" {word}" in out for word in known_words())
    prompts = [line.split('"')[1] for line in out.splitlines() if line.startswith("try: ")]
    assert len(prompts) == 2 and all(parse_caption(prompt).category is not None for prompt in prompts)
