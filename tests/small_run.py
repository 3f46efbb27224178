"""A run of the whole method in moments: a ball of points, a 2D prior in closed form. Also a program, to be killed.

python tests/small_run.py FOLDER STEPS        # begins, or goes on with what is there
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from analytic import GaussianPrior

from dreamsplat import DreamConfig
from dreamsplat.guidance import SDS
from dreamsplat.method.camera_range import CameraRange
from dreamsplat.priors3d import AbstractCloudPrior, AbstractCloudPriorSpec
from dreamsplat.representations import DensifyConfig, LearningRates, Lift, Splats
from dreamsplat.runs.execute import carry_out
from dreamsplat.runs.folder import RunFolder
from dreamsplat.runs.lock import locked
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


def go_on(path: Path, config: DreamConfig = CONFIG, every: int = 5) -> list[Path]:
    """Carry a run to its end from wherever it stands."""
    path.mkdir(exist_ok=True)
    with locked(path):
        return carry_out(RunFolder(path, new=False, preview_size=24), config, lambda step: None, every, resume=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    go_on(Path(sys.argv[1]), replace(CONFIG, steps=int(sys.argv[2])))
