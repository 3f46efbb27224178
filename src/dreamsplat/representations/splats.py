"""Settings of 3D Gaussians as the representation: lift, learning rates, when Gaussians are added and removed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.ranges import check_range
from dreamsplat.representations.base import AbstractRepresentationSpec
from dreamsplat.representations.regularisers import Regularisers

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat.representations.splat_model import SplatModel
    from dreamsplat.types import PointCloud


MOST_CANDIDATES = 100_000_000
"""A hundred times the official number of candidates; with more, memory would run out."""


LARGEST_RATE = 1e6
"""Far above any use, and far below where a step would exceed float32."""


@dataclass(frozen=True)
class Lift:
    """From a point cloud to the first Gaussians. Defaults: the official code."""

    candidates: int = 1_000_000
    """Points tried in noisy point growing."""
    radius: float = 0.01
    """A grown point is nearer than this to a point of the cloud, in the cloud's own units."""
    colour_jitter: float = 0.2
    """Largest random brightening of a grown point's colour, per channel."""
    max_points: int | None = None
    """Keep at most this many points after growing; None keeps all."""
    world_scale: float = 1.6
    """World units per unit of the cloud, applied after growing."""
    opacity: float = 0.1
    """Opacity of the first Gaussians."""
    sh_degree: int = 0
    """Degree of the spherical harmonics, 0 to 3; above 0 the colour may depend on the direction."""

    def __post_init__(self) -> None:
        """Check the ranges: a run would otherwise fail after its 3D prior has worked."""
        check_range("representation.lift.candidates", self.candidates, 0, MOST_CANDIDATES)
        check_range("representation.lift.radius", self.radius, 0, math.inf, above=True)
        check_range("representation.lift.colour_jitter", self.colour_jitter, 0, math.inf)
        check_range("representation.lift.max_points", 0 if self.max_points is None else self.max_points, 0, math.inf)
        check_range("representation.lift.world_scale", self.world_scale, 0, math.inf, above=True)
        check_range("representation.lift.opacity", self.opacity, 0, 1)
        check_range("representation.lift.sh_degree", self.sh_degree, 0, 3)


@dataclass(frozen=True)
class LearningRates:
    """Adam step sizes per leaf. Defaults: the official code; `PAPER_RATES` are those printed in the paper."""

    means: float = 2e-4
    """Of the centres at the first step, world units."""
    means_final: float = 1e-4
    """Of the centres from step `means_decay_steps` on; log-linear in between."""
    means_decay_steps: int = 30_000
    """Length of that decay in steps, >= 1; with the official 30,000, 1,200 steps see only its beginning."""
    sh_dc: float = 0.0125
    """Of the constant colour coefficients."""
    sh_rest: float = 0.0125 / 20
    """Of the direction-dependent colour coefficients."""
    opacities: float = 0.01
    """Of the logits of the opacities."""
    scales: float = 0.005
    """Of the logarithms of the scales."""
    quats: float = 0.001
    """Of the quaternions."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("means", "means_final", "sh_dc", "sh_rest", "opacities", "scales", "quats"):
            check_range(f"representation.rates.{name}", getattr(self, name), 0, LARGEST_RATE)
        check_range("representation.rates.means_decay_steps", self.means_decay_steps, 1, math.inf)
        if (self.means == 0) != (self.means_final == 0):
            raise InvalidInput(
                f"{self.means} to {self.means_final}, expected both above 0 or both 0.",
                setting="representation.rates.means",
            )

    def slower(self, factor: float) -> LearningRates:
        """All rates times a factor."""
        scaled = {f.name: factor * getattr(self, f.name) for f in fields(self) if f.name != "means_decay_steps"}
        return replace(self, **scaled)

    def at(self, step: int) -> dict[str, float]:
        """The rate of each leaf after `step` updates."""
        progress = min(step / self.means_decay_steps, 1.0)
        return {
            "means": self.means * (self.means_final / self.means) ** progress if self.means else 0.0,
            "log_scales": self.scales,
            "quats": self.quats,
            "logit_opacities": self.opacities,
            "sh_dc": self.sh_dc,
            "sh_rest": self.sh_rest,
        }


PAPER_RATES = LearningRates(means=5e-5, means_final=5e-5, scales=1e-3, quats=1e-2)
"""GaussianDreamer (Yi et al., CVPR 2024), section 4.1; it names no schedule and no rate for `sh_rest`."""


@dataclass(frozen=True)
class DensifyConfig:
    """When to densify and by which thresholds. Defaults: the official code (steps 400, 500, 600, 700 and 800)."""

    start: int = 300
    """Densify after this step (exclusive)."""
    stop: int = 900
    """Densify before this step (exclusive); 0 means never. Statistics are needed only before it."""
    every: int = 100
    """Densify at multiples of this step, >= 1."""
    grad_threshold: float = 2e-4
    """Grow where the mean screen gradient is at least this: d loss / d centre, in normalised device coordinates."""
    percent_dense: float = 0.01
    """Part of `extent` up to which a Gaussian is cloned; a larger one is split."""
    extent: float = 4.0
    """Size of the scene, world units: what `percent_dense` and `percent_too_big` refer to."""
    min_opacity: float = 0.05
    """Remove Gaussians below this opacity."""
    percent_too_big: float = 0.1
    """Part of `extent` above which a Gaussian is removed, after step `prune_big_after`."""
    prune_big_after: int = 500
    """Remove oversized Gaussians after this step (exclusive)."""
    max_gaussians: int | None = None
    """Cap on the count after growth: only the candidates with the largest gradients grow. None: no cap (official)."""

    def __post_init__(self) -> None:
        """Check the ranges that would otherwise fail, or silently do nothing, in the middle of a run."""
        check_range("representation.densify.every", self.every, 1, math.inf)
        if self.max_gaussians is not None:
            check_range("representation.densify.max_gaussians", self.max_gaussians, 1, math.inf)
        for name in ("grad_threshold", "percent_dense", "extent", "min_opacity", "percent_too_big"):
            check_range(f"representation.densify.{name}", getattr(self, name), 0, math.inf)

    @property
    def max_clone_scale(self) -> float:
        """Largest scale that is cloned instead of split, world units."""
        return self.percent_dense * self.extent

    @property
    def max_world_scale(self) -> float:
        """Largest scale that survives once oversized Gaussians are removed, world units."""
        return self.percent_too_big * self.extent


@dataclass(frozen=True)
class Splats(AbstractRepresentationSpec):
    """3D Gaussians (Kerbl et al. 2023), as GaussianDreamer optimises them. Defaults: the official code."""

    lift: Lift = field(default_factory=Lift)
    """From points to Gaussians."""
    rates: LearningRates = field(default_factory=LearningRates)
    """Learning rates."""
    densify: DensifyConfig = field(default_factory=DensifyConfig)
    """When Gaussians are added and removed."""
    regularisers: Regularisers = field(default_factory=Regularisers)
    """Penalties on what is rendered."""

    def start(self, cloud: PointCloud, generator: torch.Generator) -> SplatModel:
        """Noisy point growing, colour perturbation, then one Gaussian per point (section 3.2, eq. 4 and 5)."""
        from dreamsplat.method.lift import grow_points, to_gaussians
        from dreamsplat.representations.splat_model import SplatModel

        lift = self.lift
        grown = grow_points(cloud, generator, lift.candidates, lift.radius, lift.colour_jitter, lift.max_points)
        return SplatModel.from_gaussians(self, to_gaussians(self.in_world(grown), lift.opacity, lift.sh_degree))

    def restore(self, tensors: dict[str, Tensor]) -> SplatModel:
        """See `AbstractRepresentationSpec.restore`."""
        from dreamsplat.representations.splat_model import SplatModel

        return SplatModel.from_state_tensors(self, tensors)

    def in_world(self, cloud: PointCloud) -> PointCloud:
        """The cloud times `lift.world_scale`."""
        return replace(cloud, xyz=cloud.xyz * self.lift.world_scale)

    def slower(self, factor: float) -> Splats:
        """The same with all learning rates times a factor."""
        return replace(self, rates=self.rates.slower(factor))


QUICK_RATES = LearningRates(
    means=2e-3, means_final=1e-3, means_decay_steps=400, sh_dc=0.02, sh_rest=0.01, opacities=0.05, scales=0.005,
    quats=0.005,
)  # fmt: skip
"""For 400 steps instead of 1,200, on an object of the unit ball; faster scales turn its surface to fuzz, and at the
official 1/20 of `sh_dc`, made for 30,000 steps, harmonics hardly move (docs/spherical-harmonics.md)."""
QUICK_DENSIFY = DensifyConfig(start=99, stop=350, every=100, extent=1.0, grad_threshold=1e-3, max_gaussians=6_000)
"""Faint Gaussians go at steps 100, 200 and 300; others are added only where fewer than 6,000 are left. With pictures of
64 px, more make the surface speckled and its shape worse."""
QUICK_LIFT = Lift(candidates=100_000, radius=0.02, max_points=8192, world_scale=1.0)
"""Points that two cores can bear."""
QUICK_SPLATS = Splats(QUICK_LIFT, QUICK_RATES, QUICK_DENSIFY)
"""For the bundled models, on a laptop's processor; chosen by the quality benchmark (benchmarks/README.md)."""
