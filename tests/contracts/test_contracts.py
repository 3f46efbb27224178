"""Every member of the registry keeps its contract; one that breaks it is found out."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_diffusion import save_tiny_stable_diffusion
from tiny_shap_e import tiny_text_pipeline

from dreamsplat import registry
from dreamsplat.errors import FileProblem
from dreamsplat.evaluate import contracts
from dreamsplat.formats import Format, load, save
from dreamsplat.guidance import SDS, AbstractLoss
from dreamsplat.priors2d import PerfectTeacher, StableDiffusion
from dreamsplat.priors3d import BundledCloudPrior, FromFile, ShapE
from dreamsplat.render import reference
from dreamsplat.representations import DensifyConfig, LearningRates, Lift, Splats, VoxelField
from dreamsplat.representations.splat_model import SplatModel

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tiny checkpoints in the real formats, and no way to any other."""
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]), pytest.MonkeyPatch.context() as environment:
        environment.setenv("HF_HUB_OFFLINE", "1")
        torch.manual_seed(0)
        tiny_text_pipeline().save_pretrained(folder / "shap-e")
        save_tiny_stable_diffusion(folder / "stable-diffusion")
        yield folder


SMALL: dict[str, Callable[[Path], Any]] = {
    "stable-diffusion": lambda models: StableDiffusion(str(models / "stable-diffusion"), dtype="fp32"),
    "perfect": lambda models: PerfectTeacher(instances=3, resolution=24),
    "shap-e": lambda models: ShapE(str(models / "shap-e"), sampling_steps=3, grid=14),
    "points": lambda models: FromFile(models / "ball.ply", count=50),
    "splats": lambda models: SPLATS,
    "voxel-field": lambda models: VoxelField(cells=16, occupancy_every=2),
}
"""Settings of members whose defaults need files, or too much time for a test; the others are made without arguments."""
SPLATS = Splats(
    Lift(candidates=2000, radius=0.05, world_scale=1.0),
    LearningRates(sh_dc=0.05, opacities=0.05),
    DensifyConfig(start=0, every=2, grad_threshold=1e-7, max_gaussians=400),
)


def members(kind: str) -> list[str]:
    return list(registry.members(kind))


def made(kind: str, name: str, models: Path) -> Any:
    if name == "bundled" and kind == "priors3d":
        return BundledCloudPrior(points=100, sampling_steps=2)
    return SMALL[name](models) if name in SMALL else registry.by_name(kind, name)()


@pytest.mark.parametrize("name", members("losses"))
def test_every_loss_keeps_the_contract(name: str) -> None:
    contracts.check_loss(registry.by_name("losses", name)())


@pytest.mark.parametrize("name", members("scorers"))
def test_every_scorer_keeps_the_contract(name: str) -> None:
    contracts.check_scorer(registry.by_name("scorers", name)())


@pytest.mark.parametrize("name", members("priors2d"))
def test_every_2d_prior_keeps_the_contract(name: str, models: Path) -> None:
    contracts.check_prior2d(made("priors2d", name, models), size=24 if name == "perfect" else 64)


@pytest.mark.parametrize("name", members("priors3d"))
def test_every_3d_prior_keeps_the_contract(name: str, models: Path, random_gaussians) -> None:
    save(random_gaussians(80), models / "ball.ply")
    contracts.check_prior3d(made("priors3d", name, models))


@pytest.mark.parametrize("name", members("representations"))
def test_every_representation_keeps_the_contract(name: str, models: Path) -> None:
    contracts.check_representation(made("representations", name, models))


@pytest.mark.parametrize("suffix", members("formats"))
def test_every_format_keeps_the_contract(suffix: str, tmp_path: Path) -> None:
    contracts.check_format(registry.by_name("formats", suffix), tmp_path / f"asset{suffix}")


@pytest.mark.parametrize("name", members("renderers"))
def test_every_renderer_that_runs_here_keeps_the_contract(name: str) -> None:
    backend = registry.by_name("renderers", name)
    usable, reason = backend.available()
    if not usable:
        pytest.skip(reason)
    contracts.check_renderer(backend)


@pytest.mark.parametrize("name", members("times"))
def test_every_schedule_gives_times_of_the_schedule_of_training(name: str) -> None:
    times = registry.by_name("times", name)()
    for step in (0, 1, 50, 99):
        first, again = (times.draw(step, 100, 64, torch.Generator().manual_seed(step)) for _ in range(2))
        assert first.shape == (64,) and torch.equal(first, again)
        assert bool(((first > 0) & (first <= 1)).all()) and len(first.unique()) > 1


# Members that break the contract

SEEDS = itertools.count()


@dataclass(frozen=True)
class Wrong(AbstractLoss):
    """SDS with a fault."""

    fault: str

    @property
    def needs_negative(self) -> bool:
        return False

    def grad(self, prior, z, sigma, conditions, generator, state=None):
        right = SDS(guidance_scale=1.0).grad(prior, z, sigma, conditions, generator)
        match self.fault:
            case "zeros":
                return torch.zeros_like(right)
            case "sign":
                return -right
            case "shape":
                return right.mean(dim=0)
            case "nan":
                return right / 0 * 0
            case "in place":
                z += 1
            case "global":
                right = right + torch.rand(())
            case "seed":
                right = right * torch.rand((), generator=torch.Generator().manual_seed(next(SEEDS)))
            case "one image":
                right[1] = 0
        return right


@pytest.mark.parametrize(
    ("fault", "told"),
    [("zeros", "zero everywhere"), ("one image", "zero everywhere"), ("sign", "away from the prior's mean"),
     ("shape", "shape"), ("nan", "not finite"), ("in place", "z: changed"), ("global", "global generator"),
     ("seed", "same seed")],
)  # fmt: skip
def test_a_wrong_loss_fails_the_contract(fault: str, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        contracts.check_loss(Wrong(fault))


class Frozen(SplatModel):
    def update(self) -> None:
        pass


class Live(SplatModel):
    def asset(self):
        return self.params.gaussians()


class Forgetful(SplatModel):
    def state_tensors(self):
        return {n: torch.zeros_like(t) if n.endswith("moment1") else t for n, t in super().state_tensors().items()}


class InPlace(SplatModel):
    def update(self) -> None:
        kept = {name: leaf.detach() for name, leaf in self.params.leaves.items()}
        super().update()
        for name, leaf in kept.items():
            leaf.copy_(self.params.leaves[name].detach())


@pytest.mark.parametrize(
    ("model", "told"),
    [(Frozen, "does not change the picture"), (Live, "not detached"), (Forgetful, "does not continue"),
     (InPlace, "change an earlier")],
)  # fmt: skip
def test_a_wrong_representation_fails_the_contract(model: type[SplatModel], told: str) -> None:
    class Wrapped(Splats):
        def start(self, cloud, generator):
            right = super().start(cloud, generator)
            return model(right.spec, right.params, right.stats)

        def restore(self, tensors):
            right = super().restore(tensors)
            return model(right.spec, right.params, right.stats)

    with pytest.raises(AssertionError, match=told):
        contracts.check_representation(Wrapped(SPLATS.lift, SPLATS.rates, DensifyConfig(stop=0)))


def test_a_representation_that_is_no_slower_fails_the_contract() -> None:
    class Hasty(Splats):
        def slower(self, factor: float) -> Splats:
            return self

    with pytest.raises(AssertionError, match="slower"):
        contracts.check_representation(Hasty(SPLATS.lift, SPLATS.rates, SPLATS.densify))


@pytest.mark.parametrize("fault", [1.001, float("nan")])
def test_a_wrong_renderer_fails_the_contract(fault: float) -> None:
    def wrong(*inputs):
        image = reference.render(*inputs)
        return replace(image, depth=fault * image.depth)

    with pytest.raises(AssertionError, match="depth is off"):
        contracts.check_renderer(replace(registry.by_name("renderers", "reference"), render=wrong))


def test_a_format_that_loses_colour_or_takes_half_a_file_fails_the_contract(tmp_path: Path) -> None:
    plain = registry.by_name("formats", ".ply")

    def grey(path: Path):
        gaussians = load(path)
        return replace(gaussians, sh=torch.zeros_like(gaussians.sh))

    with pytest.raises(AssertionError, match="dB"):
        contracts.check_format(Format("grey", plain.write, grey), tmp_path / "a.ply")

    def lenient(path: Path):
        with contextlib.suppress(FileProblem):
            return load(path)

    with pytest.raises(AssertionError, match="half a file"):
        contracts.check_format(Format("lenient", plain.write, lenient), tmp_path / "a.ply")
