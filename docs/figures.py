"""Draw the pictures of docs/method.md, from the shipped models, and of docs/spherical-harmonics.md.

python docs/figures.py  # writes docs/images/{cameras,view,levels}.png and sh-{basis,one,ball,bands}.png
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import harmonics_figures
import torch
from torch import Tensor

from dreamsplat.assets.sheet import contact_sheet
from dreamsplat.dream import dream
from dreamsplat.formats.png import write_png
from dreamsplat.guidance import Conditions, guided_denoise
from dreamsplat.method.cameras import sample_views
from dreamsplat.method.noise_levels import sigma_of_time
from dreamsplat.method.prompts import view_prompts, view_word
from dreamsplat.presets import PRESETS
from dreamsplat.priors2d import AbstractImagePrior, BundledImagePrior
from dreamsplat.priors2d.bundled import ViewConditioning
from dreamsplat.render import render
from dreamsplat.types import Gaussians, Views
from dreamsplat.world.training.gallery import over_white, ring

IMAGES = Path(__file__).parent / "images"
PROMPT = "a yellow duck"
WHITE = (1.0, 1.0, 1.0)


def enlarged(images: Tensor, factor: int = 2) -> Tensor:
    """Pictures [B, H, W, 3] with each pixel `factor` times as wide and high."""
    return images.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def draw_cameras(asset: Gaussians) -> None:
    """The views of four consecutive steps: one in each quarter of the circle, at random heights."""
    generator = torch.Generator().manual_seed(0)
    config = PRESETS["bundled"]
    rows = []
    for step in range(4):
        views = sample_views(config.cameras, config.views, 128, generator)
        angles = zip(views.azimuth_deg.tolist(), views.elevation_deg.tolist(), strict=True)
        words = ", ".join(view_word(azimuth, elevation) for azimuth, elevation in angles)
        rows.append((f"step {step}\n{words}", render(asset, views.cameras, background=WHITE).rgb))
    sectors = ["-180 to -90", "-90 to 0", "0 to 90", "90 to 180"]
    write_png(contact_sheet(rows, sectors), IMAGES / "cameras.png")


def draw_view() -> None:
    """The first estimate from noise alone, when the view is told as a camera, in words, and not at all."""
    generator = torch.Generator().manual_seed(0)
    views = ring(64)
    noise = torch.randn(len(views), 4, 64, 64, generator=generator)
    sigma = torch.full((len(views),), 10.0)
    rows = []
    ways: dict[str, ViewConditioning] = {"exact camera": "camera", "view word": "words", "neither": "neither"}
    for label, view in ways.items():
        prior = BundledImagePrior(view=view).load(torch.device("cpu"))
        estimate = prior.denoise(10.0 * noise, sigma, prior.embed(view_prompts(PROMPT, views), views))
        rows.append((label, enlarged(over_white(estimate))))
    columns = [f"{azimuth:.0f}°" for azimuth in views.azimuth_deg.tolist()]
    write_png(contact_sheet(rows, columns), IMAGES / "view.png")


def draw_levels(asset: Gaussians) -> None:
    """What one evaluation says about the finished, clean asset at six noise levels."""
    times = torch.tensor([0.02, 0.1, 0.25, 0.5, 0.75, 0.98])
    prior = BundledImagePrior().load(torch.device("cpu"))
    views = _repeated(ring(64), 1, len(times))
    z = prior.encode(render(asset, views.cameras))
    sigma = sigma_of_time(times)
    noisy = z + sigma[:, None, None, None] * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    estimate = _guided(prior, noisy, sigma, views)
    change = (z - estimate)[:, :3].permute(0, 2, 3, 1)
    rows = [
        ("render + noise", enlarged(over_white(noisy))),
        ("one estimate D", enlarged(over_white(estimate))),
        ("z - D", enlarged((0.5 + change).clamp(0, 1))),
    ]
    columns = [f"t = {t:g}, sigma {s:.2g}" for t, s in zip(times.tolist(), sigma.tolist(), strict=True)]
    write_png(contact_sheet(rows, columns), IMAGES / "levels.png")


def _guided(prior: AbstractImagePrior, noisy: Tensor, sigma: Tensor, views: Views) -> Tensor:
    prompts = view_prompts(PROMPT, views)
    conditions = Conditions(prior.embed(prompts, views), prior.embed([""] * len(views), views))
    return guided_denoise(prior, noisy, sigma, conditions, guidance_scale=PRESETS["bundled"].loss.guidance_scale)


def _repeated(views: Views, row: int, count: int) -> Views:
    rows = torch.full((count,), row)
    angles = {f: getattr(views, f)[rows] for f in ("azimuth_deg", "elevation_deg", "distance", "fov_y_deg")}
    return dataclasses.replace(views, cameras=views.cameras.rows(rows), **angles)


def main() -> None:
    """Draw all of them."""
    asset = dream(dataclasses.replace(PRESETS["bundled"], prompt=PROMPT))
    draw_cameras(asset)
    draw_view()
    draw_levels(asset)
    harmonics_figures.main()


if __name__ == "__main__":
    main()
