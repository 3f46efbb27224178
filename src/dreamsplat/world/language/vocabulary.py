"""The closed vocabulary of the bundled world. Its order is part of the weights: they know words by their index."""

import json
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

from dreamsplat.errors import FileProblem

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.13, 0.14),
    "orange": (0.97, 0.55, 0.10),
    "yellow": (0.97, 0.86, 0.22),
    "green": (0.20, 0.64, 0.24),
    "cyan": (0.25, 0.80, 0.84),
    "blue": (0.15, 0.31, 0.85),
    "purple": (0.52, 0.20, 0.72),
    "pink": (0.98, 0.56, 0.74),
    "white": (0.95, 0.95, 0.95),
    "black": (0.09, 0.09, 0.10),
}
"""Display colours in [0, 1] by name; their order gives the colour index of a caption."""

COLOUR_NAMES: tuple[str, ...] = tuple(COLOURS)
"""In the order of a caption's colour index."""

CATEGORY_NAMES: tuple[str, ...] = (
    "mushroom", "mug", "chair", "table", "snowman", "rocket", "house", "tree", "car", "duck", "boat", "teapot",
)  # fmt: skip
"""In the order of a caption's category index; `objects.categories.CATEGORIES` says how each is made."""

VIEW_WORDS: tuple[str, ...] = ("front", "side", "back", "overhead")
"""The view words of prompts; their order gives the view index of a caption."""

VOCABULARY: dict[str, tuple[str, ...]] = {"colours": COLOUR_NAMES, "categories": CATEGORY_NAMES, "views": VIEW_WORDS}
"""All of it, as the header of a weights file holds it."""


def vocabulary_header() -> dict[str, str]:
    """What the header of a weights file says about the words that its indices stand for."""
    return {"vocabulary": json.dumps(VOCABULARY)}


def check_vocabulary(path: Path, header: Mapping[str, str]) -> None:
    """Refuse weights whose indices stand for other words than this version's.

    Raises:
        FileProblem: naming the file and the first word that differs, or saying that the header names none.
    """
    again = "Train the model again with this version."
    if "vocabulary" not in header:
        raise FileProblem(f"{path}: its header does not say which words the model was trained on.", advice=again)
    try:
        trained_on = {kind: list(words) for kind, words in json.loads(header["vocabulary"]).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise FileProblem(f"{path}: the vocabulary in its header cannot be read ({error}).", advice=again) from error
    for kind, known in VOCABULARY.items():
        pairs = enumerate(zip_longest(trained_on.get(kind, []), known), start=1)
        for number, (theirs, ours) in pairs:
            if theirs != ours:
                found, expected = (f"'{word}'" if word is not None else "missing" for word in (theirs, ours))
                raise FileProblem(
                    f"{path}: trained on other words: number {number} of its {kind} is {found}, expected {expected}.",
                    advice=again,
                )
