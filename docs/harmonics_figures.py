"""Draw the pictures of docs/spherical-harmonics.md; docs/figures.py calls it, and it runs by itself too.

python docs/harmonics_figures.py  # writes docs/images/sh-{basis,one,ball,bands}.png
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from dreamsplat.assets.sheet import INK, PAPER, contact_sheet
from dreamsplat.formats.png import write_png
from dreamsplat.maths.harmonics import rgb_to_sh, sh_basis
from dreamsplat.maths.srgb import to_uint8
from dreamsplat.method.cameras import make_views, orbit
from dreamsplat.render import render
from dreamsplat.types import Cameras, Gaussians

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import harmonics  # noqa: E402

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
IMAGES = Path(__file__).parent / "images"
NAMES = [
    ["1"],
    ["-y", "z", "-x"],
    ["xy", "-yz", "2z² - x² - y²", "-xz", "x² - y²"],
    [
        "-y(3x² - y²)",
        "xyz",
        "-y(4z² - x² - y²)",
        "z(2z² - 3x² - 3y²)",
        "-x(4z² - x² - y²)",
        "z(x² - y²)",
        "-x(x² - 3y²)",
    ],
]
"""What the functions of each degree are proportional to."""


def draw_basis(size: int = 136, gap: int = 24) -> None:
    """The 16 functions as coloured spheres, a row per degree: red above 0, blue below, white at 0."""
    axes = _camera_axes(azimuth_deg=25.0, elevation_deg=20.0)
    along, down = torch.meshgrid(*[torch.linspace(-1, 1, 4 * size)] * 2, indexing="xy")
    depth = (1 - along**2 - down**2).clamp_min(0).sqrt()
    direction = torch.stack([along, down, -depth], dim=-1) @ axes  # [size, size, 3] from the middle of the sphere
    inside = (along**2 + down**2 < 1).float()[..., None]
    values = sh_basis(direction, 3)
    font, left, row_height = ImageFont.load_default(size=15), 100, size + 48
    sheet = Image.new("RGB", (left + 7 * (size + gap), 4 * row_height + 10), PAPER)
    draw = ImageDraw.Draw(sheet)
    for degree, names in enumerate(NAMES):
        top = 10 + degree * row_height
        draw.text((left - 10, top + size / 2), f"degree {degree}", fill=INK, font=font, anchor="rm")
        for order, name in enumerate(names, start=-degree):
            value = values[..., degree * (degree + 1) + order]
            colour = _red_to_blue(value / value.abs().max()) * (0.72 + 0.28 * depth[..., None])
            ball = avg_pool2d((inside * colour + 1 - inside).permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0)
            x = left + (3 + order) * (size + gap) + gap // 2
            sheet.paste(Image.fromarray(to_uint8(ball)), (x, top))
            _formula(draw, (x + size / 2, top + size + 22), name, font)
    _draw_axes(draw, axes, middle=(left + size, row_height - 20), length=size // 2, font=font)
    write_png(np.asarray(sheet), IMAGES / "sh-basis.png")


def draw_one() -> None:
    """One Gaussian from eight sides: the colour that it should show, and what degrees 0 to 3 show of it."""
    views = orbit(8, elevation_deg=10.0, size=150)
    everywhere = normalize(torch.randn(4096, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    coefficients = torch.linalg.lstsq(sh_basis(everywhere, 3), _wanted(everywhere) - 0.5).solution  # [16, 3]
    cameras = [views.cameras.rows(torch.tensor([i])) for i in range(8)]
    rows = [("wanted", torch.cat([_picture(rgb_to_sh(_wanted(_towards(camera))), camera) for camera in cameras]))]
    for degree in harmonics.DEGREES:
        rows.append((f"degree {degree}", _picture(coefficients[: (degree + 1) ** 2], views.cameras)))
    columns = [f"{azimuth:.0f}°" for azimuth in (views.azimuth_deg % 360).tolist()]
    write_png(contact_sheet(rows, columns), IMAGES / "sh-one.png")


def draw_ball() -> None:
    """The shiny ball from three sides, and Gaussians of degrees 0 to 3 that were fitted to other pictures of it."""
    size, exponent = 160, 12.0
    azimuth = torch.tensor([-25.0, 20.0, 65.0])
    same = torch.ones(3)
    cameras = make_views(azimuth, 15 * same, 2.6 * same, 40 * same, size, size).cameras
    fits = [harmonics.fit(degree, exponent, steps=400, count=6000, size=96) for degree in harmonics.DEGREES]
    pictures = [harmonics.shiny_ball(cameras, exponent), *(_premultiplied(fit, cameras) for fit in fits)]
    shown = [_over_white(picture) for picture in pictures]
    decibels = [f"{harmonics.held_out(fit, exponent, 96)[0]:.1f} dB" for fit in fits]
    columns = ["the ball itself", *(f"degree {d}: {db}" for d, db in zip(harmonics.DEGREES, decibels, strict=True))]
    rows = [(f"{a:.0f}°", torch.stack([image[i] for image in shown])) for i, a in enumerate(azimuth.tolist())]
    write_png(contact_sheet(rows, columns), IMAGES / "sh-ball.png")
    draw_bands(fits[-1], cameras.rows(torch.tensor([1])))


def draw_bands(fit: Gaussians, camera: Cameras) -> None:
    """The fit of degree 3 with its bands up to each degree, and each band by itself around grey."""
    sums, alone = [], []
    for degree in harmonics.DEGREES:
        band = torch.zeros(16)
        band[degree**2 : (degree + 1) ** 2] = 1
        up_to = torch.arange(16) < (degree + 1) ** 2
        sums.append(_over_white(_premultiplied(replace(fit, sh=fit.sh * up_to[:, None]), camera)))
        alone.append(_over_white(_premultiplied(replace(fit, sh=fit.sh * band[:, None]), camera)))
    rows = [("bands up to this", torch.cat(sums)), ("this band alone", torch.cat(alone))]
    write_png(contact_sheet(rows, [f"degree {degree}" for degree in harmonics.DEGREES]), IMAGES / "sh-bands.png")


def _camera_axes(azimuth_deg: float, elevation_deg: float) -> Tensor:
    """Right, down and forward [3, 3] of a camera, as rows, world axes."""
    angles = torch.tensor([[azimuth_deg], [elevation_deg], [3.0], [40.0]])
    return make_views(*angles, width=8, height=8).cameras.world_to_camera[0, :3, :3]


def _red_to_blue(share: Tensor) -> Tensor:
    """Colours [..., 3] of values [...] in [-1, 1]: blue, white, red."""
    red, blue = torch.tensor([0.82, 0.18, 0.14]), torch.tensor([0.16, 0.36, 0.78])
    strength = share.abs()[..., None] ** 0.8
    return 1 - strength + strength * torch.where(share[..., None] > 0, red, blue)


def _formula(draw: ImageDraw.ImageDraw, middle: tuple[float, float], formula: str, font: Font) -> None:
    """A formula around a point of its base line; Pillow's font has no raised 2, so that is drawn smaller and higher."""
    small = ImageFont.load_default(size=10)
    pieces = [piece for part in formula.split("²") for piece in (part, "²")][:-1]
    lengths = [small.getlength("2") if piece == "²" else font.getlength(piece) for piece in pieces]
    x = middle[0] - sum(lengths) / 2
    for piece, length in zip(pieces, lengths, strict=True):
        raised = piece == "²"
        text, height = ("2", middle[1] - 6) if raised else (piece, middle[1])
        draw.text((x, height), text, fill=INK, font=small if raised else font, anchor="ls")
        x += length


def _draw_axes(draw: ImageDraw.ImageDraw, axes: Tensor, middle: tuple[int, int], length: int, font: Font) -> None:
    for name, (right, down, _) in zip("xyz", axes.T.tolist(), strict=True):
        tip = (middle[0] + length * right, middle[1] + length * down)
        draw.line([middle, tip], fill=INK, width=2)
        draw.text((middle[0] + 1.22 * length * right, middle[1] + 1.22 * length * down), name, INK, font, "mm")


def _wanted(direction: Tensor) -> Tensor:
    """Colours [..., 3] of a made-up material: orange from the front, blue from behind, a glint from the left."""
    front = 0.5 + 0.5 * direction[..., 1:2]  # Seen from the front, the way to the Gaussian leads along +y.
    glint = (direction @ normalize(torch.tensor([1.0, 1.0, 0.0]), dim=0))[..., None].clamp_min(0) ** 5
    body = torch.tensor([0.1, 0.3, 0.75]) + front * torch.tensor([0.8, 0.15, -0.65])
    return body + glint * (torch.tensor([1.0, 0.95, 0.6]) - body)


def _picture(
    sh: Tensor,  # [K, 3]
    cameras: Cameras,
) -> Tensor:
    """A long, flat Gaussian with these coefficients on white [C, H, W, 3], without the empty edges."""
    scales, quats = torch.tensor([[0.34, 0.17, 0.25]]), torch.tensor([[0.97, 0.0, 0.24, 0.0]])
    one = Gaussians(torch.zeros(1, 3), scales, quats, torch.tensor([0.99]), sh[None])
    return render(one, cameras, background=(1.0, 1.0, 1.0)).rgb[:, 22:-22, 16:-16]


def _towards(camera: Cameras) -> Tensor:
    """The direction [1, 3] from a camera to the origin, world axes."""
    return normalize(torch.einsum("cji,cj->ci", camera.world_to_camera[:, :3, :3], camera.world_to_camera[:, :3, 3]))


def _premultiplied(gaussians: Gaussians, cameras: Cameras) -> Tensor:
    image = render(gaussians, cameras)
    return torch.cat([image.rgb, image.alpha[..., None]], dim=-1).permute(0, 3, 1, 2)


def _over_white(picture: Tensor) -> Tensor:
    """Pictures [C, H, W, 3] of premultiplied colour and alpha [C, 4, H, W] on white."""
    return (picture[:, :3] + 1 - picture[:, 3:]).permute(0, 2, 3, 1)


def main() -> None:
    """Draw all four."""
    draw_basis()
    draw_one()
    draw_ball()


if __name__ == "__main__":
    main()
