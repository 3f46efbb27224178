"""Captions of the bundled world: what a prompt means to the bundled models, and which captions they were trained on."""

import hashlib
import re
from dataclasses import dataclass
from itertools import product

from dreamsplat.errors import InvalidInput, UnknownWord
from dreamsplat.world.language.suggestions import explained, suggestion
from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOUR_NAMES, VIEW_WORDS

MAX_PROMPT_LENGTH = 200
"""Characters; a caption of this world needs a tenth of it."""

_HELD_OUT = 12
_HELD_OUT_PER_WORD = 2
_SILENT_WORDS = ("a", "an", "the", "of", "view")


@dataclass(frozen=True)
class Caption:
    """What a prompt says; None where it says nothing."""

    colour: int | None = None
    """Index into `COLOUR_NAMES`."""
    category: int | None = None
    """Index into `CATEGORY_NAMES`."""
    view: int | None = None
    """Index into `VIEW_WORDS`."""


def caption(colour: str, category: str) -> str:
    """The caption of an object: "a red mushroom"."""
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {category}"


def parse_caption(text: str) -> Caption:
    """Read a prompt such as "a red mushroom, front view", in any case and word order; an empty one says nothing.

    Raises:
        UnknownWord: for a word outside `known_words()`, naming all of them and what they may stand for.
        InvalidInput: for a prompt over 200 characters, or one that names two colours, objects or views.
    """
    if len(text) > MAX_PROMPT_LENGTH:
        raise InvalidInput(
            f"{len(text)} characters, expected at most {MAX_PROMPT_LENGTH}.", setting="prompt", advice="Shorten it."
        )
    words = re.findall(r"[^\s,.;:!]+", text.lower())
    if unknown := [word for word in words if word not in known_words()]:
        raise _unknown_words(unknown)
    return Caption(
        colour=_only(words, COLOUR_NAMES, "colour"),
        category=_only(words, CATEGORY_NAMES, "object"),
        view=_only(words, VIEW_WORDS, "view"),
    )


def known_words() -> tuple[str, ...]:
    """Every word that a prompt may hold: colours, categories, view words, and the little words between them."""
    return (*COLOUR_NAMES, *CATEGORY_NAMES, *VIEW_WORDS, *_SILENT_WORDS)


def held_out_pairs() -> tuple[tuple[str, str], ...]:
    """The (colour, category) pairs that training never sees, to measure composition: one tenth, 12 of 120.

    They come in the order of the SHA-256 of their two words, so they do not depend on any generator; a pair is passed
    over if its colour or its category is held out twice already, so that each word is seen with most of the others.
    """
    chosen: list[tuple[str, str]] = []
    pairs = product(COLOUR_NAMES, CATEGORY_NAMES)
    for pair in sorted(pairs, key=lambda pair: hashlib.sha256(" ".join(pair).encode()).hexdigest()):
        uses = max(sum(word in other for other in chosen) for word in pair)
        if uses < _HELD_OUT_PER_WORD and len(chosen) < _HELD_OUT:
            chosen.append(pair)
    return tuple(chosen)


def trained_pairs() -> tuple[tuple[str, str], ...]:
    """The (colour, category) pairs that training sees, colour by colour."""
    held_out = set(held_out_pairs())
    return tuple(pair for pair in product(COLOUR_NAMES, CATEGORY_NAMES) if pair not in held_out)


def _only(words: list[str], vocabulary: tuple[str, ...], kind: str) -> int | None:
    """Index of the one word of a prompt that belongs to a vocabulary, None without one."""
    found = [word for word in words if word in vocabulary]
    if len(found) > 1:
        listed = ", ".join(found)
        raise InvalidInput(
            f"{len(found)} {kind} words ({listed}), expected at most one.", setting="prompt", advice="Keep one of them."
        )
    return vocabulary.index(found[0]) if found else None


def _unknown_words(words: list[str]) -> UnknownWord:
    told = "the word" if len(set(words)) == 1 else "the words"
    everything = f"objects: {', '.join(CATEGORY_NAMES)}; colours: {', '.join(COLOUR_NAMES)}"
    choice = "" if any(map(suggestion, words)) else f" They know {everything}."
    return UnknownWord(
        f"the bundled models do not know {told} {explained(words)}.{choice}",
        setting="prompt",
        advice="Use words that they know, or `preset` gaussiandreamer, whose models know any word.",
    )
