"""A representation: round blobs of one size, which move and change colour."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dreamsplat.representations import AbstractRepresentationSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat import PointCloud
    from dreamsplat_toy.blob_model import BlobModel


@dataclass(frozen=True)
class Blobs(AbstractRepresentationSpec):
    """As many blobs as the cloud has points, from the first step to the last."""

    size: float = 0.1
    """Standard deviation, world units."""
    rate: float = 0.01
    """How far centres (world units) and colours move in a step."""

    def start(self, cloud: PointCloud, generator: torch.Generator) -> BlobModel:
        """See `AbstractRepresentationSpec.start`."""
        from dreamsplat_toy.blob_model import BlobModel

        return BlobModel(self, cloud.xyz, cloud.rgb)

    def restore(self, tensors: dict[str, Tensor]) -> BlobModel:
        """See `AbstractRepresentationSpec.restore`."""
        from dreamsplat_toy.blob_model import BlobModel

        return BlobModel.restored(self, tensors)

    def in_world(self, cloud: PointCloud) -> PointCloud:
        """The cloud's units are those of the world."""
        return cloud

    def slower(self, factor: float) -> Blobs:
        """See `AbstractRepresentationSpec.slower`."""
        return replace(self, rate=factor * self.rate)
