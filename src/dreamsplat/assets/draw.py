"""Pictures of assets from any number of cameras, rendered on demand."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.method.lift import to_gaussians
from dreamsplat.render import render
from dreamsplat.types import AbstractAsset, Cameras, Gaussians, PointCloud, Rendering

BACKDROP = (0.86, 0.86, 0.86)
"""Background of preview and turntable: light, and still darker than a white object."""

_CAMERAS, _PIXELS = 8, 1 << 21  # Most rendered at a time, so that memory does not grow with the number of cameras.


@singledispatch
def render_asset(
    asset: AbstractAsset,
    cameras: Cameras,  # C, on the asset's device
    background: tuple[float, float, float],
) -> Rendering:
    """Render an asset; `render_asset.register` adds a kind.

    Raises:
        InvalidInput: for a kind that was not added.
    """
    raise InvalidInput(
        f"{type(asset).__name__}: nothing renders this kind of asset.",
        advice="Add a function by `dreamsplat.assets.render_asset.register`.",
    )


@render_asset.register
def _(asset: Gaussians, cameras: Cameras, background: tuple[float, float, float]) -> Rendering:
    return render(asset, cameras, background=background)


@dataclass(frozen=True, eq=False)
class Frames:
    """The pictures [H, W, 3] of a film, on the CPU, without gradients; only a few exist at a time."""

    asset: AbstractAsset
    """What they show."""
    cameras: Cameras
    """The C cameras that they are seen from, in order."""
    background: tuple[float, float, float] = BACKDROP
    """Display colour behind the object."""

    def __len__(self) -> int:
        """The number of pictures C."""
        return len(self.cameras)

    def __iter__(self) -> Iterator[Tensor]:
        """Draw them, one after another."""
        size = max(1, min(_CAMERAS, _PIXELS // (self.cameras.width * self.cameras.height)))
        for index in torch.arange(len(self.cameras)).split(size):
            yield from self._drawn(index)

    def _drawn(self, index: Tensor) -> Tensor:
        """The pictures [M, H, W, 3] of some cameras."""
        some = self.cameras.rows(index).to(next(iter(self.asset.tensors().values())))
        with torch.no_grad():
            return render_asset(self.asset, some, self.background).rgb.cpu()


def draw(asset: AbstractAsset, cameras: Cameras, background: tuple[float, float, float] = BACKDROP) -> Tensor:
    """All pictures [C, H, W, 3] at once, on the CPU and without gradients."""
    return torch.stack([*Frames(asset, cameras, background)])


def draw_points(cloud: PointCloud, cameras: Cameras) -> Tensor:
    """Pictures [C, H, W, 3] of a point cloud: each point is a small opaque ball."""
    balls = to_gaussians(cloud, opacity=0.99)
    return draw(replace(balls, scales=0.5 * balls.scales), cameras)
