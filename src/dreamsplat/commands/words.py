"""`dreamsplat words`: what the bundled models know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamsplat.commands.flags import parse_flags


@dataclass(frozen=True)
class Words:
    """List what the bundled models know: the words of a prompt, and the pairs that they were never shown."""


def words(arguments: Sequence[str]) -> int:
    """`dreamsplat words`: print the vocabulary of the bundled models and two example prompts."""
    parse_flags(Words, arguments, "words")
    from dreamsplat.world.language.captions import caption, held_out_pairs, known_words, trained_pairs
    from dreamsplat.world.language.vocabulary import CATEGORY_NAMES, COLOUR_NAMES, VIEW_WORDS

    named = {"colours": COLOUR_NAMES, "objects": CATEGORY_NAMES, "views": VIEW_WORDS}
    spoken = {word for group in named.values() for word in group}
    named["other words"] = tuple(word for word in known_words() if word not in spoken)
    for title, group in named.items():
        print(f"{title} ({len(group)}): {', '.join(group)}")
    held_out = [caption(*pair) for pair in held_out_pairs()]
    print(f"never shown in training ({len(held_out)}): {', '.join(held_out)}")
    for prompt in (caption(*trained_pairs()[0]), held_out[0]):
        print(f'try: dreamsplat generate "{prompt}" --out {prompt.split()[-1]}')
    return 0
