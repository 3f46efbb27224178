"""A long run of other people's models is announced, and refused where it would take hours or does not fit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from dreamsplat import DreamConfig
from dreamsplat.commands import estimate
from dreamsplat.errors import DeviceUnavailable
from dreamsplat.method import devices
from dreamsplat.presets import FAST, GAUSSIAN_DREAMER, PAPER
from dreamsplat.priors2d import StableDiffusion

CPU = replace(GAUSSIAN_DREAMER, prompt="a fox", device="cpu")


@pytest.fixture(autouse=True)
def speed(monkeypatch) -> None:
    """A processor of 200 GFLOPS, without a GPU beside it."""
    monkeypatch.setattr(estimate, "_flops_per_second", lambda device: 2e11)
    monkeypatch.setattr(estimate, "cuda_is_idle", lambda: "")


@pytest.mark.parametrize("preset", [GAUSSIAN_DREAMER, PAPER, FAST])
def test_the_papers_presets_are_refused_on_a_processor_unless_asked_for(preset, capsys):
    config = replace(preset, prompt="a fox", device="cpu")
    with pytest.raises(DeviceUnavailable, match="would take about .* on this processor") as refused:
        estimate.announce(config, yes_slow=False)
    assert "--yes-slow" in refused.value.advice and "\n" not in str(refused.value)
    estimate.announce(config, yes_slow=True)
    assert "estimate: about" in capsys.readouterr().err


def test_bundled_models_and_small_checkpoints_start_at_once(tmp_path, capsys):
    estimate.announce(DreamConfig(prompt="a red mushroom"), yes_slow=False)
    assert capsys.readouterr().err == ""
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(bytes(1000))
    estimate.announce(replace(CPU, steps=10, prior2d=StableDiffusion(str(tmp_path), resolution=64)), yes_slow=False)


def test_costs_follow_views_steps_and_the_encoder():
    cost, half = (config.prior2d.cost(config) for config in (CPU, replace(CPU, steps=600)))
    assert cost is not None and half is not None
    assert half.flops == cost.flops / 2 and half.gigabytes == cost.gigabytes
    assert 14 < cost.gigabytes < 18  # the official code takes 16 GB at 1024 px
    at_512 = replace(CPU, render_size=512)
    assert 11 < at_512.prior2d.cost(at_512).gigabytes < 15  # and 13 at 512 px
    for gigabytes in (8, 12, 16):
        fitted = CPU.prior2d.fit_memory(CPU, gigabytes)
        assert fitted.prior2d.cost(fitted).gigabytes <= gigabytes


@pytest.mark.parametrize(("total_gb", "advice"), [(12, "--vram 12"), (10, "--vram 8"), (6, "a larger GPU"), (24, None)])
def test_a_gpu_that_is_too_small_is_named_with_the_flag_that_helps(monkeypatch, total_gb, advice):
    monkeypatch.setattr(estimate, "resolve_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    properties = SimpleNamespace(total_memory=total_gb * 1e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    config = replace(CPU, device="cuda")
    if advice is None:
        estimate.announce(config, yes_slow=False)
        return
    with pytest.raises(DeviceUnavailable, match="needs about 15 GB, and Some GPU has") as refused:
        estimate.announce(config, yes_slow=False)
    assert advice in refused.value.advice


def test_a_torch_without_cuda_beside_a_gpu_is_named_with_the_command_that_mends_it(monkeypatch):
    monkeypatch.setattr(devices.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert f"pip install --force-reinstall torch --index-url {devices.CUDA_WHEELS}" in devices.cuda_is_idle()
    with pytest.raises(DeviceUnavailable) as refused:
        devices.resolve_device("cuda")
    assert "built without CUDA" in refused.value.advice
    monkeypatch.setattr(estimate, "cuda_is_idle", devices.cuda_is_idle)
    with pytest.raises(DeviceUnavailable) as refused:
        estimate.announce(CPU, yes_slow=False)
    assert "pip install --force-reinstall torch" in refused.value.advice
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "torch cannot use it" in devices.cuda_is_idle()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.cuda_is_idle() == ""
