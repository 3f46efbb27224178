"""The numbers of the official code (tests/goldens/README.md), function by function; docs/parity.md has the table."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from small_run import CONFIG
from tiny_diffusion import save_tiny_stable_diffusion
from torch import Tensor

from dreamsplat import dream_steps
from dreamsplat.guidance import SDS, sds
from dreamsplat.guidance.conditions import describe
from dreamsplat.guidance.sds import weight
from dreamsplat.maths.heun import karras_sigmas
from dreamsplat.method import lift
from dreamsplat.method.cameras import make_views, orbit, sample_views
from dreamsplat.method.noise_levels import sigma_of_time
from dreamsplat.method.prompts import blended_views, opposed_views, view_word
from dreamsplat.presets import GAUSSIAN_DREAMER
from dreamsplat.priors2d.stable_diffusion import StableDiffusion
from dreamsplat.priors3d.shap_e import sampler
from dreamsplat.priors3d.shap_e.points import grid_points, mesh_vertices
from dreamsplat.representations import LearningRates, Splats
from dreamsplat.representations.densify import ScreenStats, is_due, plan
from dreamsplat.representations.params import SplatParams
from dreamsplat.types import PointCloud, Views

if TYPE_CHECKING:
    from dreamsplat.priors2d.stable_diffusion.model import LatentDiffusion

GOLDENS = Path(__file__).parent.parent / "goldens"
assert isinstance(GAUSSIAN_DREAMER.representation, Splats) and isinstance(GAUSSIAN_DREAMER.loss, SDS)
SPLATS, LOSS = GAUSSIAN_DREAMER.representation, GAUSSIAN_DREAMER.loss
DENSIFY = SPLATS.densify
assert DENSIFY is not None


def golden(name: str) -> dict[str, Tensor]:
    return load_file(GOLDENS / f"{name}.safetensors")


# --- the start --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grown() -> PointCloud:
    """The golden cloud, grown with the official draws."""
    cloud, chance = golden("lift"), np.random.RandomState(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lift, "_BLOCK", 1_000_000)
        patch.setattr(
            lift, "_uniform", lambda count, generator, like: torch.from_numpy(chance.random_sample((count, 3)))
        )
        start = PointCloud(cloud["in.xyz"].double(), cloud["in.rgb"].double())
        return lift.grow_points(start, torch.Generator())


def test_growing_is_bit_identical(grown):
    official = golden("lift")
    assert torch.equal(grown.xyz, official["grown.xyz"]) and torch.equal(grown.rgb, official["grown.rgb"])


def test_the_first_gaussians_are_those_of_the_official_code(grown):
    official = golden("lift")
    world = PointCloud((1.6 * grown.xyz).float(), grown.rgb.float())
    raw = SplatParams.from_gaussians(lift.to_gaussians(world), LearningRates()).leaves
    torch.testing.assert_close(raw["means"].detach(), official["init.xyz"], atol=3e-7, rtol=0)
    torch.testing.assert_close(raw["log_scales"].detach(), official["init.log_scales"], atol=2e-5, rtol=0)
    for ours, theirs in (("quats", "quats"), ("sh_dc", "sh_dc")):
        torch.testing.assert_close(raw[ours].detach(), official[f"init.{theirs}"], atol=1e-6, rtol=0)
    torch.testing.assert_close(
        raw["logit_opacities"].detach(), official["init.logit_opacities"][:, 0], atol=1e-6, rtol=0
    )


def test_vertices_of_the_surface_come_in_the_official_order():
    official = golden("mesh_vertices")
    values = official["sdf_grid"].flatten()
    points = grid_points(24, torch.device("cpu"))

    def field(xyz: Tensor) -> tuple[Tensor, Tensor]:
        known = len(xyz) == len(points) and torch.equal(xyz, points)
        return (values if known else xyz[:, 0]), torch.zeros_like(xyz)

    assert torch.equal(mesh_vertices(field, 24, torch.device("cpu")).xyz, official["vertices"])


def test_shap_es_sampler_gives_the_official_latents():
    official = golden("shap_e_sampler")
    steps = torch.arange(1025, dtype=torch.float64) / 1024
    cumulative = torch.exp(-12 * steps)
    alphas_cumprod = torch.cumprod(1 - (1 - cumulative[1:] / cumulative[:-1]).clamp(max=0.999), dim=0)
    centres, deviation = official["centres"].double(), 0.15

    def estimates(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The posterior mean under a mixture of Gaussians, whose first three are meant by the condition."""
        abar = alphas_cumprod[t]
        variance, y = float((1 - abar) / abar), x.double() / abar.sqrt()
        distance = (y[:, None] - centres).square().sum(dim=-1)
        shrink = deviation**2 / (deviation**2 + variance)
        found = []
        for rest in (0.0, -20.0):
            favour = torch.tensor([0.0] * 3 + [rest] * 9, dtype=torch.float64)
            mean = torch.softmax(favour - distance / (2 * (deviation**2 + variance)), dim=1) @ centres
            found.append((mean + shrink * (y - mean)).float())
        return found[0], found[1]

    torch.testing.assert_close(karras_sigmas(64, sampler.SIGMA_MIN, sampler.SIGMA_MAX), official["sigmas"])
    ours = sampler.sample(estimates, official["noise"], alphas_cumprod, 15.0, 64)
    torch.testing.assert_close(ours, official["sample"], atol=1e-4, rtol=0)
    assert float((official["sample_of_diffusers_heun"] - official["sample"]).norm() / official["sample"].norm()) > 0.2


# --- cameras and words ------------------------------------------------------------------------------------------------


def test_cameras_project_to_the_official_pixels():
    official = golden("cameras")
    azimuth, elevation, distance, fov = official["angles"].T
    views = make_views(azimuth, elevation, distance, fov, 1024, 1024)
    pose, pinhole = views.cameras.world_to_camera.double(), views.cameras.intrinsics.double()
    seen = official["corners"].double() @ pose[:, :3, :3].mT + pose[:, None, :3, 3]
    pixels = (seen @ pinhole.mT)[..., :2] / seen[..., 2:]
    # Theirs counts pixel centres in whole numbers.
    torch.testing.assert_close(pixels - 0.5, official["pixels_1024"].double(), atol=2e-3, rtol=0)
    torch.testing.assert_close(seen[..., 2], official["depth"].double(), atol=2e-6, rtol=0)
    centre = -(pose[:, :3, :3].mT @ pose[:, :3, 3:])[..., 0]
    torch.testing.assert_close(centre, official["centre"].double(), atol=3e-6, rtol=0)


def test_angles_distances_and_fields_of_view_are_distributed_as_officially():
    official = json.loads((GOLDENS / "camera_quantiles.json").read_text())
    generator = torch.Generator().manual_seed(0)
    sides: dict[bool, list[Views]] = {True: [], False: []}
    while min(map(len, sides.values())) < 50:  # The golden has 50 batches of either side of the coin.
        views = sample_views(GAUSSIAN_DREAMER.cameras, 1000, 8, generator)
        sides[bool((views.elevation_deg > 42).any())].append(views)  # Only the uniform side reaches beyond 42 degrees.
    batches = sides[True][:50] + sides[False][:50]
    for name, theirs, most in (("elevation_deg",) * 2 + (0.6,), ("azimuth_deg",) * 2 + (2.0,),
                               ("distance",) * 2 + (0.02,), ("fov_y_deg", "fovy_deg", 0.2)):  # fmt: skip
        drawn = torch.cat([getattr(views, name) for views in batches])
        ours = np.quantile(drawn.numpy(), official["quantiles"])
        np.testing.assert_allclose(ours, official[theirs], atol=most, rtol=0, err_msg=name)


def test_view_words_and_perp_neg_weights_agree():
    official = golden("view_text")
    with safe_open(GOLDENS / "view_text.safetensors", "pt") as file:
        names = file.metadata()["word_names"].split(",")
    pairs = list(zip(official["azimuth"].tolist(), official["elevation"].tolist(), strict=True))
    assert [view_word(*angles) for angles in pairs] == [names[int(word)] for word in official["word"]]
    same = torch.ones(len(pairs))
    views = make_views(official["azimuth"], official["elevation"].clamp(-90, 90), same, 40 * same, 8, 8)
    _, _, weights = opposed_views(views)
    turned = ((official["azimuth"] + 180) % 360 - 180).abs()
    clear = (turned != 90) & (official["word"] != names.index("overhead"))  # At 90 degrees the two take other branches.
    torch.testing.assert_close(weights.T[clear], official["perp_neg_weights"][clear], atol=1e-6, rtol=0)
    assert len(blended_views(views)[0]) == len(pairs)


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_the_sds_gradient_is_the_official_one_from_what_the_network_said():
    official = golden("sds")
    t = official["t20.t"].float() / 1000
    sigma = sigma_of_time(t)[:, None, None, None]
    said, negative = official["t20.eps_text"], official["t20.eps_neg"]
    noisy = official["t20.noisy"] * (1 + sigma**2).sqrt()  # z + sigma n, where theirs has unit variance
    estimates = {name: noisy - sigma * eps for name, eps in (("text", said), ("negative", negative))}
    guided = estimates["negative"] + LOSS.guidance_scale * (estimates["text"] - estimates["negative"])
    ours = weight("sds", sigma) * (official["z"] - guided) / sigma
    error = (ours - official["t20.gradient"]).norm() / official["t20.gradient"].norm()
    assert float(error) < 5e-5  # our sigma is interpolated


@pytest.fixture(scope="module")
def prior2d(tmp_path_factory) -> LatentDiffusion:
    """The checkpoint of random weights that the official code had."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from dreamsplat.priors2d.stable_diffusion.model import LatentDiffusion

    folder = save_tiny_stable_diffusion(tmp_path_factory.mktemp("official"))
    prior = StableDiffusion(model=str(folder), dtype="fp32").load(torch.device("cpu"))
    assert isinstance(prior, LatentDiffusion)
    official = golden("sds")
    with torch.no_grad():
        texts = golden("view_text")["prompt_embeddings"][-1:].expand(4, -1, -1)
        eps = prior.network.unet(official["t20.noisy"], official["t20.t"], texts).sample
    if not torch.allclose(eps, official["t20.eps_neg"], atol=1e-4):
        pytest.skip("this version of torch or diffusers draws other weights")
    return prior


NEGATIVE = "ugly, bad anatomy, blurry"
"""Of the golden: the whole one is too long for a tokenizer of letters."""


def test_prompts_have_the_official_embeddings(prior2d):
    prompts = [*(f"a fox, {word} view" for word in ("side", "front", "back", "overhead")), NEGATIVE]
    embedded = prior2d.embed(prompts, orbit(5, size=8))
    torch.testing.assert_close(embedded, golden("view_text")["prompt_embeddings"], atol=5e-6, rtol=0)


@pytest.mark.parametrize(
    ("case", "name", "scale", "view_text"),
    [
        ("t20", "gradient", LOSS.guidance_scale, "words"),
        ("t333", "gradient", LOSS.guidance_scale, "words"),
        ("perp", "gradient_one_by_one", 100.0, "perp-neg"),  # docs/parity.md: its batch has an error
    ],
)
def test_the_loss_gives_the_official_gradient(prior2d, monkeypatch, case, name, scale, view_text):
    official, same = golden("sds"), torch.ones(4)
    monkeypatch.setattr(sds, "normal_like", lambda z, generator: official["noise"])
    views = make_views(official["azimuth"], official["elevation"], same, 40 * same, 8, 8)
    conditions = describe(prior2d, views, "a fox", NEGATIVE, view_text)
    sigma = sigma_of_time(official[f"{case}.t"] / 1000)
    ours = replace(LOSS, guidance_scale=scale).grad(prior2d, official["z"], sigma, conditions, torch.Generator())
    gradient = official[f"{case}.{name}"]
    assert float((ours - gradient).norm() / gradient.norm()) < 2e-5


# --- rates and densification ------------------------------------------------------------------------------------------


def test_rates_are_the_official_ones():
    names = {"xyz": "means", "f_dc": "sh_dc", "f_rest": "sh_rest", "opacity": "logit_opacities"}
    names |= {"scaling": "log_scales", "rotation": "quats"}
    for step, rates in json.loads((GOLDENS / "rates.json").read_text()).items():
        ours = SPLATS.rates.at(int(step))
        assert {name: pytest.approx(rates[theirs], rel=1e-12) for theirs, name in names.items()} == ours


def test_densification_is_due_when_the_official_code_densifies():
    calls = json.loads((GOLDENS / "densify_calls.json").read_text())
    assert [step for step in range(1200) if is_due(step, DENSIFY)] == [step for step, _ in calls]
    for step, (gradient, opacity, extent, screen) in calls:
        assert (DENSIFY.grad_threshold, DENSIFY.min_opacity, DENSIFY.extent) == (gradient, opacity, extent)
        assert (step > DENSIFY.prune_big_after) == (screen is not None)


@pytest.mark.parametrize("step", [400, 600])
def test_cloned_split_and_pruned_rows_are_the_official_ones(step):
    official = golden(f"densify_{step}")
    raw = {name.removeprefix("in."): value for name, value in official.items() if name.startswith("in.")}
    count = len(raw["means"])
    leaves = {name: raw[name] for name in ("means", "log_scales", "quats", "logit_opacities")}
    leaves |= {"sh_dc": torch.arange(3.0 * count).reshape(count, 1, 3), "sh_rest": torch.zeros(count, 0, 3)}
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in leaves.items()}
    params = SplatParams(leaves, moments, LearningRates(), 0)
    stats = ScreenStats(raw["grad_norm_sum"], raw["visible_count"])
    config = replace(DENSIFY, max_gaussians=None)
    decided = plan(params.gaussians(), stats, step, config)
    params.apply(decided, torch.Generator().manual_seed(42))
    assert len(params) == len(official["out.means"])
    for name in ("log_scales", "quats", "logit_opacities"):
        torch.testing.assert_close(params.leaves[name].detach(), official[f"out.{name}"], atol=1e-6, rtol=0)
    placed = len(params) - 2 * int(decided.split.sum())  # The children of splits come last, at random places.
    assert torch.equal(params.leaves["means"].detach()[:placed], official["out.means"][:placed]) and placed > 50


def test_a_step_of_densification_updates_nothing():
    nothing_grows = replace(DENSIFY, start=0, every=2, grad_threshold=1e9, min_opacity=0.0)
    config = replace(CONFIG, steps=5, representation=replace(CONFIG.representation, densify=nothing_grows))
    assets = [step.asset.tensors() for step in dream_steps(config)]
    still = [all(torch.equal(now[name], before[name]) for name in now) for before, now in pairwise(assets)]
    assert still == [is_due(step, nothing_grows) for step in range(5)] == [False, False, True, False, True]
