"""The conditions of the 2D prior: the prompt with the view in words, and what to move away from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dreamsplat.method.prompts import VIEW_WORDS, blended_views, opposed_views, view_prompts

if TYPE_CHECKING:
    from torch import Tensor

    from dreamsplat.priors2d.base import AbstractImagePrior
    from dreamsplat.types import Views

ViewText = Literal["words", "interpolated", "perp-neg"]
"""How the camera enters the text: as the word of its sector (the paper); as a mixture of the embeddings of the two
nearest words; or as that mixture, and away from the words that do not fit (Perp-Neg)."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of the 2D prior for each of C views."""

    positive: Tensor
    """[C, ...] the prompt (with its view)."""
    negative: Tensor | None
    """[C, ...] the empty or negative prompt that guidance moves away from; a scale of 1 needs none."""
    avoided: tuple[tuple[Tensor, Tensor], ...] = ()
    """Views that are not to be seen (Perp-Neg): condition [C, ...] and weight [C], <= 0, of each."""


def every_prompt(prompt: str, negative_prompt: str) -> list[str]:
    """All prompts that `describe` can ask for during a run."""
    return [*(f"{prompt}, {word} view" for word in VIEW_WORDS), negative_prompt]


def describe(
    prior: AbstractImagePrior,
    views: Views,  # C
    prompt: str,
    negative_prompt: str | None,
    view_text: ViewText,
) -> Conditions:
    """Conditions of C views; without a negative prompt only the positive ones."""
    negative = None if negative_prompt is None else prior.embed([negative_prompt] * len(views), views)
    if view_text == "words":
        return Conditions(prior.embed(view_prompts(prompt, views), views), negative)

    def embed(words: list[str]) -> Tensor:
        return prior.embed([f"{prompt}, {word} view" for word in words], views)

    near, far, share = blended_views(views)
    nearer, farther = embed(near), embed(far)
    share = share.to(nearer).reshape(-1, *[1] * (nearer.dim() - 1))
    positive = share * nearer + (1 - share) * farther
    if view_text == "interpolated":
        return Conditions(positive, negative)
    first, second, weights = opposed_views(views)
    return Conditions(positive, negative, ((embed(first), weights[0]), (embed(second), weights[1])))
