"""What representations are pulled towards besides the prompt: emptiness, decisive opacities, smoothness.

Penalties are per pixel, like the gradient of the loss that they join.
"""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from dreamsplat.maths.ranges import check_ranges

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Regularisers:
    """Weights of penalties on what is rendered, for any representation; 0 is without."""

    emptiness: float = 0.0
    """Of log(1 + 10 w), summed over the samples of a ray, w being their weights in the pixel: thins fog out (SJC, Wang
    et al. 2023, section 4.3). For Gaussians w is their opacity."""
    entropy: float = 0.0
    """Of the entropy of a pixel's alpha, in bits: opaque or empty, not in between."""

    def __post_init__(self) -> None:
        check_ranges(self, "representation.regularisers.", emptiness=(0, inf), entropy=(0, inf))

    def penalty(
        self,
        weights: "Tensor",  # [S]
        alpha: "Tensor",  # [C, H, W]
    ) -> "Tensor | float":
        """What the last rendering costs, per view; 0.0 if nothing is asked for."""
        total: Tensor | float = 0.0
        if self.emptiness:
            total = total + self.emptiness * emptiness(weights) / len(alpha)
        if self.entropy:
            total = total + self.entropy * entropy(alpha) / len(alpha)
        return total


def emptiness(
    weights: "Tensor",  # any shape, >= 0
) -> "Tensor":
    """The sum [] of log(1 + 10 w): steep near 0, so that faint samples vanish first. Wang et al. 2023, eq. 14."""
    return (10 * weights).log1p().sum()


def entropy(
    alpha: "Tensor",  # any shape, 0 to 1
) -> "Tensor":
    """The sum [] of binary entropies, bits."""
    p = alpha.clamp(1e-5, 1 - 1e-5)
    return -(p * p.log2() + (1 - p) * (1 - p).log2()).sum()


def total_variation(
    grid: "Tensor",  # [K, Z, Y, X]
) -> "Tensor":
    """The sum [] of squared differences between neighbouring voxels."""
    total = grid.new_zeros(())
    for axis in (1, 2, 3):
        total = total + grid.diff(dim=axis).square().sum()
    return total
