"""Everything a run depends on, as one immutable value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import SDS, Loss, ViewText
from dreamsplat.method.background import Background
from dreamsplat.method.camera_range import CameraRange
from dreamsplat.method.schedule import GradientClip, NoiseTimes, Times
from dreamsplat.priors2d import BundledImagePrior, ImagePrior
from dreamsplat.priors3d import BundledCloudPrior, CloudPrior
from dreamsplat.representations import QUICK_SPLATS, Splats
from dreamsplat.world.camera_range import WORLD_CAMERAS

Representation = Splats


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
    """How the camera enters the text; the bundled 2D model also receives the camera itself, and takes words only."""
    clip: GradientClip = field(default_factory=GradientClip)
    """Clipping of the loss gradient."""
    cameras: CameraRange = field(default_factory=lambda: WORLD_CAMERAS)
    """Where views are drawn from."""
    representation: Representation = field(default_factory=lambda: QUICK_SPLATS)
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
