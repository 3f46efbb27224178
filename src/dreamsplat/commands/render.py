"""`dreamsplat render`: a picture or a turntable film of an asset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.commands.places import check_input, check_output
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.ranges import check_range

_FILMS = (".mp4", ".webp", ".gif")
_LARGEST_PX, _LARGEST_FILM_PX = 8192, 4096  # The second is `formats.video.LARGEST_SIDE`, which would import torch.


@dataclass(frozen=True)
class Render:
    """Draw a picture (.png) or a turntable film (.mp4, .webp, .gif) of an asset."""

    asset: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="ASSET")]]
    """The Gaussians: a .ply, or any other format that `dreamsplat convert` reads."""
    out: Path
    """Where to write: .png for one picture; .mp4, .webp or .gif for a turntable."""
    azimuth_deg: float = 0.0
    """Where the camera stands, and where a turntable starts: 0 faces the object's front, and it grows clockwise as seen
    from above."""
    elevation_deg: float = 15.0
    """Height of the camera above the horizon, -90 to 90."""
    distance: float = 3.0
    """From the camera to the origin, world units. Objects of the bundled models fit into the unit ball."""
    fov_y_deg: float = 40.0
    """Vertical field of view of the camera, degrees."""
    size: int = 512
    """Width and height, px: up to 8192 for a picture, 4096 for a film."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Red, green and blue behind the object, each 0 to 1."""
    frames: int = 120
    """Frames in a turntable, played at 30 per second; 1 to 10000."""
    overwrite: bool = False
    """Replace a file of that name."""

    def __post_init__(self) -> None:
        """Refuse what can be refused before the asset is read."""
        check_output(self.out, self.overwrite, (".png", *_FILMS))
        suffix = self.out.suffix.lower()
        largest = _LARGEST_FILM_PX if suffix in _FILMS else _LARGEST_PX
        if not 1 <= self.size <= largest:
            what = "film, since players decode no more" if suffix in _FILMS else "picture"
            raise InvalidInput(f"{self.size}, expected 1 to {largest} px for a {what}.", setting="size")
        if not 1 <= self.frames <= 10_000:
            raise InvalidInput(f"{self.frames}, expected 1 to 10000.", setting="frames")
        check_range("azimuth_deg", self.azimuth_deg, -1e6, 1e6)
        check_range("elevation_deg", self.elevation_deg, -90, 90)
        check_range("distance", self.distance, 0, 1e6, above=True)
        check_range("fov_y_deg", self.fov_y_deg, 0, 179, above=True)
        if not all(0 <= channel <= 1 for channel in self.background):
            raise InvalidInput(
                f"{self.background}, expected three numbers from 0 to 1, such as 1 1 1.", setting="background"
            )
        check_input(self.asset)


def render(arguments: Sequence[str]) -> int:
    """`dreamsplat render`: write one picture or a film of an asset, and print its path."""
    args = parse_flags(Render, arguments, "render", config=(tyro.conf.FlagCreatePairsOff,))
    import torch

    from dreamsplat.assets.draw import Frames
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
    frames = Frames(asset, views.cameras, args.background)
    if picture:
        write_png(next(iter(frames)), args.out)
    print(args.out if picture else write_turntable(frames, args.out))
    return 0
