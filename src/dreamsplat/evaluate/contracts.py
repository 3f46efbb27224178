"""What every loss, prior, representation, file format and scorer must keep to, as checks for the tests of any package.

    from dreamsplat.evaluate import contracts

    def test_my_loss_keeps_the_contract():
        contracts.check_loss(Tug(strength=2.0))

Each check takes seconds and raises an AssertionError that says what was broken.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.evaluate.closed_form import GaussianPrior
from dreamsplat.evaluate.scorers import AbstractScorer
from dreamsplat.formats import Format
from dreamsplat.guidance import AbstractLoss, Conditions, LossState, every_prompt
from dreamsplat.method.cameras import orbit, sample_views
from dreamsplat.priors2d import AbstractImagePriorSpec
from dreamsplat.priors3d import AbstractCloudPriorSpec
from dreamsplat.render import Backend, render, selftest
from dreamsplat.representations import AbstractRepresentation, AbstractRepresentationSpec
from dreamsplat.types import Gaussians, PointCloud, Rendering
from dreamsplat.world.camera_range import WORLD_CAMERAS

_CPU = torch.device("cpu")
_SIGMA = (0.2, 0.6, 1.5, 4.0)


def check_loss(loss: AbstractLoss) -> None:
    """A loss gives a finite gradient of the right shape, the same for the same seed, which leads to the prior's mean.

    The prior is a Gaussian of mean 0.8, of mean 0 without a prompt (`closed_form.GaussianPrior`).
    """
    prior = GaussianPrior(mean=0.8).load(_CPU)
    z, sigma = 0.1 * torch.randn(len(_SIGMA), 4, 8, 8, generator=_seeded(1)), torch.tensor(_SIGMA)
    told = Conditions(torch.full((len(z), 1, 1, 1), 0.8), torch.zeros(len(z), 1, 1, 1))

    def grad(seed: int, state: LossState = None, conditions: Conditions = told) -> Tensor:
        return loss.grad(prior, z, sigma, conditions, _seeded(seed), loss.start(prior) if state is None else state)

    given = {"z": z, "sigma": sigma, "conditions.positive": told.positive}
    with _untouched(given):
        first = grad(2)
    assert first.shape == z.shape, f"the gradient has the shape {list(first.shape)}, z {list(z.shape)}"
    assert first.dtype == z.dtype and not first.requires_grad, "the gradient must have the dtype of z and no graph"
    assert bool(first.isfinite().all()), "the gradient is not finite"
    assert bool((first != 0).flatten(1).any(dim=1).all()), "the gradient of an image is zero everywhere"
    assert torch.equal(first, grad(2)), "the same seed gives another gradient"
    pull = torch.stack([(grad(seed) * (z - 0.8)).mean() for seed in range(32)]).mean()
    assert float(pull) > 0, f"going down the gradient leads away from the prior's mean (slope {float(pull):.2g})"
    if not loss.needs_negative:
        plain = grad(2, conditions=Conditions(told.positive, None))
        assert bool(plain.isfinite().all()), "needs_negative is False, but without the negative it is not finite"
    state, again = loss.start(prior), loss.start(prior)
    if state is not None and again is not None:
        grad(3, state)
        again.load_state_tensors({name: tensor.clone() for name, tensor in state.state_tensors().items()})
        assert torch.equal(grad(4, state), grad(4, again)), "with its state restored, the loss does not continue"


def check_prior2d(spec: AbstractImagePriorSpec, prompt: str = "a red mushroom", size: int = 64) -> None:
    """A 2D prior encodes renderings differentiably and denoises without a graph, the same each time.

    Args:
        spec: Its settings; everything they name is on this machine.
        prompt: One that it knows.
        size: Height and width of renderings that it takes, px.
    """
    with _untouched({}):
        prior = spec.load(_CPU)
        prior.prepare(every_prompt(prompt, ""))
    count = 2
    views = sample_views(WORLD_CAMERAS, count, size, _seeded(1))
    rgb = torch.rand(count, size, size, 3, generator=_seeded(2)).requires_grad_()
    alpha = torch.rand(count, size, size, generator=_seeded(3))
    z = prior.encode(Rendering(rgb, alpha, alpha, torch.zeros(count, 1)), 1.0, _seeded(4))
    assert z.dim() == 4 and len(z) == count, f"z has the shape {list(z.shape)}, expected [{count}, c, h, w]"
    (slope,) = torch.autograd.grad(z.square().sum(), rgb)
    assert bool(slope.isfinite().all()) and bool(slope.any()), "no gradient comes through encode"
    sigma = torch.tensor([0.5, 3.0])
    noisy = z.detach() + sigma[:, None, None, None] * torch.randn(z.shape, generator=_seeded(5))
    for text in (f"{prompt}, front view", ""):
        condition = prior.embed([text] * count, views)
        assert len(condition) == count, f"{len(condition)} conditions for {count} prompts"
        with _untouched({"z_noisy": noisy, "condition": condition}):
            clean = prior.denoise(noisy, sigma, condition)
        assert clean.shape == z.shape, f"the estimate has the shape {list(clean.shape)}, z {list(z.shape)}"
        assert bool(clean.isfinite().all()) and not clean.requires_grad, "the estimate must be finite, without a graph"
        assert torch.equal(clean, prior.denoise(noisy, sigma, condition)), "the same question gives another estimate"


def check_prior3d(spec: AbstractCloudPriorSpec, prompt: str = "a red mushroom") -> None:
    """A 3D prior gives points for a prompt, the same for the same seed.

    Args:
        spec: Its settings; everything they name is on this machine.
        prompt: One that it knows.
    """
    with _untouched({}):
        prior = spec.load(_CPU)
        cloud, again = (prior.sample(prompt, _seeded(1)) for _ in range(2))
    assert len(cloud) > 0, "the cloud is empty"
    assert bool(cloud.xyz.isfinite().all()), "a position is not finite"
    assert bool(((cloud.rgb >= -1e-3) & (cloud.rgb <= 1.001)).all()), "a colour is outside 0 to 1"
    assert torch.equal(cloud.xyz, again.xyz) and torch.equal(cloud.rgb, again.rgb), "the same seed gives another cloud"


def check_representation(spec: AbstractRepresentationSpec) -> None:
    """A representation follows gradients, and continues from its state bit for bit; what it gave stays as it was."""
    directions = torch.nn.functional.normalize(torch.randn(200, 3, generator=_seeded(1)), dim=1)
    cloud = PointCloud(0.5 * directions, torch.full_like(directions, 0.2))
    assert len(spec.in_world(cloud)) == len(cloud), "in_world changes how many points there are"
    with _untouched(vars(cloud)):
        model, rng = spec.start(cloud, _seeded(2)), _seeded(3)
        before = _picture(model)
        _step(model, 1, rng)
    assert not torch.equal(before, _picture(model)), "an update does not change the picture"
    assert all(value == value for value in model.metrics().values()), "a metric is NaN"

    asset, state, position = model.asset(), model.state_tensors(), rng.get_state()
    kept_asset, kept_state = _copies(vars(asset)), _copies(state)
    assert not any(tensor.requires_grad for tensor in _tensors(vars(asset)).values()), "the asset is not detached"
    for step in (2, 3, 4):
        _step(model, step, rng)
    assert _same(kept_asset, vars(asset)), "later steps change an earlier asset"
    assert _same(kept_state, state), "later steps change earlier state_tensors"

    resumed = spec.restore(kept_state)
    assert _same(kept_asset, vars(resumed.asset())), "the restored asset is another"
    rng.set_state(position)
    for step in (2, 3, 4):
        _step(resumed, step, rng)
    assert _same(model.state_tensors(), resumed.state_tensors()), "a restored run does not continue bit for bit"
    try:
        spec.restore({"nonsense": torch.zeros(1)})
    except InvalidInput:
        pass
    else:
        raise AssertionError("restore takes the state of another representation")
    ratio = _first_move(spec.slower(0.5), cloud) / _first_move(spec, cloud)
    assert 0.4 < ratio < 0.6, f"slower(0.5) moves {ratio:.2f} times as far, expected about 0.5"


def check_renderer(backend: Backend) -> None:
    """A renderer that runs here gives the images and gradients of the reference, within its tolerance."""
    usable, reason = backend.available()
    assert usable, f"it cannot run here: {reason}"
    what, error = selftest.worst(selftest.errors(backend.render, torch.device((*backend.devices, "cpu")[0])))
    assert error <= backend.tolerance, f"{what} is off by {error:.1e}, more than {backend.tolerance:.0e}"


def check_scorer(scorer: AbstractScorer, prompt: str = "a red mushroom") -> None:
    """A scorer gives finite numbers, the same each time, and leaves the asset as it is."""
    asset = selftest.scene(100)
    with _untouched(vars(asset)):
        scores = scorer.score(asset, prompt)
    assert scores, "there is no number"
    assert all(math.isfinite(score) for score in scores.values()), f"a number is not finite: {scores}"
    assert scores == scorer.score(asset, prompt), "the same asset gets another score"


def check_format(form: Format, path: Path, psnr_db: float = 30.0) -> None:
    """A file format gives the same bytes twice and the same picture back, and refuses half a file.

    Args:
        form: The format.
        path: A file to write, with the suffix of the format, in an empty folder.
        psnr_db: Least likeness of pictures of what was written and what is read, dB.
    """
    draws = torch.rand(300, 14, generator=_seeded(1))
    means, scales, quats = draws[:, :3] - 0.5, 0.02 + 0.1 * draws[:, 3:6], draws[:, 6:10] - 0.5
    saved = Gaussians(means, scales, quats, 0.1 + 0.8 * draws[:, 10], 3 * draws[:, None, 11:] - 1.5)
    with _untouched(vars(saved)):
        form.write(saved, path)
    content = path.read_bytes()
    form.write(saved, path)
    assert path.read_bytes() == content, "the same Gaussians give other bytes"
    assert [file.name for file in path.parent.iterdir()] == [path.name], "it leaves other files behind"
    if form.read is None:
        return
    loaded = form.read(path)
    assert len(loaded) == len(saved), f"{len(saved)} Gaussians were written, {len(loaded)} are read"
    assert loaded.means.dtype == torch.float32 and loaded.means.device == _CPU, "expected float32 on the CPU"
    cameras = orbit(4, size=48).cameras
    error = (render(saved, cameras).rgb - render(loaded, cameras).rgb).square().mean()
    likeness = float(-10 * error.log10())
    assert likeness >= psnr_db, f"the pictures are alike to {likeness:.1f} dB, expected {psnr_db:g}"
    path.write_bytes(content[: len(content) // 2 + 1])
    try:
        form.read(path)
    except FileProblem:
        return
    raise AssertionError("half a file is read as if it were whole")


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@contextmanager
def _untouched(given: dict[str, Tensor]) -> Iterator[None]:
    """Check that tensors, and torch's global random state, are the same after the block."""
    kept, random_state = _copies(given), torch.get_rng_state()
    yield
    changed = [name for name, tensor in kept.items() if not torch.equal(tensor, given[name])]
    assert not changed, f"{', '.join(changed)}: changed in place"
    assert torch.equal(random_state, torch.get_rng_state()), "draws from torch's global generator, not the one passed"


def _tensors(values: dict[str, object]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _copies(values: dict[str, object] | dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in _tensors({**values}).items()}


def _same(a: dict[str, Tensor], b: dict[str, object] | dict[str, Tensor]) -> bool:
    others = _tensors({**b})
    return a.keys() == others.keys() and all(torch.equal(tensor, others[name]) for name, tensor in a.items())


def _picture(model: AbstractRepresentation) -> Tensor:
    return model.render(orbit(2, size=24).cameras, torch.zeros(3), _seeded(5)).rgb


def _step(model: AbstractRepresentation, step: int, generator: torch.Generator) -> None:
    """One step towards light grey pictures, in the order of the method."""
    rgb = _picture(model)
    assert rgb.shape == (2, 24, 24, 3), f"the pictures have the shape {list(rgb.shape)}, expected [2, 24, 24, 3]"
    ((rgb - 0.8).square().sum() + model.penalty()).backward()
    model.adapt(step, generator)
    model.update()
    model.check(step)


def _first_move(spec: AbstractRepresentationSpec, cloud: PointCloud) -> float:
    """How far the first update moves what the asset holds, all numbers together."""
    model = spec.start(cloud, _seeded(2))
    before = _copies(vars(model.asset()))
    (_picture(model) - 0.8).square().sum().backward()
    model.update()
    after = _tensors(vars(model.asset()))
    return float(torch.stack([(after[name] - tensor).norm() for name, tensor in before.items()]).norm())
