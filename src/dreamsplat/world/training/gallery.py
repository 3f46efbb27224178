"""Sheets of samples: what the bundled models make of captions."""

from pathlib import Path

import torch
from torch import Tensor

from dreamsplat.assets.sheet import contact_sheet
from dreamsplat.formats.png import write_png
from dreamsplat.method.cameras import make_views
from dreamsplat.method.lift import to_gaussians
from dreamsplat.render import render
from dreamsplat.types import Views
from dreamsplat.world.bundle import read_volume_model
from dreamsplat.world.language.captions import caption, parse_caption
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOUR_NAMES
from dreamsplat.world.nets.picture_denoiser import ImageDenoiser
from dreamsplat.world.nets.sampling import sample_cloud, sample_images

AZIMUTHS_DEG = (0.0, 60.0, 120.0, 180.0, 240.0, 300.0)


def gallery_captions() -> list[str]:
    """One caption per category, each in another colour."""
    return [caption(COLOUR_NAMES[i % len(COLOUR_NAMES)], name) for i, name in enumerate(CATEGORY_NAMES)]


def ring(size: int, elevation_deg: float = 20.0) -> Views:
    """Six views around the object, as the world is seen."""
    count = len(AZIMUTHS_DEG)
    fixed = (torch.full((count,), value) for value in (elevation_deg, 3.0, 40.0))
    return make_views(torch.tensor(AZIMUTHS_DEG), *fixed, width=size, height=size)


def over_white(z: Tensor) -> Tensor:
    """Pictures [B, H, W, 3] in [0, 1] of model images z [B, 4, H, W], over white."""
    premultiplied, alpha = (z / 2).split([3, 1], dim=1)
    return (premultiplied + 1 - alpha).clamp(0, 1).permute(0, 2, 3, 1)


def draw_image_samples(model: ImageDenoiser, path: Path) -> None:
    """A sheet of the 2D model's samples: a row per category, a column per azimuth; every picture is its own sample."""
    generator = torch.Generator().manual_seed(0)
    views = ring(model.config.resolution)
    rows = [
        (text, over_white(sample_images(model, [text] * len(views), views, generator))) for text in gallery_captions()
    ]
    _write_sheet(rows, path)


def draw_volume_samples(weights: Path, path: Path) -> None:
    """A sheet of the 3D model's samples, as clouds of opaque dots: a row per category, a column per azimuth."""
    model, code = read_volume_model(weights)
    generator = torch.Generator().manual_seed(0)
    views = ring(96)
    rows = []
    for text in gallery_captions():
        cloud = sample_cloud(model, code, parse_caption(text), 4096, generator, guidance_scale=2.0, steps=32)
        dots = to_gaussians(cloud, opacity=0.95)
        rows.append((text, render(dots, views.cameras, background=(1.0, 1.0, 1.0)).rgb.clamp(0, 1)))
    _write_sheet(rows, path)


def _write_sheet(rows: list[tuple[str, Tensor]], path: Path) -> None:
    write_png(contact_sheet(rows, [f"{azimuth:.0f} degrees" for azimuth in AZIMUTHS_DEG]), path)
