"""The whole loop, in seconds: a hand-made cloud and a 2D prior in closed form."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
import torch
from analytic import GaussianDenoiser, GaussianPrior
from small_run import CONFIG as SMALL

from dreamsplat import DreamConfig, dream, dream_steps
from dreamsplat.assets.radiance_field import RadianceField
from dreamsplat.errors import DeviceUnavailable, InvalidInput
from dreamsplat.guidance import CSD, ISM, SDS, SJC
from dreamsplat.method.camera_range import CameraRange
from dreamsplat.priors2d import AbstractImagePrior
from dreamsplat.priors3d import GreyBall
from dreamsplat.representations import DensifyConfig, Lift, VoxelField
from dreamsplat.representations.splat_model import SplatModel
from dreamsplat.types import Step, Views

CONFIG = replace(SMALL, representation=replace(SMALL.representation, densify=DensifyConfig(stop=0)))


def _same(a: Step, b: Step) -> bool:
    pairs = zip(vars(a.gaussians).values(), vars(b.gaussians).values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("loss", [SDS(guidance_scale=1.0), SJC(guidance_scale=1.0)])
def test_distillation_brings_renderings_to_the_mean_of_the_prior(loss: SDS | SJC) -> None:
    steps = list(dream_steps(replace(CONFIG, loss=loss, steps=80)))
    # Where the ball covers the picture, its colour was 0.2 and the prior's images are 0.8 everywhere.
    inside = [s.rendering.rgb[:, 6:10, 6:10].mean().item() for s in steps if s.rendering is not None]
    assert inside[0] < 0.4
    assert abs(inside[-1] - 0.8) < 0.12


@pytest.mark.parametrize("loss", [SDS(guidance_scale=1.0), SJC(guidance_scale=1.0), CSD(guidance_scale=1.0), ISM()])
def test_a_field_follows_every_loss_from_a_ball_without_a_3d_prior(loss: SDS | SJC | CSD | ISM) -> None:
    field = VoxelField(cells=16, occupancy_every=4)
    config = replace(CONFIG, loss=loss, steps=40, prior3d=GreyBall(points=400), representation=field)
    steps = list(dream_steps(config))
    inside = [s.rendering.rgb[:, 6:10, 6:10].mean().item() for s in steps if s.rendering is not None]
    assert inside[0] < 0.55 and inside[-1] > 0.6
    assert isinstance(steps[-1].asset, RadianceField)


def test_a_field_gets_the_gradients_of_sds_and_sjc_alike_where_the_two_are_the_same() -> None:
    """SJC with reduced variance is SDS with w = 1, through a volume too."""
    config = replace(CONFIG, steps=3, representation=VoxelField(cells=16))
    ends = [
        list(dream_steps(replace(config, loss=loss)))[-1].asset.tensors()["grid"]
        for loss in (SDS(guidance_scale=1.0, weighting="uniform"), SJC(guidance_scale=1.0))
    ]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-4)


def test_dream_keeps_no_step_but_the_newest(monkeypatch) -> None:
    """Each holds a snapshot: all of them were gigabytes for a field."""
    alive: weakref.WeakSet[Step] = weakref.WeakSet()
    most = 0

    def noted(config: DreamConfig) -> Iterator[Step]:
        nonlocal most
        for step in dream_steps(config):
            alive.add(step)
            gc.collect()
            most = max(most, len(alive))
            yield step

    monkeypatch.setattr(sys.modules["dreamsplat.dream"], "dream_steps", noted)
    dream(replace(CONFIG, steps=6))
    assert most <= 3


def test_each_step_is_yielded_with_what_it_did() -> None:
    first, *rest = dream_steps(replace(CONFIG, steps=3))
    assert first.stage == "lift" and first.index == 0 and first.cloud is not None and first.rendering is None
    assert [s.stage for s in rest] == ["distil"] * 3 and [s.index for s in rest] == [1, 2, 3]
    assert all(s.rendering is not None and s.rendering.rgb.shape == (2, 16, 16, 3) for s in rest)
    assert all({"gradient_norm", "sigma", "gaussians"} <= s.metrics.keys() for s in rest)
    assert not any(t.requires_grad for t in vars(rest[-1].gaussians).values())


def test_the_same_seed_gives_the_same_asset_and_another_seed_another() -> None:
    config = replace(CONFIG, steps=5)
    (*_, a), (*_, b) = dream_steps(config), dream_steps(config)
    *_, other = dream_steps(replace(config, seed=1))
    assert _same(a, b) and not _same(a, other)


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    config = replace(CONFIG, steps=2)
    torch.manual_seed(1)
    *_, a = dream_steps(config)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    *_, b = dream_steps(config)
    assert _same(a, b) and torch.equal(before, torch.get_rng_state())


def test_the_network_runs_once_per_step_however_clean_the_image_is() -> None:
    calls = 0

    class Counting(GaussianPrior):
        def load(self, device: torch.device):  # noqa: ANN202
            prior = super().load(device)
            denoise = prior.denoise

            def counted(*args: torch.Tensor) -> torch.Tensor:
                nonlocal calls
                calls += 1
                return denoise(*args)

            prior.denoise = counted  # type: ignore[method-assign]
            return prior

    list(dream_steps(replace(CONFIG, prior2d=Counting(), steps=7, loss=SDS(guidance_scale=5.0))))
    assert calls == 7


def test_without_guidance_the_negative_prompt_is_not_even_embedded() -> None:
    embedded: list[str] = []

    class Listening(GaussianPrior):
        def load(self, device: torch.device):  # noqa: ANN202
            prior = super().load(device)
            embed = prior.embed

            def heard(prompts: list[str], views: Views) -> torch.Tensor:
                embedded.extend(prompts)
                return embed(prompts, views)

            prior.embed = heard  # type: ignore[method-assign]
            return prior

    for scale, expected in ((1.0, False), (2.0, True)):
        embedded.clear()
        config = replace(CONFIG, prior2d=Listening(), steps=1, loss=SDS(scale))
        list(dream_steps(replace(config, negative_prompt="ugly")))
        assert any(prompt.startswith("anything") for prompt in embedded)
        assert ("ugly" in embedded) == expected


def test_a_field_of_view_that_the_bundled_model_does_not_know_is_refused_before_anything_is_made() -> None:
    cameras = CameraRange(fov_y_deg=(40.0, 60.0))
    with pytest.raises(InvalidInput, match="fov_y_deg: 40 to 60, .* trained at 40 degrees only. Use 40 40"):
        DreamConfig(prompt="a red mushroom", cameras=cameras).check()


def test_densification_adds_gaussians_up_to_its_cap() -> None:
    densify = DensifyConfig(start=4, stop=30, every=5, grad_threshold=1e-9, min_opacity=0.0, max_gaussians=400)
    splats = replace(CONFIG.representation, densify=densify, lift=Lift(candidates=0))
    *_, last = dream_steps(replace(CONFIG, representation=splats, steps=30))
    assert 150 < len(last.gaussians) <= 400


def test_higher_harmonics_are_optimised_when_asked_for() -> None:
    splats = replace(CONFIG.representation, lift=replace(CONFIG.representation.lift, sh_degree=2))
    config = replace(CONFIG, representation=splats, steps=5)
    gaussians = dream(config)
    assert gaussians.sh.shape[1] == 9 and bool((gaussians.sh[:, 1:] != 0).any())


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(InvalidInput, match="prompt: empty"):
        next(dream_steps(replace(CONFIG, prompt=prompt)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_named() -> None:
    with pytest.raises(DeviceUnavailable, match="'cuda' was requested"):
        next(dream_steps(replace(CONFIG, device="cuda")))


@pytest.mark.parametrize("loss", [CSD(), ISM()])
def test_losses_that_push_away_from_the_negative_prompt_go_beyond_the_prompt(loss: CSD | ISM) -> None:
    steps = list(dream_steps(replace(CONFIG, loss=loss, steps=80)))
    inside = [s.rendering.rgb[:, 6:10, 6:10].mean().item() for s in steps if s.rendering is not None]
    assert inside[0] < 0.4 and inside[-1] > 0.8  # nothing says where to stop


@dataclass(frozen=True)
class Careless(SDS):
    """A loss of somebody's own whose gradient is none."""

    returned: Literal["number", "one per image", "numpy"] = "number"

    def grad(self, *args: Any, **kwargs: Any) -> Any:
        gradient = super().grad(*args, **kwargs)
        return {"number": 0.5, "one per image": gradient.mean(dim=(1, 2, 3)), "numpy": gradient.numpy()}[self.returned]


@pytest.mark.parametrize(
    ("returned", "found"), [("number", "float"), ("one per image", r"\[2\]"), ("numpy", "ndarray")]
)
def test_a_gradient_of_another_shape_is_told_with_the_loss_that_returned_it(returned: Any, found: str) -> None:
    told = rf"Careless\.grad returned {found}, expected a tensor of the shape of z, \[2, 4, 16, 16\]\."
    with pytest.raises(InvalidInput, match=told):
        list(dream_steps(replace(CONFIG, steps=1, loss=Careless(returned=returned))))


class FullDevice(GaussianPrior):
    """A prior on a device that holds only so many views."""

    def load(self, device: torch.device) -> AbstractImagePrior:
        prior, room = GaussianDenoiser(self), int(self.resolution)
        denoise = prior.denoise

        def refuse(z_noisy, sigma, condition):
            if len(z_noisy) > room:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return denoise(z_noisy, sigma, condition)

        prior.denoise = refuse
        return prior


def test_a_full_device_halves_the_views_once_says_so_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    config = replace(CONFIG, steps=5, views=5, prior2d=FullDevice(resolution=3))
    steps = list(dream_steps(config))
    assert [step.metrics["views"] for step in steps[1:]] == [3] * 5
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "The device's memory is full with 5 views per step: continuing with 3."
    ]


def test_a_device_that_is_full_with_half_the_views_too_ends_in_advice() -> None:
    config = replace(CONFIG, steps=5, views=5, prior2d=FullDevice(resolution=2))
    with pytest.raises(DeviceUnavailable, match="Lower `views`"):
        dream(config)


def test_a_step_that_runs_out_of_memory_after_its_update_is_undone_before_it_is_repeated(monkeypatch) -> None:
    config, full = replace(CONFIG, steps=3, views=2), [True]

    class LateFull(SplatModel):
        def adapt(self, step: int, generator: torch.Generator) -> None:
            if full and step == 1:
                full.pop()
                raise torch.OutOfMemoryError("CUDA out of memory.")
            super().adapt(step, generator)

    *_, whole = dream_steps(replace(config, steps=1))
    narrow = whole.snapshot | {"views": torch.tensor(1)}  # from here on with one view
    *_, expected = dream_steps(config, narrow)
    monkeypatch.setattr("dreamsplat.representations.splat_model.SplatModel", LateFull)
    *_, repeated = dream_steps(config)
    assert int(repeated.snapshot["representation.params.updates"]) == repeated.index == 3
    assert _same(repeated, expected)
