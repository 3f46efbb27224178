"""THE METHOD: text -> 3D diffusion -> points -> Gaussians -> score distillation from 2D diffusion -> asset.

GaussianDreamer (Yi et al., CVPR 2024, arXiv 2310.08529), sections 3.2 and 3.3. Each line of `dream_steps` is a step of
the paper; what a step does is in the file that it is imported from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from dreamsplat import densify
from dreamsplat.cameras import sample_views
from dreamsplat.config import Background, DreamConfig
from dreamsplat.devices import resolve_device
from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import Conditions
from dreamsplat.lift import grow_points, to_gaussians
from dreamsplat.params import SplatParams
from dreamsplat.priors2d import AbstractImagePrior, sigma_of_time
from dreamsplat.prompts import view_prompts
from dreamsplat.render import render
from dreamsplat.types import Gaussians, PointCloud, Step, Views


def dream(config: DreamConfig) -> Gaussians:
    """Run the whole method and return the asset; `dream_steps` shows it on the way."""
    *_, last = dream_steps(config)
    return last.gaussians


def dream_steps(config: DreamConfig) -> Iterator[Step]:
    """Run the method, yielding a `Step` after each stage and each optimisation step.

    The run goes on as far as the caller iterates: to pause is to stop asking, to cancel is to close the generator.

    Raises:
        InvalidInput: for an empty prompt, or a prompt or option that a prior cannot use.
        DeviceUnavailable: if the device asked for is not there.
        FileProblem: if weights are missing or broken.
    """
    if not config.prompt.strip():
        raise InvalidInput('prompt: empty. Say what to make, for example "a red mushroom".')
    device = resolve_device(config.device)
    generator = torch.Generator().manual_seed(config.seed)
    prior3d, prior2d = config.prior3d.load(device), config.prior2d.load(device)

    # 1. Text -> coarse, consistent, coloured points (section 3.2).
    cloud = prior3d.sample(config.prompt, generator)

    # 2. Noisy point growing and colour perturbation, then the first Gaussians (section 3.2, eq. 4 and 5).
    gaussians, cloud = _lift(cloud, config, generator)
    yield Step("lift", 0, config.steps, gaussians, cloud, None, {"gaussians": len(gaussians)})

    # 3. Optimisation by score distillation (section 3.3).
    params = SplatParams.from_gaussians(gaussians, config.rates)
    stats = densify.ScreenStats.empty(gaussians)
    for step in range(config.steps):
        views = sample_views(config.cameras, config.views, config.render_size, generator).to(device)
        screen_offsets = torch.zeros(len(views), len(params), 2, device=device, requires_grad=True)
        background = _background(config.background, generator).to(device)
        image = render(params.gaussians(), views.cameras, background=background, screen_offsets=screen_offsets)
        z = prior2d.encode(image)

        # One noise level and one network evaluation per view: never the whole chain, however clean the image is.
        sigma = sigma_of_time(config.times.draw(step, len(views), generator)).to(device)
        gradient = config.loss.grad(prior2d, z.detach(), sigma, _conditions(prior2d, views, config), generator)
        gradient = config.clip.apply(gradient, step)

        params.zero_grad()
        z.backward(gradient / len(views))
        params.step()
        if step < config.densify.stop:
            stats = densify.update_stats(stats, _grad_of(screen_offsets), image.radii_px, views.cameras)
            if densify.is_due(step, config.densify):
                params.apply(densify.plan(params.gaussians(), stats, step, config.densify), generator)
                stats = densify.ScreenStats.empty(params.gaussians())
        metrics = {"gradient_norm": float(gradient.norm()), "sigma": float(sigma.mean()), "gaussians": len(params)}
        yield Step("distil", step + 1, config.steps, params.gaussians().detach(), None, image.detach(), metrics)


def _lift(cloud: PointCloud, config: DreamConfig, generator: torch.Generator) -> tuple[Gaussians, PointCloud]:
    """The first Gaussians, and the cloud before growing in the same world units."""
    lift = config.lift
    grown = grow_points(cloud, generator, lift.candidates, lift.radius, lift.colour_jitter, lift.max_points)
    in_world, cloud = (dataclasses.replace(c, xyz=c.xyz * lift.world_scale) for c in (grown, cloud))
    return to_gaussians(in_world, lift.opacity, lift.sh_degree), cloud


def _conditions(prior2d: AbstractImagePrior, views: Views, config: DreamConfig) -> Conditions:
    """What the 2D prior is told: the prompt with each camera's view, and what guidance moves away from."""
    positive = prior2d.embed(view_prompts(config.prompt, views), views)
    if config.loss.guidance_scale == 1:
        return Conditions(positive, None)
    return Conditions(positive, prior2d.embed([config.negative_prompt] * len(views), views))


def _background(kind: Background, generator: torch.Generator) -> Tensor:
    """The background colour [3] of one step."""
    grey = {"black": 0.0, "white": 1.0}.get(kind)
    return torch.full((3,), float(torch.rand((), generator=generator)) if grey is None else grey)


def _grad_of(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None, "the renderer gave no gradient of the screen offsets"
    return tensor.grad
