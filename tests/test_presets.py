"""Every preset from end to end, offline, on tiny checkpoints in the real formats; and the constants it stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_diffusion import save_tiny_autoencoder, save_tiny_stable_diffusion
from tiny_shap_e import tiny_text_pipeline

from dreamsplat import dream_steps
from dreamsplat.commands import main
from dreamsplat.config import DreamConfig
from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import CSD, ISM, SDS, SJC, VSD
from dreamsplat.presets import FAST, GAUSSIAN_DREAMER, PAPER, PRESETS
from dreamsplat.priors2d import StableDiffusion
from dreamsplat.priors3d import ShapE
from dreamsplat.representations import DensifyConfig, Lift

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MODELS = ("shap-e", "stable-diffusion", "tiny")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with tiny checkpoints of all models, and no way to any other."""
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]), pytest.MonkeyPatch.context() as environment:
        environment.setenv("HF_HUB_OFFLINE", "1")
        torch.manual_seed(0)
        tiny_text_pipeline().save_pretrained(folder / "shap-e")
        save_tiny_stable_diffusion(folder / "stable-diffusion")
        save_tiny_autoencoder(folder / "tiny")
        yield folder


def small(preset: DreamConfig, models: Path, steps: int = 4) -> DreamConfig:
    """The preset with its models exchanged for tiny ones, and less of everything."""
    assert isinstance(preset.prior3d, ShapE) and isinstance(preset.prior2d, StableDiffusion)
    tiny = str(models / "tiny") if preset.prior2d.tiny_autoencoder else None
    return replace(
        preset,
        prompt="a red mushroom",
        device="cpu",
        steps=steps,
        render_size=32,
        prior3d=replace(preset.prior3d, model=str(models / "shap-e"), sampling_steps=3, grid=14),
        prior2d=replace(preset.prior2d, model=str(models / "stable-diffusion"), tiny_autoencoder=tiny, dtype="fp32"),
        representation=replace(
            preset.representation,
            lift=replace(preset.representation.lift, candidates=2000, max_points=200),
            densify=DensifyConfig(start=0, stop=steps, every=2, grad_threshold=1e-6, max_gaussians=300),
        ),
    )


@pytest.mark.parametrize("name", ["gaussiandreamer", "paper", "fast"])
def test_a_preset_runs_from_text_to_asset_and_changes_the_gaussians(name: str, models: Path) -> None:
    first, *_, last = dream_steps(small(PRESETS[name], models))
    assert (first.stage, last.stage, last.index) == ("lift", "distil", 4)
    assert all(bool(tensor.isfinite().all()) for tensor in vars(last.gaussians).values())
    assert not torch.equal(first.gaussians.sh[:10], last.gaussians.sh[:10])
    assert last.rendering is not None and float(last.rendering.alpha.max()) > 0.05  # never a black image


def test_the_same_seed_gives_the_same_asset(models: Path) -> None:
    once, again = (list(dream_steps(small(GAUSSIAN_DREAMER, models)))[-1].gaussians for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(vars(once).values(), vars(again).values(), strict=True))


@pytest.mark.parametrize(
    "loss", [SDS(), SJC(), CSD(), ISM(strides=2), VSD(rank=2)], ids=lambda loss: type(loss).__name__
)
@pytest.mark.parametrize("view_text", ["words", "interpolated", "perp-neg"])
def test_every_loss_runs_with_every_way_to_tell_the_view(loss, view_text, models: Path) -> None:
    config = replace(small(GAUSSIAN_DREAMER, models, steps=2), loss=loss, view_text=view_text)
    steps = list(dream_steps(config))
    assert all(step.metrics["gradient_norm"] > 0 for step in steps[1:])
    assert all(bool(tensor.isfinite().all()) for tensor in vars(steps[-1].gaussians).values())


def test_the_command_line_runs_a_preset_on_local_folders(models: Path, tmp_path: Path, capsys) -> None:
    flags = "--steps 2 --render-size 16 --device cpu --representation.lift.candidates 1000 "
    flags += "--representation.lift.max-points 100 prior3d:shap-e "
    flags += f"--prior3d.model {models / 'shap-e'} --prior3d.sampling-steps 2 --prior3d.grid 12 "
    flags += f"prior2d:stable-diffusion --prior2d.model {models / 'stable-diffusion'}"
    out = tmp_path / "fox"
    code = main(["generate", "a fox", "--out", str(out), "--preset", "gaussiandreamer", *flags.split()])
    assert code == 0, capsys.readouterr().err
    assert (out / "asset.ply").stat().st_size > 1000
    assert json.loads((out / "config.json").read_text())["prior2d"]["kind"] == "stable-diffusion"


def test_a_model_that_is_not_cached_is_named_with_the_command_that_fetches_it(models: Path, tmp_path: Path, capsys):
    out = tmp_path / "fox"
    code = main(
        ["generate", "a fox", "--out", str(out), "--preset", "gaussiandreamer", "--device", "cpu", "--yes-slow"]
    )
    error = capsys.readouterr().err
    assert code == 2 and not out.exists()
    assert "openai/shap-e" in error and "hf download openai/shap-e" in error


def test_gaussiandreamer_holds_the_constants_of_the_official_code() -> None:
    c = GAUSSIAN_DREAMER
    assert (c.steps, c.views, c.render_size, c.seed, c.background) == (1200, 4, 1024, 0, "black")
    assert c.loss == SDS(guidance_scale=101.0, weighting="sds")
    assert (c.times.early, c.times.late, c.times.switch_step) == ((0.02, 0.98), (0.02, 0.55), 500)  # type: ignore[union-attr]
    assert (c.clip.first, c.clip.last, c.clip.steps) == (1.5, 2.0, 1000)
    assert (c.cameras.elevation_deg, c.cameras.distance, c.cameras.fov_y_deg) == ((-10, 60), (1.5, 4), (40, 70))
    assert (c.cameras.elevation_sampling, c.cameras.opposite) == ("paper", False)
    splats = c.representation
    assert splats.lift == Lift(1_000_000, 0.01, 0.2, None, 1.6, 0.1, 0)
    r = splats.rates
    assert (r.means, r.means_final, r.means_decay_steps, r.sh_dc, r.opacities) == (2e-4, 1e-4, 30_000, 0.0125, 0.01)
    assert (r.scales, r.quats) == (0.005, 0.001)
    d = splats.densify
    assert (d.start, d.stop, d.every, d.grad_threshold, d.min_opacity) == (300, 900, 100, 2e-4, 0.05)
    assert (d.percent_dense * d.extent, d.percent_too_big * d.extent, d.prune_big_after) == (0.04, 0.4, 500)
    assert isinstance(c.prior3d, ShapE) and (c.prior3d.sampling_steps, c.prior3d.colour) == (64, "linear")
    assert isinstance(c.prior2d, StableDiffusion) and c.prior2d.tiny_autoencoder is None
    assert c.negative_prompt.startswith("ugly, bad anatomy") and c.view_text == "words"


def test_paper_differs_from_the_code_only_where_the_paper_does() -> None:
    changed = {f for f in vars(PAPER) if getattr(PAPER, f) != getattr(GAUSSIAN_DREAMER, f)}
    assert changed == {"loss", "cameras", "representation"}
    rates = PAPER.representation.rates
    assert (rates.means, rates.scales, rates.quats) == (5e-5, 1e-3, 1e-2)


@pytest.mark.parametrize(
    ("gigabytes", "render_size", "views", "dtype", "slicing"),
    [(24, 1024, 4, "auto", False), (16, 512, 4, "fp16", False), (12, 512, 2, "fp16", True), (8, 512, 4, "fp16", True)],
)
def test_vram_chooses_from_the_documented_table(gigabytes, render_size, views, dtype, slicing) -> None:
    config = GAUSSIAN_DREAMER.prior2d.fit_memory(GAUSSIAN_DREAMER, gigabytes)
    prior = config.prior2d
    assert isinstance(prior, StableDiffusion)
    assert (config.render_size, config.views, prior.dtype, prior.attention_slicing) == (
        render_size, views, dtype, slicing,
    )  # fmt: skip
    assert (prior.tiny_autoencoder is not None and prior.tiny_until == 1) == (gigabytes == 8)
    assert FAST.prior2d.fit_memory(FAST, gigabytes).render_size == 512


def test_vram_that_is_not_in_the_table_or_not_needed_is_refused() -> None:
    with pytest.raises(InvalidInput, match="8, 12, 16, 24"):
        GAUSSIAN_DREAMER.prior2d.fit_memory(GAUSSIAN_DREAMER, 10)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="vram: BundledImagePrior has no settings that save memory"):
        PRESETS["bundled"].prior2d.fit_memory(PRESETS["bundled"], 8)


def test_a_picture_needs_shap_e(tmp_path: Path, capsys) -> None:
    assert main(["generate", "a red mushroom", "--out", str(tmp_path / "x"), "--image", "photo.png"]) == 2
    assert "BundledCloudPrior does not start from a picture" in capsys.readouterr().err
