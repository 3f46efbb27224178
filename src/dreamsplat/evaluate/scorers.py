"""Scores of finished assets, behind one interface: a scorer is a frozen dataclass of settings in the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dreamsplat.types import AbstractAsset


class AbstractScorer(ABC):
    """Judges an asset. What its numbers mean, and which way is better, stands in its docstring."""

    @abstractmethod
    def score(self, asset: AbstractAsset, prompt: str) -> dict[str, float]:
        """Finite numbers by name, the same each time.

        Raises:
            DreamsplatError: if what it needs, such as weights, is not there.
        """


@dataclass(frozen=True)
class Looks(AbstractScorer):
    """What can be said of pictures from all around without a model: of a good asset each is neither near 0 nor near 1.

    "coverage" is the share of the pictures that the object covers, "solidity" how opaque it is where it shows, and
    "saturation" how far its colours are from grey; each is 0 to 1.
    """

    views: int = 8
    """Pictures, evenly around the object."""
    size: int = 128
    """Their width and height, px."""

    def score(self, asset: AbstractAsset, prompt: str) -> dict[str, float]:
        """See `AbstractScorer.score`."""
        import torch

        from dreamsplat.assets import render_asset
        from dreamsplat.method.cameras import orbit

        device = next(iter(asset.tensors().values())).device
        with torch.no_grad():
            image = render_asset(asset, orbit(self.views, size=self.size).cameras.to(device), (0.0, 0.0, 0.0))
        shown = image.alpha > 1 / 255
        spread = (image.rgb.amax(dim=-1) - image.rgb.amin(dim=-1)).clamp(0, 1)
        seen = shown.sum().clamp_min(1)
        return {
            "coverage": float(image.alpha.mean()),
            "solidity": float(image.alpha[shown].sum() / seen),
            "saturation": float(spread[shown].sum() / seen),
        }
