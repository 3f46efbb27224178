"""Settings of a mesh made from Gaussians. They import no torch, so that flags can be read without it."""

from dataclasses import dataclass
from math import inf

from dreamsplat.maths.ranges import check_ranges


@dataclass(frozen=True)
class SurfaceSettings:
    """How a surface is extracted from Gaussians."""

    resolution: int = 128
    """Voxels along the longest side of the object, 16 to 512."""
    level: float = 0.4
    """Density at the surface, > 0: sum of opacity times Gaussian. For assets of the bundled models, 0.4 gives the
    outline at which a renderer draws alpha 0.5, to within 1 % of its area."""
    gap: int = 3
    """Voxels, 0 to 8: pits and holes no wider than twice this are filled, unless a camera looks through them."""
    smoothing: int = 10
    """Steps of Taubin smoothing, >= 0, without which each Gaussian is a bump. It preserves the volume."""
    least_share: float = 0.02
    """Separate pieces with less than this share, 0 to 1, of the largest piece's mass (density times volume) are
    dropped."""

    def __post_init__(self) -> None:
        check_ranges(self, resolution=(16, 512), level=(0, inf, True), gap=(0, 8), smoothing=(0, inf))
        check_ranges(self, least_share=(0, 1))


@dataclass(frozen=True)
class BakeSettings:
    """How colours are taken from renderings."""

    views: int = 48
    """Cameras, evenly spread over a sphere around the object, 1 to 1000."""
    size: int = 512
    """Width and height of their pictures, 16 to 8192 px."""
    sharpness: float = 4.0
    """A camera's weight is the cosine between the vertex's normal and the view to this power, >= 0; higher values mix
    fewer cameras, so details stay sharp."""

    def __post_init__(self) -> None:
        check_ranges(self, views=(1, 1000), size=(16, 8192), sharpness=(0, inf))


@dataclass(frozen=True)
class MeshSettings:
    """How a mesh is made."""

    triangles: int | None = 20_000
    """At most this many triangles; None keeps all."""
    texture: int | None = None
    """Width and height of a texture, 64 to 8192 px; None gives each vertex a colour."""
    surface: SurfaceSettings = SurfaceSettings()
    """The shape of the mesh."""
    bake: BakeSettings = BakeSettings()
    """The colours of the mesh."""

    def __post_init__(self) -> None:
        check_ranges(self, triangles=(20, 10**8), texture=(64, 8192))
