"""What are colours that depend on the direction worth, and do they do harm? Spherical harmonics of degree 0 to 3.

    python benchmarks/harmonics.py                             # a shiny ball, fitted to pictures of it: a minute
    python benchmarks/harmonics.py --sds --out runs/harmonics  # the method itself at degree 0 and 3, twelve prompts

The ball is known exactly: chequered, lit from one side, with a highlight (Blinn-Phong) that moves with the camera. It
is fitted with the learning rates of the bundled preset, and judged on pictures that the fit has not seen.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import quality
import torch
import tyro
from provenance import provenance
from report import table
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize

from dreamsplat.errors import DreamsplatError
from dreamsplat.method.camera_range import CameraRange
from dreamsplat.method.cameras import sample_views
from dreamsplat.method.lift import to_gaussians
from dreamsplat.presets import PRESETS
from dreamsplat.render import render
from dreamsplat.representations import QUICK_SPLATS, DensifyConfig
from dreamsplat.representations.splat_model import SplatModel
from dreamsplat.types import Cameras, Gaussians, PointCloud

RADIUS = 0.8
"""Of the ball, world units."""
LIGHT = (-0.4, -0.6, 0.7)
"""Where the light comes from: left, in front, above."""
GLOSS = 0.9
"""What the highlight adds in its middle, in every channel."""
CAMERAS = CameraRange(
    elevation_deg=(-30.0, 60.0), distance=(3.0, 3.0), fov_y_deg=(40.0, 40.0), elevation_sampling="sphere"
)
DEGREES = (0, 1, 2, 3)


@dataclass(frozen=True)
class Harmonics:
    """Measure what spherical harmonics gain and cost."""

    steps: int = 250
    """Steps of a fit, of 4 views."""
    count: int = 2500
    """Gaussians."""
    exponents: tuple[float, ...] = (12.0, 60.0)
    """How sharp the highlight is."""
    sds: bool = False
    """Run the method at degree 0 and 3 and have its assets judged, instead of the ball."""
    out: Path = Path("runs/harmonics")
    """Folder of those runs."""


def main(arguments: list[str]) -> int:
    """Run the benchmark and return the exit code."""
    args = tyro.cli(Harmonics, args=arguments, config=(tyro.conf.FlagCreatePairsOff,), description=__doc__)
    command = f"python benchmarks/harmonics.py {shlex.join(arguments)}".strip()
    try:
        if args.sds:
            print(distil(args.out, command))
        else:
            print(", ".join(provenance(command).values()), *fit_ball(args), sep="\n")
    except DreamsplatError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def shiny_ball(
    cameras: Cameras,  # C
    exponent: float = 12.0,
    gloss: float = GLOSS,
    supersampling: int = 4,
) -> Tensor:
    """Pictures [C, 4, H, W] of the ball, premultiplied colour and alpha: chequered, diffuse light and a highlight."""
    height, width = cameras.height * supersampling, cameras.width * supersampling
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows, torch.full_like(rows, supersampling)], dim=-1) / supersampling  # [H, W, 3]
    rotation = cameras.world_to_camera[:, :3, :3]  # [C, 3, 3]
    eye = -torch.einsum("cji,cj->ci", rotation, cameras.world_to_camera[:, :3, 3])[:, None, None]  # [C, 1, 1, 3]
    to_world = rotation.mT @ cameras.intrinsics.inverse()
    ray = normalize(torch.einsum("cij,hwj->chwi", to_world, pixels), dim=-1)

    # |eye + t ray| = RADIUS, the nearer of the two.
    along = -(eye * ray).sum(-1)
    inside = along.square() - eye.square().sum(-1) + RADIUS**2
    hit = (inside > 0).float()
    normal = (eye + (along - inside.clamp_min(0).sqrt())[..., None] * ray) / RADIUS
    colour = torch.cat([shade(normal, -ray, exponent, gloss), torch.ones_like(hit)[..., None]], dim=-1) * hit[..., None]
    return avg_pool2d(colour.permute(0, 3, 1, 2), supersampling)


def shade(
    normal: Tensor,  # [..., 3] unit
    to_eye: Tensor,  # [..., 3] unit
    exponent: float,
    gloss: float,
) -> Tensor:
    """Colours [..., 3] of the ball's surface: Blinn-Phong (Blinn 1977), with a chequered diffuse colour."""
    light = normalize(torch.tensor(LIGHT), dim=0)
    longitude, latitude = torch.atan2(normal[..., 1], normal[..., 0]), torch.asin(normal[..., 2].clamp(-1, 1))
    # 6 x 4 fields, whose edges are soft enough for the Gaussians: what is measured is the highlight.
    other = 0.5 + 0.5 * (4 * (3 * longitude).sin() * (4 * latitude).sin()).clamp(-1, 1)
    albedo = torch.tensor([0.8, 0.3, 0.2]) + other[..., None] * torch.tensor([-0.6, 0.1, 0.3])
    diffuse = 0.3 + 0.5 * (normal @ light).clamp_min(0)
    halfway = normalize(light + to_eye, dim=-1)
    highlight = gloss * (normal * halfway).sum(-1).clamp_min(0) ** exponent
    return albedo * diffuse[..., None] + highlight[..., None]


def fit(degree: int, exponent: float, steps: int, count: int, size: int = 64, seed: int = 0) -> Gaussians:
    """Gaussians on a sphere, fitted to 60 pictures of the ball with the preset's learning rates, 4 in each step."""
    generator = torch.Generator().manual_seed(seed)
    cameras = sample_views(CAMERAS, 60, size, generator).cameras
    wanted = shiny_ball(cameras, exponent)
    xyz = RADIUS * normalize(torch.randn(count, 3, generator=generator), dim=1)
    start = to_gaussians(PointCloud(xyz, torch.full_like(xyz, 0.5)), QUICK_SPLATS.lift.opacity, degree)
    model = SplatModel.from_gaussians(replace(QUICK_SPLATS, densify=DensifyConfig(stop=0)), start)
    for _ in range(steps):
        rows = torch.randperm(60, generator=generator)[:4]
        image = model.render(cameras.rows(rows), torch.zeros(3), generator)
        shown = torch.cat([image.rgb, image.alpha[..., None]], dim=-1).permute(0, 3, 1, 2)
        (shown - wanted[rows]).square().sum().backward()
        model.update()
    return model.asset()


def held_out(gaussians: Gaussians, exponent: float, size: int = 64) -> tuple[float, float]:
    """PSNR of 24 pictures that no fit has seen, dB: of all, and where the highlight adds more than 0.2."""
    cameras = sample_views(CAMERAS, 24, size, torch.Generator().manual_seed(1)).cameras
    wanted = shiny_ball(cameras, exponent)
    image = render(gaussians, cameras)
    squares = (image.rgb.permute(0, 3, 1, 2) - wanted[:, :3]).square().mean(1)  # [C, H, W]
    lit = (wanted[:, :3] - shiny_ball(cameras, exponent, gloss=0.0)[:, :3]).amax(1) > 0.2
    return psnr(squares), psnr(squares[lit])


def psnr(squares: Tensor) -> float:
    """Of squared errors of values in [0, 1], dB."""
    return float(-10 * squares.mean().log10())


def fit_ball(args: Harmonics) -> list[str]:
    """The lines of the table of fits."""
    lines = ["| degree | coefficients | highlight | held out, dB | in the highlight, dB |", "|---|---|---|---|---|"]
    for exponent in args.exponents:
        for degree in DEGREES:
            whole, lit = held_out(fit(degree, exponent, args.steps, args.count), exponent)
            lines.append(f"| {degree} | {(degree + 1) ** 2} | {exponent:g} | {whole:.2f} | {lit:.2f} |")
    return lines


def distil(out: Path, command: str) -> str:
    """The table of the method's own runs at degree 0 and 3, made by benchmarks/quality.py."""
    folders = []
    for degree in (0, 3):
        lift = replace(QUICK_SPLATS.lift, sh_degree=degree)
        config = replace(PRESETS["bundled"], representation=replace(QUICK_SPLATS, lift=lift))
        folders.append(out / f"degree-{degree}")
        quality.run(quality.Quality(folders[-1], which="few", config=config), command)
        quality.report(folders[-1])
    return table(folders)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
