"""The categories of the bundled world, and how an object of each is made.

A new category is one maker (a function from `Draw` to parts), one line in `CATEGORIES` and its name in
`language.vocabulary.CATEGORY_NAMES`. The models must then be trained again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from dreamsplat.world.objects.categories import household, outdoors, vehicles
from dreamsplat.world.objects.makers import Draw
from dreamsplat.world.objects.shapes import Part, fitted


@dataclass(frozen=True)
class Category:
    """A kind of object."""

    name: str
    """The noun of its captions."""
    compose: Callable[[Draw], list[Part]]
    """Draws one object: parts in any scale, up +z, front -y."""
    has_front: bool
    """Whether front, side and back look different, so that a view word says something."""

    def build(self, generator: torch.Generator) -> tuple[Part, ...]:
        """One object with its own proportions, centred on the origin, its farthest point 0.92 away."""
        return fitted(self.compose(Draw(generator)))


CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        Category("mushroom", outdoors.mushroom, has_front=False),
        Category("mug", household.mug, has_front=False),
        Category("chair", household.chair, has_front=True),
        Category("table", household.table, has_front=False),
        Category("snowman", outdoors.snowman, has_front=True),
        Category("rocket", vehicles.rocket, has_front=True),
        Category("house", household.house, has_front=True),
        Category("tree", outdoors.tree, has_front=False),
        Category("car", vehicles.car, has_front=True),
        Category("duck", outdoors.duck, has_front=True),
        Category("boat", vehicles.boat, has_front=True),
        Category("teapot", household.teapot, has_front=False),
    )
}
"""All categories by name, in the order of `CATEGORY_NAMES`."""
