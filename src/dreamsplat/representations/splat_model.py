"""3D Gaussians while they are optimised: parameters, and the screen statistics that decide where to add more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from dreamsplat.errors import Diverged
from dreamsplat.method.divergence import check_finite
from dreamsplat.method.state import group_of
from dreamsplat.render import render
from dreamsplat.representations import densify
from dreamsplat.representations.base import AbstractRepresentation
from dreamsplat.representations.params import SplatParams
from dreamsplat.representations.splats import Splats
from dreamsplat.types import Cameras, Gaussians, Rendering

MOST_GAUSSIANS = 5_000_000
"""More than this is an explosion: no object of one prompt needs it, and memory would run out next."""


@dataclass(frozen=True)
class _Seen:
    """What the last rendering leaves for densification."""

    cameras: Cameras
    image: Rendering
    screen_offsets: Tensor


class SplatModel(AbstractRepresentation):
    """Gaussians, their optimiser and their statistics; start with `from_gaussians` or `from_state_tensors`."""

    def __init__(self, spec: Splats, params: SplatParams, stats: densify.ScreenStats) -> None:
        """Take the parts as they are."""
        self.spec, self.params, self.stats = spec, params, stats
        self._seen: _Seen | None = None

    @classmethod
    def from_gaussians(cls, spec: Splats, gaussians: Gaussians) -> Self:
        """Before the first step."""
        return cls(spec, SplatParams.from_gaussians(gaussians, spec.rates), densify.ScreenStats.empty(gaussians))

    @classmethod
    def from_state_tensors(cls, spec: Splats, tensors: dict[str, Tensor]) -> Self:
        """See `AbstractRepresentationSpec.restore`."""
        params, stats = (group_of(tensors, group) for group in ("params", "stats"))
        return cls(spec, SplatParams.from_state_tensors(params, spec.rates), densify.ScreenStats(**stats))

    def render(self, cameras: Cameras, background: Tensor, generator: torch.Generator) -> Rendering:
        """See `AbstractRepresentation.render`; nothing in it is random."""
        means = self.params.leaves["means"]
        offsets = torch.zeros(len(cameras), len(means), 2, device=means.device, requires_grad=True)
        image = render(self.params.gaussians(), cameras, background=background.to(means.device), screen_offsets=offsets)
        self._seen = _Seen(cameras, image, offsets)
        return image

    def penalty(self) -> Tensor | float:
        """See `AbstractRepresentation.penalty`."""
        assert self._seen is not None, "penalty() follows render()"
        return self.spec.regularisers.penalty(self.params.leaves["logit_opacities"].sigmoid(), self._seen.image.alpha)

    def update(self) -> None:
        """See `AbstractRepresentation.update`."""
        self.params.step()

    def check(self, step: int) -> None:
        """See `AbstractRepresentation.check`."""
        check_finite(self.params.leaves, step)
        with torch.no_grad():
            shown = self.params.gaussians()
        check_finite(shown.tensors(), step)  # What is finite as a logarithm may overflow as a length.
        if not bool((shown.scales > 0).all() and shown.quats.any(dim=1).all()):
            raise Diverged(f"step {step}: a Gaussian has shrunk to nothing.")
        if len(self.params) > MOST_GAUSSIANS:
            raise Diverged(
                f"step {step}: {len(self.params):,} Gaussians, over {MOST_GAUSSIANS:,}.",
                advice="Set `representation.densify.max_gaussians`.",
            )

    def adapt(self, step: int, generator: torch.Generator) -> None:
        """Gather statistics of the last rendering and, when due, add and remove Gaussians."""
        config, seen = self.spec.densify, self._seen
        if step >= config.stop:
            return
        assert seen is not None and seen.screen_offsets.grad is not None, "adapt() follows render() and backward()"
        self.stats = densify.update_stats(self.stats, seen.screen_offsets.grad, seen.image.radii_px, seen.cameras)
        if densify.is_due(step, config):
            self.params.apply(densify.plan(self.params.gaussians(), self.stats, step, config), generator)
            self.stats = densify.ScreenStats.empty(self.params.gaussians())

    def asset(self) -> Gaussians:
        """See `AbstractRepresentation.asset`."""
        return self.params.gaussians().detach()

    def metrics(self) -> dict[str, float]:
        """How many Gaussians there are."""
        return {"gaussians": len(self.params)}

    def state_tensors(self) -> dict[str, Tensor]:
        """See `AbstractRepresentation.state_tensors`; nothing is copied, since nothing is updated in place."""
        params = {f"params.{name}": tensor for name, tensor in self.params.state_tensors().items()}
        return params | {f"stats.{name}": tensor for name, tensor in vars(self.stats).items()}
