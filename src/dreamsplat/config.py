"""Everything a run depends on, as one immutable value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import SDS, Loss, ViewText
from dreamsplat.method.cameras import CameraRange
from dreamsplat.method.schedule import GradientClip, NoiseTimes, Times
from dreamsplat.priors2d import BundledImagePrior, ImagePrior, PerfectTeacher
from dreamsplat.priors2d.bundled import check_field_of_view
from dreamsplat.priors3d import BundledCloudPrior, CloudPrior
from dreamsplat.representations.densify import DensifyConfig
from dreamsplat.representations.params import LearningRates
from dreamsplat.world.data.pictures import WORLD_CAMERAS

Background = Literal["black", "white", "random"]
"""What renderings are composited over; "random" draws a grey per step."""


@dataclass(frozen=True)
class Lift:
    """From a point cloud to the first Gaussians. Defaults: the official code (method.md 1.3-1.5)."""

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


QUICK_RATES = LearningRates(
    means=2e-3, means_final=1e-3, means_decay_steps=400, sh_dc=0.02, opacities=0.05, scales=0.005, quats=0.005
)
"""For 400 steps instead of 1,200, on an object of the unit ball; faster scales turn its surface to fuzz."""
QUICK_DENSIFY = DensifyConfig(start=99, stop=350, every=100, extent=1.0, grad_threshold=1e-3, max_gaussians=6_000)
"""Faint Gaussians go at steps 100, 200 and 300; others are added only where fewer than 6,000 are left. With pictures of
64 px, more make the surface speckled and its shape worse."""
QUICK_LIFT = Lift(candidates=100_000, radius=0.02, max_points=8192, world_scale=1.0)
"""Points that two cores can bear."""


@dataclass(frozen=True)
class DreamConfig:
    """A run of the method. Defaults: the bundled models, on a laptop's processor; parts default to the paper's values.

    What differs from GaussianDreamer's official code was chosen by the quality benchmark (benchmarks/README.md).
    """

    prompt: str = ""
    """What to make."""
    negative_prompt: str = ""
    """What guidance moves away from; the bundled models know no words for it."""
    seed: int = 0
    """Everything random follows from it."""
    steps: int = 400
    """Optimisation steps."""
    views: int = 4
    """Cameras per step."""
    render_size: int = 64
    """Height and width of the renderings, px."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; auto takes a CUDA device if there is one."""
    background: Background = "black"
    """What renderings are composited over."""
    prior3d: CloudPrior = field(default_factory=BundledCloudPrior)
    """The 3D diffusion model."""
    prior2d: ImagePrior = field(default_factory=BundledImagePrior)
    """The 2D diffusion model."""
    loss: Loss = field(default_factory=lambda: SDS(guidance_scale=2.0))
    """The distillation loss."""
    times: NoiseTimes = field(default_factory=lambda: Times(switch_step=160, late=(0.02, 0.4)))
    """Which noise levels are visited when."""
    view_text: ViewText = "words"
    """How the camera enters the text; the bundled 2D model is told the camera itself and takes words only."""
    clip: GradientClip = field(default_factory=GradientClip)
    """Clipping of the loss gradient."""
    cameras: CameraRange = field(default_factory=lambda: WORLD_CAMERAS)
    """Where views are drawn from."""
    lift: Lift = field(default_factory=lambda: QUICK_LIFT)
    """From points to Gaussians."""
    rates: LearningRates = field(default_factory=lambda: QUICK_RATES)
    """Learning rates."""
    densify: DensifyConfig = field(default_factory=lambda: QUICK_DENSIFY)
    """When Gaussians are added and removed."""

    def __post_init__(self) -> None:
        """Check what every run needs."""
        ranges = {"steps": (0, 10**9), "seed": (0, 2**63 - 1), "views": (1, 1000), "render_size": (1, 8192)}
        for name, (least, greatest) in ranges.items():
            if not least <= getattr(self, name) <= greatest:
                raise InvalidInput(f"{name}: {getattr(self, name)}, expected {least} to {greatest}.")
        if self.background != "black" and isinstance(self.prior2d, BundledImagePrior | PerfectTeacher):
            raise InvalidInput(
                f"background: '{self.background}', but this 2D prior sees colour and alpha over black. Use black."
            )
        if self.view_text != "words" and isinstance(self.prior2d, BundledImagePrior | PerfectTeacher):
            raise InvalidInput(
                f"view-text: '{self.view_text}', but the words of this 2D prior cannot be mixed. Use words."
            )
        if isinstance(self.prior2d, BundledImagePrior):
            check_field_of_view(self.cameras.fov_y_deg)

    def to_json(self) -> dict[str, Any]:
        """The config as plain values; unions carry the name of their member under "kind"."""
        return _plain(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DreamConfig:
        """The config whose `to_json` this is.

        Raises:
            InvalidInput: if a setting is unknown, missing or of another kind, as in a file of another version.
        """
        try:
            return _built(cls, values)
        except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
            raise InvalidInput(f"config: not of this version of dreamsplat ({error}). Begin the run anew.") from error


def _built(hint: Any, value: Any) -> Any:
    """The value of a type hint that `_plain` made plain."""
    options = get_args(hint)
    if isinstance(value, dict):
        kind: Any = next(option for option in (options or (hint,)) if option.__name__ == value["kind"])
        hints = get_type_hints(kind)
        return kind(**{name: _built(hints[name], inner) for name, inner in value.items() if name != "kind"})
    if isinstance(value, list):
        return tuple(_built(option, inner) for option, inner in zip(options, value, strict=True))
    return Path(value) if isinstance(value, str) and Path in (hint, *options) else value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__} | fields
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
