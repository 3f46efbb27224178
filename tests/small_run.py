"""A run of the whole method in moments: a ball of points, a 2D prior in closed form. Also a program, to be killed.

python tests/small_run.py FOLDER splats STEPS          # begins, or goes on with what is there
python tests/small_run.py FOLDER splats STEPS CALLS    # and kills itself so many calls of functions after a checkpoint
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from analytic import GaussianPrior

from dreamsplat import DreamConfig
from dreamsplat.guidance import SDS
from dreamsplat.method.camera_range import CameraRange
from dreamsplat.priors3d import AbstractCloudPrior, AbstractCloudPriorSpec
from dreamsplat.representations import DensifyConfig, LearningRates, Lift, Splats, VoxelField
from dreamsplat.runs import Event, Failed, Pictures, Saved, execute
from dreamsplat.types import PointCloud


@dataclass(frozen=True)
class BallPrior(AbstractCloudPriorSpec, AbstractCloudPrior):
    """A dark ball of points; the generator decides where they are."""

    points: int = 150

    def load(self, device: torch.device) -> AbstractCloudPrior:
        return self

    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        xyz = torch.nn.functional.normalize(torch.randn(self.points, 3, generator=generator), dim=1)
        return PointCloud(0.5 * xyz, torch.full_like(xyz, 0.2))


CONFIG = DreamConfig(
    prompt="anything", steps=40, views=2, render_size=16, device="cpu",
    prior3d=BallPrior(), prior2d=GaussianPrior(mean=0.8, spread=0.3),
    loss=SDS(guidance_scale=1.0),
    cameras=CameraRange(distance=(2.0, 2.0), fov_y_deg=(40.0, 40.0)),
    representation=Splats(
        lift=Lift(candidates=2000, radius=0.05, world_scale=1.0),
        rates=LearningRates(sh_dc=0.05, opacities=0.05),
        densify=DensifyConfig(start=5, stop=1000, every=10, grad_threshold=1e-7, max_gaussians=2000),
    ),
)  # fmt: skip

CONFIGS = {
    "splats": CONFIG,
    "voxel-field": replace(CONFIG, representation=VoxelField(cells=16, refine_at=(7,), occupancy_every=3)),
}
"""The same run with each representation, by its name."""


SMALL = Pictures(preview_px=24, film_px=16, film_frames=2)
"""Pictures that take no time."""


def events(path: Path, config: DreamConfig = CONFIG, **settings: Any) -> Generator[Event]:
    """A run that goes on from wherever it stands, with small pictures."""
    return execute(path, config, **{"resume": True, "checkpoint_every": 5, "pictures": SMALL} | settings)


def go_on(path: Path, config: DreamConfig = CONFIG, **settings: Any) -> list[Event]:
    """Carry a run to its end from wherever it stands; raises the error of one that fails."""
    happened = list(events(path, config, **settings))
    if isinstance(happened[-1], Failed):
        raise happened[-1].error
    return happened


def kill_after(calls: int) -> None:
    """Kill this process by SIGKILL once so many more functions have been called, wherever that is."""
    left = count(calls, -1)

    def note(*_: object) -> None:
        if next(left) <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(note)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, representation, steps, *calls = sys.argv[1:]
    for event in events(Path(folder), replace(CONFIGS[representation], steps=int(steps))):
        if calls and isinstance(event, Saved) and any("step-" in path.name for path in event.paths):
            kill_after(int(calls.pop()))
        elif isinstance(event, Failed):
            raise event.error
