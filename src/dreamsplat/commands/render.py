"""`dreamsplat render`: a picture or a turntable film of an asset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.errors import FileProblem, InvalidInput


@dataclass(frozen=True)
class Render:
    """Draw a picture (.png) or a turntable film (.mp4, .webp, .gif) of an asset."""

    asset: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="ASSET")]]
    """The Gaussians: a .ply, or any other kind of file that `convert` reads."""
    out: Path
    """Where to write: a .png is one picture, an .mp4, .webp or .gif is a turntable."""
    azimuth_deg: float = 0.0
    """Where the camera stands, and where a turntable starts: 0 is before the object's front; grows clockwise seen from
    above."""
    elevation_deg: float = 15.0
    """Height of the camera above the horizon, -90 to 90."""
    distance: float = 3.0
    """From the camera to the origin, world units; bundled objects fit into the unit ball."""
    fov_y_deg: float = 40.0
    """Vertical field of view of the camera."""
    size: int = 512
    """Width and height of the picture, px."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Red, green and blue behind the object, each 0 to 1."""
    frames: int = 120
    """Pictures in a turntable, played at 30 per second."""

    def check(self) -> None:
        """Refuse what the cameras do not check themselves. Not in `__post_init__`, whose errors tyro would reword."""
        if self.out.suffix.lower() not in (".png", ".mp4", ".webp", ".gif"):
            raise FileProblem(f"{self.out}: unknown kind '{self.out.suffix}'. Write .png, .mp4, .webp or .gif.")
        if not self.out.absolute().parent.is_dir():
            raise FileProblem(f"{self.out}: there is no folder '{self.out.parent}'. Make it first.")
        if not (1 <= self.size <= 8192 and 1 <= self.frames <= 10_000):
            raise InvalidInput(f"size {self.size}, frames {self.frames}: expected 1 to 8192 px and 1 to 10000 frames.")
        if not all(map(math.isfinite, (self.azimuth_deg, self.elevation_deg, self.distance, self.fov_y_deg))):
            raise InvalidInput("azimuth, elevation, distance and field of view: expected finite numbers.")
        if not all(0 <= channel <= 1 for channel in self.background):
            raise InvalidInput(f"background {self.background}: expected three numbers from 0 to 1, such as 1 1 1.")


def render(arguments: Sequence[str]) -> int:
    """`dreamsplat render`: write one picture or a film of an asset, and print its path."""
    args = parse_flags(Render, arguments, "render")
    args.check()
    import torch

    from dreamsplat.assets.draw import draw
    from dreamsplat.formats import load
    from dreamsplat.formats.png import write_png
    from dreamsplat.formats.video import write_turntable
    from dreamsplat.method.cameras import make_views

    asset = load(args.asset)
    if torch.cuda.is_available():
        asset = asset.to("cuda")
    picture = args.out.suffix.lower() == ".png"
    count = 1 if picture else args.frames
    same = torch.ones(count)
    views = make_views(
        azimuth_deg=args.azimuth_deg + torch.arange(count) * (360 / count),
        elevation_deg=args.elevation_deg * same,
        distance=args.distance * same,
        fov_y_deg=args.fov_y_deg * same,
        width=args.size,
        height=args.size,
    )
    images = draw(asset, views.cameras, args.background)
    if picture:
        write_png(images[0], args.out)
    print(args.out if picture else write_turntable(images, args.out))
    return 0
