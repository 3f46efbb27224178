"""Everything a run depends on, as one immutable value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from dreamsplat import codec
from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import SDS, AbstractLoss, ViewText
from dreamsplat.method.background import Background
from dreamsplat.method.camera_range import CameraRange
from dreamsplat.method.schedule import AbstractTimes, GradientClip, Times
from dreamsplat.priors2d import AbstractImagePriorSpec, BundledImagePrior
from dreamsplat.priors3d import AbstractCloudPriorSpec, BundledCloudPrior
from dreamsplat.representations import QUICK_SPLATS, AbstractRepresentationSpec
from dreamsplat.world.camera_range import WORLD_CAMERAS


@dataclass(frozen=True)
class DreamConfig:
    """A run of the method. Defaults: the bundled models, on a laptop's processor; parts default to the paper's values.

    What differs from GaussianDreamer's official code was chosen by the quality benchmark (benchmarks/README.md).
    """

    prompt: str = ""
    """What to make."""
    negative_prompt: str = ""
    """What guidance moves away from; the bundled models take none."""
    seed: int = 0
    """Of everything random: the same seed gives the same asset."""
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
    prior3d: AbstractCloudPriorSpec = field(default_factory=BundledCloudPrior)
    """The 3D diffusion model."""
    prior2d: AbstractImagePriorSpec = field(default_factory=BundledImagePrior)
    """The 2D diffusion model."""
    loss: AbstractLoss = field(default_factory=lambda: SDS(guidance_scale=2.0))
    """The distillation loss."""
    times: AbstractTimes = field(default_factory=lambda: Times(switch_step=160, late=(0.02, 0.4)))
    """Which noise levels are visited when."""
    view_text: ViewText = "words"
    """How the camera enters the text; the bundled 2D model also receives the camera itself, and takes words only."""
    clip: GradientClip = field(default_factory=GradientClip)
    """Clipping of the loss gradient."""
    cameras: CameraRange = field(default_factory=lambda: WORLD_CAMERAS)
    """Where views are drawn from."""
    representation: AbstractRepresentationSpec = field(default_factory=lambda: QUICK_SPLATS)
    """What is optimised."""

    def __post_init__(self) -> None:
        """Check what every run needs."""
        ranges = {"steps": (0, 10**9), "seed": (0, 2**63 - 1), "views": (1, 1000), "render_size": (1, 8192)}
        for name, (least, greatest) in ranges.items():
            if not least <= getattr(self, name) <= greatest:
                raise InvalidInput(f"{getattr(self, name)}, expected {least} to {greatest}.", setting=name)

    def check(self) -> None:
        """Refuse what can be refused without loading a model: the prompt, and settings that do not go together.

        Raises:
            InvalidInput: naming the setting.
            FileProblem: if a file that the settings name is missing.
        """
        if not self.prompt.strip():
            raise InvalidInput('empty. Say what to make, for example "a red mushroom".', setting="prompt")
        self.prior3d.check(self)
        self.prior2d.check(self)
        self.loss.check(self)
        self.representation.check(self)

    def to_json(self) -> dict[str, Any]:
        """The config as plain values; see `codec`."""
        return codec.to_json(self)

    @classmethod
    def from_json(cls, values: Any) -> DreamConfig:
        """The config that plain values describe; what they lack is as in `DreamConfig()`.

        Raises:
            InvalidInput: naming the first setting that is unknown, of another type or out of its range.
        """
        return codec.from_json(cls, values, cls())
