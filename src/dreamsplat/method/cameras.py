"""Where to look from: random training views and the turntable, all around the origin with +z up."""

from typing import assert_never

import torch
from torch import Generator, Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.rotations import look_at, wrap_degrees
from dreamsplat.method.camera_range import CameraRange
from dreamsplat.types import Cameras, Views, check_shapes


def make_views(
    azimuth_deg: Tensor,  # [C] any turn
    elevation_deg: Tensor,  # [C] in [-90, 90]
    distance: Tensor,  # [C] world units, > 0
    fov_y_deg: Tensor,  # [C] in (0, 180)
    width: int,  # px
    height: int,  # px
) -> Views:
    """Cameras that look at the origin from the given angles; square pixels, principal point in the middle.

    Azimuth 0 is at (0, -distance, 0), before the object's front, with +x to the right of the image; azimuth grows
    clockwise as seen from +z. At elevation +-90 the azimuth still decides how the image is turned.

    Raises:
        InvalidInput: if a distance, elevation or field of view is out of its range, or the sizes differ.
    """
    check_shapes(azimuth_deg=(azimuth_deg, "C"), elevation_deg=(elevation_deg, "C"), distance=(distance, "C"),
                 fov_y_deg=(fov_y_deg, "C"))  # fmt: skip
    _require("distance", distance, distance > 0, "> 0")
    _require("elevation_deg", elevation_deg, elevation_deg.abs() <= 90, "within [-90, 90]")
    _require("fov_y_deg", fov_y_deg, (fov_y_deg > 0) & (fov_y_deg < 180), "within (0, 180)")
    azimuth, elevation = torch.deg2rad(azimuth_deg), torch.deg2rad(elevation_deg)
    sin_az, cos_az, sin_el, cos_el = azimuth.sin(), azimuth.cos(), elevation.sin(), elevation.cos()
    outward = torch.stack([-cos_el * sin_az, -cos_el * cos_az, sin_el], dim=-1)  # [C, 3]
    # The direction in which the camera would rise: across the view at every elevation, so the poles need no exception.
    rise = torch.stack([sin_el * sin_az, sin_el * cos_az, cos_el], dim=-1)  # [C, 3]
    focal_px = 0.5 * height / torch.tan(torch.deg2rad(fov_y_deg) / 2)  # [C]
    intrinsics = torch.zeros(len(focal_px), 3, 3, dtype=focal_px.dtype, device=focal_px.device)
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal_px
    intrinsics[:, 0, 2], intrinsics[:, 1, 2], intrinsics[:, 2, 2] = 0.5 * width, 0.5 * height, 1.0
    return Views(
        cameras=Cameras(look_at(outward * distance[:, None], up=rise), intrinsics, width, height),
        azimuth_deg=wrap_degrees(azimuth_deg), elevation_deg=elevation_deg, distance=distance, fov_y_deg=fov_y_deg,
    )  # fmt: skip


def sample_views(range: CameraRange, count: int, size: int, generator: Generator) -> Views:
    """`count` random views with square images of `size` px, float32 on the CPU.

    Azimuths are stratified: one view in each of `count` equal sectors that start at -180 degrees, so
    that a batch sees all around the object. Distance and field of view are uniform. With `range.opposite` half of
    the azimuths are drawn, from equal sectors of one half of the circle, and the others face them.
    """
    if count < 1:
        raise InvalidInput(f"views: {count}, expected at least 1.")
    if range.opposite:
        azimuth_deg = _opposite_azimuths(count, generator)
    else:
        azimuth_deg = (torch.rand(count, generator=generator) + torch.arange(count)) * (360 / count) - 180
    elevation_deg = sample_elevations(range, count, generator)
    distance = _uniform(range.distance, count, generator)
    fov_y_deg = _uniform(range.fov_y_deg, count, generator)
    return make_views(azimuth_deg, elevation_deg, distance, fov_y_deg, width=size, height=size)


def _opposite_azimuths(count: int, generator: Generator) -> Tensor:
    """Azimuths [count] in pairs; of an odd number one is without its partner. A coin decides which half is drawn."""
    pairs = (count + 1) // 2
    drawn = (torch.rand(pairs, generator=generator) + torch.arange(pairs)) * (180 / pairs) - 180
    drawn = drawn + 180 * torch.randint(2, (), generator=generator)
    return torch.cat([drawn, drawn + 180])[:count]


def sample_elevations(range: CameraRange, count: int, generator: Generator) -> Tensor:
    """`count` elevations [C] in degrees within `range.elevation_deg`, spread as `range.elevation_sampling` says.

    - `uniform`: uniform in degrees.
    - `sphere`: uniform in area on the sphere, by the inverse CDF of the clipped range.
    - `paper`: as the official code, one coin per batch: uniform in degrees, or asin(2 p - 1) with p uniform between
      the ends of the range expressed as fractions of 180 degrees. The latter was meant as `sphere` but is not: for
      (-10, 60) it covers only (-6.38, 41.81).
    """
    low_deg, high_deg = range.elevation_deg
    match range.elevation_sampling:
        case "uniform":
            return _uniform((low_deg, high_deg), count, generator)
        case "sphere":
            low_sin, high_sin = torch.tensor([low_deg, high_deg]).deg2rad().sin().tolist()
            elevation_deg = torch.rad2deg(torch.asin(_uniform((low_sin, high_sin), count, generator)))
            return elevation_deg.clamp(low_deg, high_deg)  # Rounding of sin and asin may step over an end.
        case "paper":
            if torch.rand((), generator=generator) < 0.5:
                return _uniform((low_deg, high_deg), count, generator)
            fraction = _uniform(((low_deg + 90) / 180, (high_deg + 90) / 180), count, generator)
            return torch.rad2deg(torch.asin(2 * fraction - 1))
        case unknown:
            assert_never(unknown)


def orbit(
    count: int = 120,
    elevation_deg: float = 15.0,
    distance: float = 3.0,
    fov_y_deg: float = 40.0,
    size: int = 256,
) -> Views:
    """A turntable: `count` views evenly around the object, starting at its front, square images of `size` px.

    The paper's film has 120 views at elevation 15 too, but from distance 4 with a field of view of 70 degrees and with
    the last view equal to the first. Here the end is omitted, so that the film loops evenly.
    """
    if count < 1:
        raise InvalidInput(f"orbit: count = {count}, expected at least 1.")
    azimuth_deg = torch.arange(count) * (360 / count)
    same = torch.ones(count)
    return make_views(azimuth_deg, elevation_deg * same, distance * same, fov_y_deg * same, width=size, height=size)


def _uniform(ends: tuple[float, float], count: int, generator: Generator) -> Tensor:
    low, high = ends
    return low + (high - low) * torch.rand(count, generator=generator)


def _require(name: str, values: Tensor, holds: Tensor, expected: str) -> None:
    if not bool(holds.all()):
        raise InvalidInput(f"make_views: {name} = {values[~holds][0].item():g}, expected {expected}.")
