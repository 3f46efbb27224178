"""The closed vocabulary of the bundled world. Its order is part of the weights: they know words by their index."""

from __future__ import annotations

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
