"""`dreamsplat download`: sizes first, then all that a preset needs, continued and checked. The hub is a local one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")
from fake_hub import Hub, empty_cache, serving
from huggingface_hub import constants
from single_file import save_single_file
from tiny_diffusion import save_tiny_autoencoder, save_tiny_stable_diffusion
from tiny_shap_e import tiny_text_pipeline

from dreamsplat.presets import PRESETS
from dreamsplat.priors2d.stable_diffusion.checkpoint import MODELS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHAP_E, TAESD = "openai/shap-e", "madebyollin/taesd"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tiny_text_pipeline().save_pretrained(root / "shap-e", variant="fp16")
        save_tiny_stable_diffusion(root / "sd")
        save_tiny_autoencoder(root / "taesd")
    for weights in list((root / "sd").rglob("*.safetensors")):
        shutil.copy(weights, weights.with_suffix(".fp16.safetensors"))
    return {SHAP_E: root / "shap-e", MODELS[0]: root / "sd", TAESD: root / "taesd"}


@pytest.fixture
def hub(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    empty_cache(tmp_path / "cache", monkeypatch)
    with serving(monkeypatch) as server:
        for model, folder in folders.items():
            files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
            server.repositories[model] = files | {"README.md": b"", "unet/weights.onnx": b"", "all.ckpt": b""}
        yield server


def test_a_preset_is_fetched_once_and_then_needs_no_network(run, hub: type[Hub], monkeypatch: pytest.MonkeyPatch):
    code, out, err = run("download", "--preset", "fast")
    assert code == 0, err
    first, second, third, total, *done = out.splitlines()
    for line, model in zip((first, second, third), (SHAP_E, MODELS[0], TAESD), strict=True):
        assert line.startswith(f"{model}, 0.00 GB in ") and line.endswith("GB to fetch")
    assert total.startswith("total: 0.00 GB to fetch into ") and total.endswith("GB are free")
    assert [line.split(":")[0] for line in done] == [SHAP_E, MODELS[0], TAESD]
    assert not [name for name in hub.fetched if name.endswith((".onnx", ".ckpt", ".md"))]
    count = len(hub.fetched)
    code, out, err = run("download", "--preset", "fast")
    assert code == 0 and len(hub.fetched) == count, err
    assert len([line for line in out.splitlines() if ": here, " in line]) == 3
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert run("download", "--preset", "fast")[0] == 0
    config = replace(PRESETS["fast"], prompt="a red mushroom", device="cpu")
    config.check()
    config.prior3d.load(torch.device("cpu"))
    config.prior2d.load(torch.device("cpu"))


def test_half_precision_is_fetched_where_a_gpu_reads_it(run, hub: type[Hub]):
    run("download", "--preset", "gaussiandreamer")
    unets = {name for name in hub.fetched if name.startswith("unet/d")}
    assert unets == {"unet/diffusion_pytorch_model.fp16.safetensors"}
    run("download", "--preset", "paper", "prior2d:stable-diffusion", "--prior2d.dtype", "fp32")
    # What is here already is read in any precision.
    assert {name for name in hub.fetched if name.startswith("unet/d")} == unets


def test_full_precision_is_fetched_where_the_settings_ask_for_it(run, hub: type[Hub]):
    run("download", "--preset", "paper", "prior2d:stable-diffusion", "--prior2d.dtype", "fp32")
    assert {name for name in hub.fetched if name.startswith("unet/d")} == {"unet/diffusion_pytorch_model.safetensors"}


def test_a_dry_run_fetches_nothing(run, hub: type[Hub], tmp_path: Path):
    code, out, err = run("download", "--preset", "fast", "--dry-run")
    assert code == 0 and "complete and checked" not in out, err
    assert hub.fetched == [] and not list((tmp_path / "cache").rglob("*.safetensors"))


def test_after_a_mirror_that_is_gone_the_next_one_is_taken(run, hub: type[Hub]):
    hub.repositories[MODELS[1]] = hub.repositories.pop(MODELS[0])
    code, out, err = run("download", "--preset", "gaussiandreamer")
    assert code == 0 and f"{MODELS[1]}: complete and checked" in out, err


def test_a_full_disk_is_told_before_anything_is_fetched(run, hub: type[Hub], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    code, _, err = run("download", "--preset", "fast")
    assert code == 2 and "0.0 GB are free, and 0.00 GB are needed. Make room, or set HF_HUB_CACHE" in err
    assert hub.fetched == []


def test_what_comes_with_the_package_or_lies_here_is_not_fetched(
    run, hub: type[Hub], folders: dict[str, Path], tmp_path: Path
):
    code, out, _ = run("download")
    assert code == 0 and out.startswith("Nothing to download")
    file = save_single_file(folders[MODELS[0]], tmp_path / "model.safetensors")
    for model in (file, folders[MODELS[0]]):
        flags = ("prior2d:stable-diffusion", "--prior2d.model", model)
        assert run("download", "--preset", "gaussiandreamer", *flags)[0] == 0
    assert not [name for name in hub.fetched if name.startswith("unet/")]


def test_a_hub_that_cannot_be_reached_is_one_line(run, hub: type[Hub], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, out, err = run("download", "--preset", "gaussiandreamer")
    assert code == 2 and out == "" and err.count("\n") == 1 and "HF_HUB_OFFLINE=1 is set" in err


@pytest.mark.parametrize("preset", ["gaussiandreamer", "paper", "fast"])
def test_every_model_of_a_preset_is_asked_for_in_half_precision(preset: str):
    config = PRESETS[preset]
    assert all(wanted.half for wanted in (*config.prior3d.checkpoints(), *config.prior2d.checkpoints()))
