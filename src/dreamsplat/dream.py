"""THE METHOD: text -> 3D diffusion -> points -> Gaussians -> score distillation from 2D diffusion -> asset.

GaussianDreamer (Yi et al., CVPR 2024, arXiv 2310.08529), sections 3.2 and 3.3. Each line of `dream_steps` and
`_distil` is a step of the paper; what a step does is in the file that it is imported from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from dreamsplat.config import Background, DreamConfig
from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import LossState, describe, every_prompt
from dreamsplat.method import divergence
from dreamsplat.method.cameras import sample_views
from dreamsplat.method.devices import Batch, resolve_device
from dreamsplat.method.lift import grow_points, to_gaussians
from dreamsplat.priors2d import AbstractImagePrior, sigma_of_time
from dreamsplat.render import render
from dreamsplat.representations import densify
from dreamsplat.representations.params import SplatParams
from dreamsplat.types import Gaussians, PointCloud, Rendering, Step


def dream(config: DreamConfig) -> Gaussians:
    """Run the whole method and return the asset; `dream_steps` shows it on the way."""
    *_, last = dream_steps(config)
    return last.gaussians


def dream_steps(config: DreamConfig, state: dict[str, Tensor] | None = None) -> Iterator[Step]:
    """Run the method, yielding a `Step` after each stage and each optimisation step.

    The run goes on as far as the caller iterates: to pause is to stop asking, to cancel is to close the generator.

    Args:
        config: The run.
        state: A `Step.snapshot` of the same run, to go on after that step, bit for bit; None begins anew.

    Raises:
        Diverged: if numbers overflow, or the object vanishes or grows without bound.
        InvalidInput: for an empty prompt, or a prompt or option that a prior cannot use.
        DeviceUnavailable: if the device asked for is not there, or has too little memory.
        FileProblem: if weights are missing or broken.
        MissingDependency: if a prior needs a package that is not installed.
    """
    if not config.prompt.strip():
        raise InvalidInput('prompt: empty. Say what to make, for example "a red mushroom".')
    device = resolve_device(config.device)
    generator = torch.Generator().manual_seed(config.seed)
    prior3d = config.prior3d.load(device) if state is None else None
    prior2d = config.prior2d.load(device)
    prior2d.prepare(every_prompt(config.prompt, config.negative_prompt))
    run = _Optimisation(prior2d, config.loss.start(prior2d), Batch(config.views), generator)

    if prior3d is not None:
        # 1. Text -> coarse, consistent, coloured points (section 3.2).
        cloud = prior3d.sample(config.prompt, generator)
        del prior3d  # its memory is needed

        # 2. Noisy point growing and colour perturbation, then the first Gaussians (section 3.2, eq. 4 and 5).
        gaussians, cloud = _lift(cloud, config, generator)
        run.begin(gaussians, config)
        numbers: dict[str, float] = {"gaussians": len(gaussians)}
        yield Step("lift", 0, config.steps, gaussians, cloud, None, numbers, lambda: run.snapshot(0))
    first = 0 if state is None else run.restore(state, config, device)

    # 3. Optimisation by score distillation (section 3.3).
    for step in range(first, config.steps):
        image, metrics = run.batch.run(lambda views: _distil(run, config, step, views))  # noqa: B023
        gaussians, snapshot = run.params.gaussians().detach(), partial(run.snapshot, step + 1)
        yield Step("distil", step + 1, config.steps, gaussians, None, image.detach(), metrics, snapshot)


def asset_in(state: dict[str, Tensor], config: DreamConfig) -> Gaussians:
    """The Gaussians of a `Step.snapshot`, detached, on the CPU."""
    params = {name.removeprefix("params."): state[name] for name in state if name.startswith("params.")}
    return SplatParams.from_state_tensors(params, config.rates).gaussians().detach()


@dataclass
class _Optimisation:
    """What changes from step to step, and how it is kept and found again."""

    prior2d: AbstractImagePrior
    learned: LossState
    batch: Batch
    generator: torch.Generator
    params: SplatParams = field(init=False)
    stats: densify.ScreenStats = field(init=False)

    def begin(self, gaussians: Gaussians, config: DreamConfig) -> None:
        """Before the first step."""
        self.params = SplatParams.from_gaussians(gaussians, config.rates)
        self.stats = densify.ScreenStats.empty(gaussians)

    def snapshot(self, step: int) -> dict[str, Tensor]:
        """All of it after `step` steps, on the CPU."""
        groups = {
            "params": self.params.state_tensors(),
            "stats": vars(self.stats),
            "learned": {} if self.learned is None else self.learned.state_tensors(),
        }
        named = {f"{group}.{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}
        named |= {"step": torch.tensor(step), "generator": self.generator.get_state()}
        named |= {"batch": self.batch.state()}
        return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}

    def restore(self, state: dict[str, Tensor], config: DreamConfig, device: torch.device) -> int:
        """Take over a snapshot; returns its step."""

        def group(prefix: str) -> dict[str, Tensor]:
            found = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
            return {name: tensor if tensor.dim() == 0 else tensor.to(device) for name, tensor in found.items()}

        self.params = SplatParams.from_state_tensors(group("params."), config.rates)
        self.stats = densify.ScreenStats(**group("stats."))
        self.batch.restore(state["batch"])
        if self.learned is not None:
            self.learned.load_state_tensors(group("learned."))
        self.generator.set_state(state["generator"])
        return int(state["step"])


def _distil(run: _Optimisation, config: DreamConfig, step: int, count: int) -> tuple[Rendering, dict[str, float]]:
    """One optimisation step with `count` views: the renderings before it, and its metrics."""
    params, prior2d, generator = run.params, run.prior2d, run.generator
    device = params.leaves["means"].device
    views = sample_views(config.cameras, count, config.render_size, generator).to(device)
    screen_offsets = torch.zeros(count, len(params), 2, device=device, requires_grad=True)
    background = _background(config.background, generator).to(device)
    image = render(params.gaussians(), views.cameras, background=background, screen_offsets=screen_offsets)
    z = prior2d.encode(image, step / config.steps, generator)

    # One noise level and one network evaluation per view: never the whole chain, however clean the image is.
    sigma = sigma_of_time(config.times.draw(step, config.steps, count, generator)).to(device)
    negative_prompt = config.negative_prompt if config.loss.needs_negative or config.view_text == "perp-neg" else None
    conditions = describe(prior2d, views, config.prompt, negative_prompt, config.view_text)
    gradient = config.loss.grad(prior2d, z.detach(), sigma, conditions, generator, run.learned)
    divergence.check_gradient(gradient, step)
    gradient = config.clip.apply(gradient, step)

    params.zero_grad()
    z.backward(gradient / count)
    params.step()
    divergence.check_object(params.leaves, image, step)
    if step < config.densify.stop:
        run.stats = densify.update_stats(run.stats, _grad_of(screen_offsets), image.radii_px, views.cameras)
        if densify.is_due(step, config.densify):
            params.apply(densify.plan(params.gaussians(), run.stats, step, config.densify), generator)
            run.stats = densify.ScreenStats.empty(params.gaussians())
    return image, {
        "gradient_norm": float(gradient.norm()),
        "sigma": float(sigma.mean()),
        "gaussians": len(params),
        "views": count,
    }


def _lift(cloud: PointCloud, config: DreamConfig, generator: torch.Generator) -> tuple[Gaussians, PointCloud]:
    """The first Gaussians, and the cloud before growing in the same world units."""
    lift = config.lift
    grown = grow_points(cloud, generator, lift.candidates, lift.radius, lift.colour_jitter, lift.max_points)
    in_world, cloud = (dataclasses.replace(c, xyz=c.xyz * lift.world_scale) for c in (grown, cloud))
    return to_gaussians(in_world, lift.opacity, lift.sh_degree), cloud


def _background(kind: Background, generator: torch.Generator) -> Tensor:
    """The background colour [3] of one step."""
    grey = {"black": 0.0, "white": 1.0}.get(kind)
    return torch.full((3,), float(torch.rand((), generator=generator)) if grey is None else grey)


def _grad_of(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None, "the renderer gave no gradient of the screen offsets"
    return tensor.grad
