"""Configurations by name; docs/presets.md has the sources."""

from __future__ import annotations

from dataclasses import replace

from dreamsplat.config import DreamConfig
from dreamsplat.guidance import SDS
from dreamsplat.method.camera_range import CameraRange
from dreamsplat.method.prompts import NEGATIVE_PROMPT
from dreamsplat.method.schedule import AnnealedTimes, GradientClip, Times
from dreamsplat.priors2d import StableDiffusion
from dreamsplat.priors3d import ShapE
from dreamsplat.representations import PAPER_RATES, DensifyConfig, Splats

GAUSSIAN_DREAMER = DreamConfig(
    negative_prompt=NEGATIVE_PROMPT,
    steps=1200,
    views=4,
    render_size=1024,
    background="black",
    prior3d=ShapE(),
    prior2d=StableDiffusion(),
    loss=SDS(guidance_scale=101.0),
    times=Times(),
    clip=GradientClip(),
    cameras=CameraRange(),
    representation=Splats(densify=DensifyConfig(max_gaussians=500_000)),
)
"""The official code's defaults, line by line; the cap on the count is ours."""

PAPER = replace(
    GAUSSIAN_DREAMER,
    loss=SDS(guidance_scale=100.0),
    cameras=CameraRange(elevation_sampling="uniform"),
    representation=Splats(rates=PAPER_RATES, densify=DensifyConfig(max_gaussians=500_000)),
)
"""The paper's constants where they differ from the code's."""

FAST = replace(
    GAUSSIAN_DREAMER,
    steps=700,
    render_size=512,
    background="random",
    prior2d=StableDiffusion(tiny_autoencoder="madebyollin/taesd", tiny_until=0.7, channels_last=True),
    times=AnnealedTimes(),
    cameras=CameraRange(elevation_sampling="sphere", opposite=True),
    representation=Splats(densify=DensifyConfig(start=150, stop=500, max_gaussians=200_000)),
)
"""Ours: under half the arithmetic per step for most of the run, and fewer steps."""

PRESETS: dict[str, DreamConfig] = {
    "bundled": DreamConfig(),
    "gaussiandreamer": GAUSSIAN_DREAMER,
    "paper": PAPER,
    "fast": FAST,
}
"""Configs by name; the prompt is still to be filled in."""
