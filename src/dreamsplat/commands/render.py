"""`dreamsplat render`: pictures or a turntable film of an asset."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.commands.places import check_input, check_output
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.ranges import check_range

if TYPE_CHECKING:
    from torch import Tensor

    from dreamsplat.assets.radiance_field import RadianceField
    from dreamsplat.types import AbstractAsset, Cameras, Gaussians, Rendering

_FILMS = (".mp4", ".webp", ".gif")
_LARGEST_PX, _LARGEST_FILM_PX = 8192, 4096  # The second is `formats.video.LARGEST_SIDE`, which would import torch.
_ROOM = 1.05  # How much farther than needed the camera stands.

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Render:
    """Draw pictures (.png) or a turntable film (.mp4, .webp, .gif) of an asset."""

    asset: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="ASSET")]]
    """The file: Gaussians in any format that `dreamsplat convert` reads, a point cloud or a radiance field."""
    out: Path
    """Where to write: .png for pictures; .mp4, .webp or .gif for a turntable."""
    azimuth_deg: Annotated[tuple[float, ...], tyro.conf.arg(metavar="DEG [DEG ...]")] = (0.0,)
    """Where the camera stands, and where a turntable starts: 0 faces the object's front, and it grows clockwise as seen
    from above. Several make one picture each, with the angle added to its name."""
    elevation_deg: float = 15.0
    """Height of the camera above the horizon, -90 to 90."""
    distance: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """From the camera to the origin, world units. By default the camera looks at the middle of the object from where
    all of it is in view."""
    fov_y_deg: float = 40.0
    """Vertical field of view of the camera, degrees."""
    size: int = 512
    """Width and height, px: up to 8192 for a picture, 4096 for a film."""
    width: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Width, px, if not --size."""
    height: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Height, px, if not --size."""
    show: Literal["colour", "alpha", "depth"] = "colour"
    """What is drawn: colours; coverage, white where the object is opaque; or depth, white where it is nearest."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Red, green and blue behind the object, each 0 to 1."""
    frames: int = 120
    """Frames in a turntable, played at 30 per second; 1 to 10000."""
    strict: bool = False
    """Refuse a file with Gaussians that cannot be drawn, instead of dropping them."""
    overwrite: bool = False
    """Replace files of that name."""

    def __post_init__(self) -> None:
        """Refuse what can be refused before the asset is read."""
        if not self.azimuth_deg:
            raise InvalidInput("missing: at least one angle.", setting="azimuth_deg")
        if self.is_film and (len(self.azimuth_deg) > 1 or self.show != "colour"):
            raise InvalidInput(
                "a film starts at one azimuth and shows colours.", setting="out", advice="Write to a .png instead."
            )
        for path in self.paths:
            check_output(path, self.overwrite, (".png", *_FILMS))
        largest = _LARGEST_FILM_PX if self.is_film else _LARGEST_PX
        for setting, value in {"size": self.size, "width": self.width, "height": self.height}.items():
            if value is not None and not 1 <= value <= largest:
                what = "film, since players decode no more" if self.is_film else "picture"
                raise InvalidInput(f"{value}, expected 1 to {largest} px for a {what}.", setting=setting)
        if not 1 <= self.frames <= 10_000:
            raise InvalidInput(f"{self.frames}, expected 1 to 10000.", setting="frames")
        for azimuth_deg in self.azimuth_deg:
            check_range("azimuth_deg", azimuth_deg, -1e6, 1e6)
        check_range("elevation_deg", self.elevation_deg, -90, 90)
        check_range("distance", 1 if self.distance is None else self.distance, 0, 1e6, above=True)
        check_range("fov_y_deg", self.fov_y_deg, 0, 179, above=True)
        if not all(0 <= channel <= 1 for channel in self.background):
            raise InvalidInput(
                f"{self.background}, expected three numbers from 0 to 1, such as 1 1 1.", setting="background"
            )
        check_input(self.asset)

    @property
    def is_film(self) -> bool:
        """Whether a turntable is asked for."""
        return self.out.suffix.lower() in _FILMS

    @property
    def paths(self) -> list[Path]:
        """The files to write, one for each azimuth."""
        if len(self.azimuth_deg) == 1:
            return [self.out]
        return [self.out.with_stem(f"{self.out.stem}-{azimuth_deg:g}") for azimuth_deg in self.azimuth_deg]

    @property
    def shape_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.width or self.size, self.height or self.size


def render(arguments: Sequence[str]) -> int:
    """`dreamsplat render`: write pictures or a film of an asset, and print their paths."""
    args = parse_flags(Render, arguments, "render", config=(tyro.conf.FlagCreatePairsOff,))
    import torch

    from dreamsplat.assets.draw import Frames
    from dreamsplat.formats import read_asset
    from dreamsplat.formats.png import write_png
    from dreamsplat.formats.video import write_turntable

    asset, distance = _framed(read_asset(args.asset, strict=args.strict), args)
    if torch.cuda.is_available():
        asset = asset.to("cuda")
    azimuths_deg = args.azimuth_deg
    if args.is_film:
        azimuths_deg = tuple(azimuths_deg[0] + 360 * i / args.frames for i in range(args.frames))
    cameras = _cameras(azimuths_deg, distance, args)
    _warn_if_nothing_shows(asset, cameras, args)
    if args.is_film:
        print(write_turntable(Frames(asset, cameras, args.background), args.out))
        return 0
    for index, path in enumerate(args.paths):
        write_png(_picture(asset, cameras.rows(torch.tensor([index])), args), path)
        print(path)
    return 0


def _framed(asset: Gaussians | RadianceField, args: Render) -> tuple[Gaussians | RadianceField, float]:
    """The asset, in float32, with what the camera looks at in the origin; and how far away the camera stands."""
    from dreamsplat.assets import ball_around, moved
    from dreamsplat.formats import in_float32
    from dreamsplat.types import Gaussians

    if not isinstance(asset, Gaussians):
        return asset, args.distance or _far_enough(asset.reach, args)
    if args.distance is not None or len(asset) == 0:
        return in_float32(args.asset, asset), args.distance or 3.0
    middle, radius = ball_around(asset)
    asset = in_float32(args.asset, moved(asset, -middle))
    return asset, _far_enough(radius, args)


def _far_enough(radius: float, args: Render) -> float:
    """From where a camera sees all of a ball."""
    width, height = args.shape_px
    half_y = math.radians(args.fov_y_deg) / 2
    narrower = min(half_y, math.atan(math.tan(half_y) * width / height))
    return _ROOM * max(radius, 1e-6) / math.sin(narrower)


def _cameras(azimuths_deg: Sequence[float], distance: float, args: Render) -> Cameras:
    import torch

    from dreamsplat.method.cameras import make_views

    azimuth = torch.tensor(azimuths_deg)
    width, height = args.shape_px
    same = torch.ones_like(azimuth)
    return make_views(
        azimuth, args.elevation_deg * same, distance * same, args.fov_y_deg * same, width=width, height=height
    ).cameras


def _warn_if_nothing_shows(asset: AbstractAsset, cameras: Cameras, args: Render) -> None:
    """Say so where the first picture would be empty."""
    import torch

    if float(_rendered(asset, cameras.rows(torch.tensor([0])), args).alpha.max()) < 1 / 255:
        where = "Omit --distance to frame the object." if args.distance is not None else "All of it is transparent."
        _log.warning("%s: nothing is in view. %s", args.asset, where)


def _rendered(asset: AbstractAsset, camera: Cameras, args: Render) -> Rendering:
    import torch

    from dreamsplat.assets import render_asset

    with torch.no_grad():
        return render_asset(asset, camera.to(next(iter(asset.tensors().values()))), args.background)


def _picture(asset: AbstractAsset, camera: Cameras, args: Render) -> Tensor:
    """What --show asks for, from one camera [H, W, 3], on the CPU."""
    image = _rendered(asset, camera, args)
    if args.show == "colour":
        return image.rgb[0].cpu()
    grey = image.alpha[0] if args.show == "alpha" else _nearness(image.depth[0], image.alpha[0])
    return grey[..., None].expand(-1, -1, 3).cpu()


def _nearness(depth: Tensor, alpha: Tensor) -> Tensor:
    """Depth [H, W] as grey: 1 where the object is nearest, 0.1 where it is farthest, 0 where there is none."""
    shown = alpha > 0.5
    metric = depth / alpha.clamp_min(1e-6)
    if not bool(shown.any()):
        return metric.new_zeros(metric.shape)
    near, far = metric[shown].min(), metric[shown].max()
    _log.info("Depth from %.4g (white) to %.4g world units.", float(near), float(far))
    return (1 - 0.9 * (metric - near) / (far - near).clamp_min(1e-6)).where(shown, metric.new_zeros(()))
