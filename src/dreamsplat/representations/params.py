"""The Gaussians being optimised: raw leaves, their learning rates and their Adam moments.

The only place with logits and logarithms, and the only one that adds and removes rows. No tensor is ever changed in
place: each update makes new ones, so that Gaussians handed out earlier stay as they were.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.adam import adam_step
from dreamsplat.maths.rotations import rotation_from_quats
from dreamsplat.representations.densify import SPLIT_SHRINK, DensifyPlan
from dreamsplat.representations.splats import LearningRates
from dreamsplat.types import Gaussians, check_shapes

LEAVES = {
    "means": "N 3",
    "log_scales": "N 3",
    "quats": "N 4",
    "logit_opacities": "N",
    "sh_dc": "N 1 3",
    "sh_rest": "N R 3",
}
"""Names and shapes of the raw leaves; R = K - 1."""

_OPACITY_MARGIN = 1e-6
"""Opacities enter at least this far from 0 and 1, whose logits are infinite."""


class SplatParams:
    """Raw parameters of N Gaussians with their own Adam optimiser."""

    leaves: dict[str, Tensor]
    """name -> values with gradient, shapes as in `LEAVES`."""
    rates: LearningRates
    """The step sizes."""
    updates: int
    """Updates so far; they drive the schedule and Adam's bias correction."""

    def __init__(
        self,
        leaves: dict[str, Tensor],
        moments: dict[str, tuple[Tensor, Tensor]],
        rates: LearningRates,
        updates: int,
    ) -> None:
        """Take raw values as they are; start with `from_gaussians` or `from_state_tensors` instead."""
        self.leaves = {name: value.detach().requires_grad_() for name, value in leaves.items()}
        self._moments = moments
        self.rates = rates
        self.updates = updates

    @classmethod
    def from_gaussians(cls, gaussians: Gaussians, rates: LearningRates) -> Self:
        """Parameters that show these Gaussians, with an optimiser that has not stepped.

        Opacities are clamped to [1e-6, 1 - 1e-6], as those of 0 and 1 have infinite logits; quaternions are normalised,
        as their length would scale the rate at which they turn.

        Raises:
            InvalidInput: if a number is not finite, a scale is not > 0, an opacity is outside [0, 1] or a quaternion
                is zero.
        """
        _check_values(gaussians)
        opacities = gaussians.opacities.clamp(_OPACITY_MARGIN, 1 - _OPACITY_MARGIN)
        leaves = {
            # Copies of what would otherwise be the caller's memory: a change there must not reach in here.
            "means": gaussians.means.clone(),
            "log_scales": gaussians.scales.log(),
            "quats": normalize(gaussians.quats, dim=-1),
            "logit_opacities": opacities.logit(),
            "sh_dc": gaussians.sh[:, :1].clone(),
            "sh_rest": gaussians.sh[:, 1:].clone(),
        }
        # Contiguous, and every update keeps them so: file formats for tensors insist on it.
        leaves = {name: value.detach().contiguous() for name, value in leaves.items()}
        moments = {name: (torch.zeros_like(v), torch.zeros_like(v)) for name, v in leaves.items()}
        return cls(leaves, moments, rates, updates=0)

    def __len__(self) -> int:
        """The number of Gaussians N."""
        return self.leaves["means"].shape[0]

    def gaussians(self) -> Gaussians:
        """The Gaussians in physical units, differentiable with respect to the leaves; quaternions of unit length."""
        raw = self.leaves
        return Gaussians(
            means=raw["means"],
            scales=raw["log_scales"].exp(),
            quats=normalize(raw["quats"], dim=-1),
            opacities=raw["logit_opacities"].sigmoid(),
            sh=torch.cat([raw["sh_dc"], raw["sh_rest"]], dim=1),
        )

    def step(self) -> None:
        """Make one Adam update from the gradients in the leaves; a leaf without gradient keeps value and moments.

        Called after `apply` it does and counts nothing, since there are no gradients then: the official code skips the
        same updates.
        """
        if all(leaf.grad is None for leaf in self.leaves.values()):
            return
        rates = self.rates.at(self.updates)
        self.updates += 1
        for name, leaf in self.leaves.items():
            if leaf.grad is not None:
                value, moments = adam_step(leaf.detach(), leaf.grad, self._moments[name], rates[name], self.updates)
                self._moments[name], self.leaves[name] = moments, value.requires_grad_()

    def apply(self, plan: DensifyPlan, generator: torch.Generator) -> None:
        """Add and remove rows as the plan says. Kerbl et al. 2023, section 5.2.

        The result is, in this order: the rows that stay, then the clones, then the first child of every split, then the
        second child of every split; within each group in the old order. Children of a split lie at random places drawn
        from their parent, with its scales divided by 1.6, and inherit the rest. Rows that stay keep their Adam moments,
        new rows have none; all gradients are forgotten.

        Args:
            plan: masks over the present N rows.
            generator: source of the places of the children; not used if nothing is split.

        Raises:
            InvalidInput: if the plan is for another number of Gaussians.
        """
        if len(plan.clone) != len(self):
            raise InvalidInput(f"plan: for {len(plan.clone)} Gaussians, expected one for the present {len(self)}.")
        stay, clone, split = (mask.nonzero()[:, 0] for mask in (~plan.split & ~plan.prune, plan.clone, plan.split))
        source = torch.cat([stay, clone, split, split])
        old = {name: leaf.detach() for name, leaf in self.leaves.items()}
        new = {name: value[source] for name, value in old.items()}
        if len(split):
            scales = old["log_scales"][split].exp()
            children = _sample(old["means"][split], scales, old["quats"][split], 2, generator)
            first_child = len(stay) + len(clone)
            new["means"][first_child:] = children.flatten(0, 1)
            new["log_scales"][first_child:] = (scales / SPLIT_SHRINK).log().repeat(2, 1)
        self.leaves = {name: value.requires_grad_() for name, value in new.items()}
        added = len(source) - len(stay)
        self._moments = {
            name: (_with_zero_rows(first[stay], added), _with_zero_rows(second[stay], added))
            for name, (first, second) in self._moments.items()
        }

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything needed to continue exactly, apart from the rates, as a flat dictionary for a checkpoint file.

        Keys: each name of `LEAVES`; "NAME.moment1" and "NAME.moment2", of the same shape; "updates", int64 scalar.
        """
        tensors = {"updates": torch.tensor(self.updates)}
        for name, leaf in self.leaves.items():
            tensors[name] = leaf.detach()
            tensors[f"{name}.moment1"], tensors[f"{name}.moment2"] = self._moments[name]
        return tensors

    @classmethod
    def from_state_tensors(cls, tensors: dict[str, Tensor], rates: LearningRates) -> Self:
        """The parameters whose `state_tensors` these are; with equal rates and gradients they continue bit for bit.

        Raises:
            InvalidInput: naming the tensors that are missing, unknown or of another shape than expected.
        """
        expected = {"updates": ""}
        for name, shape in LEAVES.items():
            expected |= {name: shape, f"{name}.moment1": shape, f"{name}.moment2": shape}
        if tensors.keys() != expected.keys():
            missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
            raise InvalidInput(
                f"state tensors: missing {missing}, unknown {unknown}; expected what state_tensors() gives."
            )
        check_shapes(**{name: (tensors[name], shape) for name, shape in expected.items()})
        leaves = {name: tensors[name] for name in LEAVES}
        moments = {name: (tensors[f"{name}.moment1"], tensors[f"{name}.moment2"]) for name in LEAVES}
        return cls(leaves, moments, rates, updates=int(tensors["updates"]))


def _sample(
    means: Tensor,  # [S, 3]
    scales: Tensor,  # [S, 3]
    quats: Tensor,  # [S, 4]
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """`count` places [count, S, 3] drawn from each Gaussian."""
    normal = torch.randn((count, *scales.shape), generator=generator, dtype=scales.dtype).to(scales.device)
    return means + (rotation_from_quats(quats) @ (normal * scales)[..., None])[..., 0]


def _with_zero_rows(
    tensor: Tensor,  # [N, ...]
    count: int,
) -> Tensor:
    """The tensor with `count` rows of zeros below."""
    return torch.cat([tensor, tensor.new_zeros(count, *tensor.shape[1:])])


def _check_values(gaussians: Gaussians) -> None:
    """Refuse Gaussians whose raw values would not be finite."""
    problems = {
        "a number is NaN or infinite": not all(
            bool(tensor.isfinite().all()) for tensor in gaussians.tensors().values()
        ),
        "a scale is not > 0": bool((gaussians.scales <= 0).any()),
        "an opacity is outside [0, 1]": bool(((gaussians.opacities < 0) | (gaussians.opacities > 1)).any()),
        "a quaternion is zero": bool((gaussians.quats == 0).all(dim=-1).any()),
    }
    found = [what for what, is_so in problems.items() if is_so]
    if found:
        raise InvalidInput(f"Gaussians: {'; '.join(found)}. Remove or repair such Gaussians before optimising them.")
