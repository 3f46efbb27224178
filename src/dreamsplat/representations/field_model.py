"""A voxel radiance field while it is optimised: raw grids, their Adam moments, and which voxels are worth a sample."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from dreamsplat.assets.radiance_field import RadianceField
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.adam import adam_step
from dreamsplat.method.divergence import check_finite
from dreamsplat.representations.base import AbstractRepresentation
from dreamsplat.representations.regularisers import total_variation
from dreamsplat.representations.voxel_field import VoxelField
from dreamsplat.types import Cameras, Rendering, check_shapes

_BETAS = (0.9, 0.99)
_LEAVES = {"density": "1 R R R", "colour": "3 R R R"}


class FieldModel(AbstractRepresentation):
    """Density and colour; start with `from_field` or `from_state_tensors`."""

    def __init__(
        self,
        spec: VoxelField,
        leaves: dict[str, Tensor],  # density [1, R, R, R], colour [3, R, R, R]
        moments: dict[str, tuple[Tensor, Tensor]],
        depth_of_voxels: Tensor,  # [R, R, R]
        updates: int,
    ) -> None:
        """Take the parts as they are."""
        self.spec, self._moments, self.depth_of_voxels, self.updates = spec, moments, depth_of_voxels, updates
        self.leaves = {name: value.detach().requires_grad_() for name, value in leaves.items()}
        self._seen: tuple[Tensor, Tensor] | None = None  # weights and alpha of the last rendering

    @classmethod
    def from_field(cls, spec: VoxelField, field: RadianceField) -> Self:
        """With an optimiser that has not stepped."""
        leaves = {"density": field.grid[:1], "colour": field.grid[1:]}
        moments = {name: (torch.zeros_like(v), torch.zeros_like(v)) for name, v in leaves.items()}
        return cls(spec, leaves, moments, field.depth_of_voxels(), updates=0)

    @classmethod
    def from_state_tensors(cls, spec: VoxelField, tensors: dict[str, Tensor]) -> Self:
        """See `AbstractRepresentationSpec.restore`."""
        expected = {"updates": "", "depth_of_voxels": "R R R"}
        for name, shape in _LEAVES.items():
            expected |= {name: shape, f"{name}.moment1": shape, f"{name}.moment2": shape}
        if tensors.keys() != expected.keys():
            raise InvalidInput(f"the state holds {', '.join(sorted(tensors))}, expected that of a voxel field.")
        check_shapes(**{name: (tensors[name], shape) for name, shape in expected.items()})
        leaves = {name: tensors[name] for name in _LEAVES}
        moments = {name: (tensors[f"{name}.moment1"], tensors[f"{name}.moment2"]) for name in _LEAVES}
        return cls(spec, leaves, moments, tensors["depth_of_voxels"], int(tensors["updates"]))

    def field(self) -> RadianceField:
        """The field, differentiable with respect to the leaves."""
        return RadianceField(torch.cat([self.leaves["density"], self.leaves["colour"]]), self.spec.extent)

    def render(self, cameras: Cameras, background: Tensor, generator: torch.Generator) -> Rendering:
        """See `AbstractRepresentation.render`."""
        there = background.to(self.depth_of_voxels.device)
        image, weights, _ = self.field().render(cameras, there, self.depth_of_voxels, self.spec.step_voxels, generator)
        self._seen = weights, image.alpha
        return image

    def penalty(self) -> Tensor | float:
        """See `AbstractRepresentation.penalty`."""
        assert self._seen is not None, "penalty() follows render()"
        total = self.spec.regularisers.penalty(*self._seen)
        if self.spec.total_variation:
            total = total + self.spec.total_variation * sum(total_variation(leaf) for leaf in self.leaves.values())
        return total

    def adapt(self, step: int, generator: torch.Generator) -> None:
        """Halve the voxels when due; the moments start again."""
        if step in self.spec.refine_at:
            with torch.no_grad():
                finer = self.from_field(self.spec, self.field().refined())
            self.leaves, self._moments, self.depth_of_voxels = finer.leaves, finer._moments, finer.depth_of_voxels
            self.updates = 0

    def update(self) -> None:
        """See `AbstractRepresentation.update`."""
        rates = vars(self.spec.rates)
        if all(leaf.grad is None for leaf in self.leaves.values()):
            return
        self.updates += 1
        for name, leaf in self.leaves.items():
            if leaf.grad is not None:
                value, moments = adam_step(
                    leaf.detach(), leaf.grad, self._moments[name], rates[name], self.updates, _BETAS
                )
                self._moments[name], self.leaves[name] = moments, value.requires_grad_()
        if self.updates % self.spec.occupancy_every == 0:
            self.depth_of_voxels = self.field().depth_of_voxels()

    def check(self, step: int) -> None:
        """See `AbstractRepresentation.check`."""
        check_finite(self.leaves, step)

    def asset(self) -> RadianceField:
        """See `AbstractRepresentation.asset`."""
        return self.field().detach()

    def metrics(self) -> dict[str, float]:
        """How many voxels are worth a sample."""
        return {"voxels": int((self.depth_of_voxels >= 0).sum())}

    def state_tensors(self) -> dict[str, Tensor]:
        """See `AbstractRepresentation.state_tensors`; nothing is copied, since nothing is updated in place."""
        tensors = {"updates": torch.tensor(self.updates), "depth_of_voxels": self.depth_of_voxels}
        for name, leaf in self.leaves.items():
            tensors[name] = leaf.detach()
            tensors[f"{name}.moment1"], tensors[f"{name}.moment2"] = self._moments[name]
        return tensors
