"""The ranges that training views are drawn from; `cameras.py` draws from them."""

from dataclasses import dataclass
from typing import Literal

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.ranges import check_choice

ElevationSampling = Literal["uniform", "sphere", "paper"]
"""How elevations are drawn from their range: see `sample_elevations`."""


@dataclass(frozen=True)
class CameraRange:
    """The ranges that training views are drawn from; defaults of GaussianDreamer's official code."""

    elevation_deg: tuple[float, float] = (-10.0, 60.0)
    """Lowest and highest elevation, in [-90, 90]."""
    distance: tuple[float, float] = (1.5, 4.0)
    """Nearest and farthest distance from the origin, world units, > 0."""
    fov_y_deg: tuple[float, float] = (40.0, 70.0)
    """Narrowest and widest vertical field of view, in (0, 180); drawn independently of the distance."""
    elevation_sampling: ElevationSampling = "paper"
    """How elevations are spread: evenly in degrees, evenly in area (sphere), or as the official code mixes the two."""
    opposite: bool = False
    """Draw azimuths in pairs that face each other, so that a step sees the object from both sides."""

    def __post_init__(self) -> None:
        limits = {"elevation_deg": (-90.0, 90.0), "distance": (1e-6, 1e6), "fov_y_deg": (1e-3, 179.0)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise InvalidInput(
                    f"({low}, {high}), expected (low, high) with {least} <= low <= high <= {most}.",
                    setting=f"cameras.{name}",
                )
        check_choice("cameras.elevation_sampling", self.elevation_sampling, ElevationSampling)
