"""Every part of the method is a setting: loss, priors, cameras, noise levels, learning rates.

python examples/03_choose_the_parts.py --steps 30
"""

from __future__ import annotations

import argparse

import dreamsplat
from dreamsplat.guidance import CSD
from dreamsplat.method import AnnealedTimes, GradientClip
from dreamsplat.priors2d import BundledImagePrior
from dreamsplat.priors3d import BundledCloudPrior
from dreamsplat.representations import DensifyConfig, LearningRates, Lift, Splats

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()

config = dreamsplat.DreamConfig(
    prompt="a green car",
    seed=7,
    steps=args.steps,
    views=4,
    prior3d=BundledCloudPrior(points=2048),
    prior2d=BundledImagePrior(view="camera"),
    loss=CSD(guidance_scale=5.0),
    times=AnnealedTimes(first=0.9, last=0.2),
    clip=GradientClip(first=1.0, last=1.0),
    representation=Splats(
        lift=Lift(candidates=50_000, radius=0.02, max_points=6_000, world_scale=1.0),
        rates=LearningRates(means=1e-3, means_final=1e-3, sh_dc=0.02, opacities=0.05),
        densify=DensifyConfig(stop=0),
    ),
)

# A config is checked without loading a model, and is plain JSON on disk.
config.check()
assert dreamsplat.DreamConfig.from_json(config.to_json()) == config

try:
    CSD(guidance_scale=-1.0)
except dreamsplat.DreamsplatError as error:  # the base of every error raised on purpose
    print(f"refused: {error}")

dreamsplat.save(dreamsplat.dream(config), "car.spz")
