"""What a run of blobs makes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dreamsplat import AbstractAsset, Cameras, Gaussians, Rendering, render
from dreamsplat.assets import render_asset


@dataclass(frozen=True, eq=False)
class BlobAsset(AbstractAsset):
    """Round blobs of one size."""

    centres: Tensor
    """[N, 3] world."""
    colours: Tensor
    """[N, 3] display colours."""
    radius: float
    """Standard deviation, world units."""

    @property
    def size(self) -> str:
        """See `AbstractAsset.size`."""
        return f"{len(self.centres):,} blobs"

    def gaussians(self) -> Gaussians:
        """See `AbstractAsset.gaussians`."""
        count, like = len(self.centres), self.centres
        return Gaussians(
            means=self.centres,
            scales=like.new_full((count, 3), self.radius),
            quats=like.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
            opacities=like.new_full((count,), 0.5),
            sh=((self.colours - 0.5) / 0.28209479)[:, None],
        )


@render_asset.register
def render_blobs(asset: BlobAsset, cameras: Cameras, background: tuple[float, float, float]) -> Rendering:
    """See `dreamsplat.assets.render_asset`; an asset that is nothing like Gaussians is drawn in its own way."""
    return render(asset.gaussians(), cameras, background=background)
