"""A scorer: the more words, the better."""

from __future__ import annotations

from dataclasses import dataclass

from dreamsplat import AbstractAsset
from dreamsplat.evaluate import AbstractScorer


@dataclass(frozen=True)
class PromptLength(AbstractScorer):
    """A real scorer looks at the asset, for example through `dreamsplat.assets.render_asset`."""

    weight: float = 1.0
    """What a word counts."""

    def score(self, asset: AbstractAsset, prompt: str) -> dict[str, float]:
        """See `AbstractScorer.score`."""
        return {"words": self.weight * len(prompt.split())}
