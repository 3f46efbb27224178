"""Settings of a voxel radiance field as the representation: the NeRF that SDS and SJC were made for."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.ranges import check_ranges
from dreamsplat.representations.base import AbstractRepresentationSpec
from dreamsplat.representations.regularisers import Regularisers

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dreamsplat.config import DreamConfig
    from dreamsplat.representations.field_model import FieldModel
    from dreamsplat.types import PointCloud

_MOST_GB, _MUCH_GB = 16.0, 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FieldRates:
    """Adam step sizes of a voxel field."""

    density: float = 0.1
    """Of the raw densities, whose softplus is the optical depth across a voxel."""
    colour: float = 0.05
    """Of the logits of the colours."""

    def __post_init__(self) -> None:
        check_ranges(self, "representation.rates.", density=(0, 1e6), colour=(0, 1e6))


@dataclass(frozen=True)
class VoxelField(AbstractRepresentationSpec):
    """A dense grid of density and colour, rendered as a volume: a NeRF (Mildenhall et al. 2020) as in SJC."""

    cells: int = 64
    """Voxels along an edge, 8 to 256. 64 suit pictures of 64 px."""
    refine_at: tuple[int, ...] = ()
    """Coarse to fine: steps at which the edge of a voxel is halved. The grid starts with as much fewer cells."""
    extent: float = 1.0
    """Half the side of the cube that holds the object, world units; what lies outside is cut off."""
    world_scale: float = 1.0
    """World units per unit of the 3D prior's cloud."""
    start_alpha: float = 0.3
    """Opacity of a voxel of the first field where the cloud is dense, above 0 and below 1."""
    step_voxels: float = 1.5
    """Distance of samples on a ray, voxels."""
    occupancy_every: int = 8
    """Updates after which empty voxels, which are not sampled, are found again."""
    rates: FieldRates = field(default_factory=FieldRates)
    """Learning rates."""
    regularisers: Regularisers = field(default_factory=Regularisers)
    """Penalties on what is rendered."""
    total_variation: float = 0.0
    """Weight of squared differences between neighbouring voxels, in density and colour, summed over the grid."""

    def __post_init__(self) -> None:
        check_ranges(
            self, "representation.", cells=(8, 256), extent=(0, 1e6, True), world_scale=(0, inf, True),
            start_alpha=(0, 0.99, True), step_voxels=(0.1, 4), occupancy_every=(1, 10**6), total_variation=(0, inf),
        )  # fmt: skip
        if self.first_cells < 8:
            raise InvalidInput(
                f"{len(self.refine_at)} steps, which leaves {self.first_cells} cells at first, expected at least 8.",
                setting="representation.refine_at",
            )

    @property
    def first_cells(self) -> int:
        """Voxels along an edge before the first refinement: a refinement of n makes 2 n - 1."""
        cells = self.cells
        for _ in self.refine_at:
            cells = (cells + 1) // 2
        return cells

    def check(self, config: DreamConfig) -> None:
        """See `AbstractRepresentationSpec.check`."""
        pixels = config.views * config.render_size**2
        needed_gb = (80 * self.cells**3 + 130 * 0.5 * self.cells / self.step_voxels * pixels) / 1e9
        if needed_gb > _MOST_GB:
            raise InvalidInput(
                f"{self.cells} cells at {config.render_size} px would take about {needed_gb:.0f} GB.",
                setting="representation.cells", advice="Lower `render_size`, `views` or `representation.cells`.",
            )  # fmt: skip
        if needed_gb > _MUCH_GB:
            _log.warning("The field may take %.0f GB of memory: lower `render_size` if that is too much.", needed_gb)

    def start(self, cloud: PointCloud, generator: torch.Generator) -> FieldModel:
        """The cloud, blurred over the voxels."""
        from dreamsplat.representations.field_model import FieldModel
        from dreamsplat.representations.field_start import field_from_cloud

        return FieldModel.from_field(self, field_from_cloud(self, self.in_world(cloud)))

    def restore(self, tensors: dict[str, Tensor]) -> FieldModel:
        """See `AbstractRepresentationSpec.restore`."""
        from dreamsplat.representations.field_model import FieldModel

        return FieldModel.from_state_tensors(self, tensors)

    def in_world(self, cloud: PointCloud) -> PointCloud:
        """The cloud times `world_scale`."""
        return replace(cloud, xyz=cloud.xyz * self.world_scale)

    def slower(self, factor: float) -> VoxelField:
        """The same with both learning rates times a factor."""
        rates = FieldRates(density=factor * self.rates.density, colour=factor * self.rates.colour)
        return replace(self, rates=rates)
