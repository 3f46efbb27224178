"""THE METHOD: text -> 3D diffusion -> points -> Gaussians -> score distillation from 2D diffusion -> asset.

GaussianDreamer (Yi et al., CVPR 2024, arXiv 2310.08529), sections 3.2 and 3.3. What a step does is in the file that it
is imported from; what is optimised is `config.representation`'s business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from dreamsplat.config import DreamConfig
from dreamsplat.guidance import describe, every_prompt
from dreamsplat.guidance.base import check_gradient
from dreamsplat.method.background import draw_background
from dreamsplat.method.cameras import sample_views
from dreamsplat.method.devices import resolve_device
from dreamsplat.method.divergence import check_finite, check_visible
from dreamsplat.method.noise_levels import sigma_of_time
from dreamsplat.method.state import Optimisation
from dreamsplat.priors2d import AbstractImagePrior
from dreamsplat.types import AbstractAsset, PointCloud, Rendering, Step


def dream(config: DreamConfig) -> AbstractAsset:
    """Run the whole method and return the asset; `dream_steps` shows it on the way."""
    last = deque(dream_steps(config), maxlen=1).pop()  # Steps hold snapshots, so none is kept.
    return last.asset


def dream_steps(config: DreamConfig, snapshot: dict[str, Tensor] | None = None) -> Iterator[Step]:
    """Run the method, yielding a `Step` after each stage and each optimisation step.

    The run advances only as the caller iterates: stop asking to pause, close the generator to cancel.

    Args:
        config: The run.
        snapshot: A `Step.snapshot` of the same run, to continue from it bit for bit; None starts from the text.

    Raises:
        Diverged: if numbers overflow, or the object vanishes or grows without bound.
        InvalidInput: for an empty prompt, or a prompt or option that a prior cannot use.
        DeviceUnavailable: if the requested device is not there, or has too little memory.
        FileProblem: if weights are missing or broken.
        MissingDependency: if a prior needs a package that is not installed.
    """
    if snapshot is None:  # A run that is continued was checked when it started; its start file may be gone by now.
        config.check()
    device = resolve_device(config.device)
    prior3d = config.prior3d.load(device) if snapshot is None else None
    prior2d = config.prior2d.load(device)
    prior2d.prepare(every_prompt(config.prompt, config.negative_prompt))
    state = Optimisation(config, device, config.loss.start(prior2d))
    if snapshot is not None:
        state.restore(snapshot)

    if prior3d is not None:
        # 1. Text -> coarse, consistent, coloured points (section 3.2).
        cloud = prior3d.sample(config.prompt, state.generator)
        del prior3d  # its memory is needed

        # 2. Noisy point growing and colour perturbation, then the first Gaussians (section 3.2, eq. 4 and 5).
        state.representation = config.representation.start(cloud, state.generator)
        yield _step("lift", state, state.representation.metrics(), cloud=config.representation.in_world(cloud))

    # 3. Optimisation by score distillation (section 3.3).
    while state.step < config.steps:
        image, metrics = state.within_memory(lambda: _distil(state, prior2d, config))
        yield _step("distil", state, metrics, rendering=image.detach())


def _distil(
    state: Optimisation, prior2d: AbstractImagePrior, config: DreamConfig
) -> tuple[Rendering, dict[str, float]]:
    """One optimisation step: the renderings before it, and its metrics."""
    # What is optimised, seen from random cameras.
    views = sample_views(config.cameras, state.views, config.render_size, state.generator).to(state.device)
    background = draw_background(config.background, state.generator)
    image = state.representation.render(views.cameras, background, state.generator)
    z = prior2d.encode(image, state.step / config.steps, state.generator)

    # One noise level and one network evaluation per view: never the whole chain, however clean the image is.
    sigma = sigma_of_time(config.times.draw(state.step, config.steps, state.views, state.generator)).to(state.device)
    negative = config.negative_prompt if config.loss.needs_negative or config.view_text == "perp-neg" else None
    conditions = describe(prior2d, views, config.prompt, negative, config.view_text)
    gradient = config.loss.grad(prior2d, z.detach(), sigma, conditions, state.generator, state.learned)  # eq. 1
    check_gradient(config.loss, gradient, z)
    check_finite({"the gradient of the loss": gradient}, state.step)
    gradient = config.clip.apply(gradient, state.step)

    # The gradient goes through the picture into what is optimised (eq. 1), which adds and removes detail, or moves.
    ((z * (gradient / state.views)).sum() + state.representation.penalty()).backward()
    state.representation.adapt(state.step, state.generator)
    state.representation.update()
    state.representation.check(state.step)
    check_visible(image, state.step)
    state.step += 1
    numbers = {"gradient_norm": float(gradient.norm()), "sigma": float(sigma.mean()), "views": state.views}
    return image, numbers | state.representation.metrics()


def _step(
    stage: Literal["lift", "distil"],
    state: Optimisation,
    metrics: dict[str, float],
    cloud: PointCloud | None = None,
    rendering: Rendering | None = None,
) -> Step:
    asset, steps = state.representation.asset(), state.config.steps
    return Step(stage, state.step, steps, asset, cloud, rendering, metrics, state.snapshot())
