"""When and where to add and remove Gaussians: statistics -> decision, all pure functions.

Adaptive density control of 3DGS (Kerbl et al. 2023, section 5.2) with the schedule and thresholds of the official
GaussianDreamer code. `SplatParams.apply` carries a decision out.

Two differences from that code, on purpose. Its pruning by screen radius is omitted: the radii are zeroed just before
they are tested, so it never removes anything. Its gradients carry the mixed-precision loss scale, so that there the
threshold in effect is about 3e-9; here it means what it says, and a loss that is scaled needs a `grad_threshold`
scaled alike. `max_gaussians` bounds the growth that a low threshold gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Self

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput
from dreamsplat.representations.splats import DensifyConfig
from dreamsplat.types import Cameras, Gaussians, check_shapes

SPLIT_SHRINK = 1.6
"""The two children of a split have the parent's scales divided by this. Kerbl et al. 2023, section 5.2."""


@dataclass(frozen=True)
class ScreenStats:
    """Screen gradients gathered since the last densification."""

    grad_norm_sum: Tensor
    """[N] sum over steps of the gradient norm, normalised device coordinates."""
    visible_count: Tensor
    """[N] number of steps in which the Gaussian was visible."""

    @classmethod
    def empty(cls, gaussians: Gaussians) -> Self:
        """Nothing gathered yet, for these Gaussians: how to begin, also again after every `SplatParams.apply`."""
        zeros = torch.zeros_like(gaussians.opacities, requires_grad=False)
        return cls(grad_norm_sum=zeros, visible_count=zeros)

    @property
    def mean_grad(self) -> Tensor:
        """[N] mean gradient norm over the steps in which a Gaussian was visible; 0 if it never was."""
        return self.grad_norm_sum / self.visible_count.clamp_min(1)


@dataclass(frozen=True)
class DensifyPlan:
    """What becomes of each Gaussian. At most one mask holds for each; where none does, the Gaussian stays as it is."""

    clone: Tensor
    """[N] bool: stays, and a copy is added in the same place."""
    split: Tensor
    """[N] bool: replaced by two smaller ones drawn from it."""
    prune: Tensor
    """[N] bool: removed."""

    def __post_init__(self) -> None:
        """Check shapes, and that no Gaussian has two fates."""
        check_shapes(clone=(self.clone, "N"), split=(self.split, "N"), prune=(self.prune, "N"))
        overlap = (self.clone & self.split) | (self.clone & self.prune) | (self.split & self.prune)
        if bool(overlap.any()):
            raise InvalidInput(f"DensifyPlan: {int(overlap.sum())} Gaussians in two masks, expected at most one each.")


def is_due(step: int, config: DensifyConfig) -> bool:
    """Whether to densify at this step (counted from 0, as the official code does)."""
    return config.start < step < config.stop and step % config.every == 0


def update_stats(
    stats: ScreenStats,
    screen_grad: Tensor,  # [C, N, 2] d loss / d projected centre, px
    radii_px: Tensor,  # [C, N] 0 where culled
    cameras: Cameras,
) -> ScreenStats:
    """The statistics with one more step: the gradients of its C views added as vectors, then their norm.

    Kerbl et al. 2023, section 5.2, as GaussianDreamer batches it: a Gaussian counts once if any view shows it. The
    gradient per pixel becomes one per unit of normalised device coordinates, in which the image is 2 wide and high. A
    Gaussian whose gradient is not finite is skipped in this step.
    """
    check_shapes(
        screen_grad=(screen_grad, "C N 2"), radii_px=(radii_px, "C N"), grad_norm_sum=(stats.grad_norm_sum, "N"),
        world_to_camera=(cameras.world_to_camera, "C 4 4"),
    )  # fmt: skip
    px_per_unit = screen_grad.new_tensor([0.5 * cameras.width, 0.5 * cameras.height])
    norm = (screen_grad.detach().sum(dim=0) * px_per_unit).norm(dim=-1)  # [N]
    counted = (radii_px > 0).any(dim=0) & norm.isfinite()
    return ScreenStats(
        grad_norm_sum=stats.grad_norm_sum + torch.where(counted, norm, 0),
        visible_count=stats.visible_count + counted,
    )


def plan(gaussians: Gaussians, stats: ScreenStats, step: int, config: DensifyConfig) -> DensifyPlan:
    """Clone small and split large Gaussians with a large screen gradient; prune faint and, later, too big ones.

    Kerbl et al. 2023, section 5.2. The official code grows first and then prunes parents and children alike; the masks
    say the same at once: children inherit the opacity, so a faint parent is pruned and has none, and a split is judged
    by the size of its children. A split that the cap denies is judged by its own size.
    """
    check_shapes(opacities=(gaussians.opacities, "N"), grad_norm_sum=(stats.grad_norm_sum, "N"))
    faint = gaussians.opacities < config.min_opacity
    size = gaussians.scales.amax(dim=-1)
    size_limit = config.max_world_scale if step > config.prune_big_after else inf

    grow = stats.mean_grad >= config.grad_threshold
    doomed = faint | (torch.where(grow & (size > config.max_clone_scale), size / SPLIT_SHRINK, size) > size_limit)
    grow = grow & ~doomed
    if config.max_gaussians is not None:
        room = max(0, config.max_gaussians - int((~doomed).sum()))
        grow = _largest(stats.mean_grad, among=grow, count=room)
    split = grow & (size > config.max_clone_scale)
    prune = faint | (torch.where(split, size / SPLIT_SHRINK, size) > size_limit)
    return DensifyPlan(clone=grow & ~split, split=split, prune=prune)


def _largest(values: Tensor, among: Tensor, count: int) -> Tensor:
    """The mask `among` [N] cut down to its `count` largest values [N]; of equal ones, the first."""
    order = torch.where(among, values, -inf).argsort(descending=True, stable=True)
    kept = torch.zeros_like(among)
    kept[order[:count]] = True
    return kept & among
