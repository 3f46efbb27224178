"""The word that says what a camera sees, at every border of the rule."""

import pytest
import torch

from dreamsplat.method.cameras import make_views
from dreamsplat.method.prompts import NEGATIVE_PROMPT, view_prompts, view_word


@pytest.mark.parametrize(
    ("azimuth_deg", "word"),
    [
        (0, "front"), (44.9, "front"), (-44.9, "front"),
        (45, "side"), (-45, "side"), (90, "side"), (-90, "side"), (135, "side"), (-135, "side"),
        (135.1, "back"), (-135.1, "back"), (180, "back"), (-180, "back"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turns", [-2, 0, 1])
def test_word_follows_the_wrapped_azimuth(azimuth_deg: float, word: str, turns: int) -> None:
    assert view_word(azimuth_deg + 360 * turns, 0) == word


@pytest.mark.parametrize("azimuth_deg", [0, 90, 180])
def test_overhead_starts_above_sixty_degrees_and_overrides(azimuth_deg: float) -> None:
    assert view_word(azimuth_deg, 60.1) == "overhead"
    assert view_word(azimuth_deg, 60) != "overhead"
    assert view_word(azimuth_deg, -80) != "overhead"


def test_each_view_gets_the_prompt_with_its_word() -> None:
    azimuth, elevation = torch.tensor([0.0, 100.0, 179.0, 10.0]), torch.tensor([0.0, 10.0, 20.0, 80.0])
    views = make_views(azimuth, elevation, torch.full((4,), 2.0), torch.full((4,), 50.0), width=4, height=4)
    assert view_prompts("a corgi", views) == [
        "a corgi, front view", "a corgi, side view", "a corgi, back view", "a corgi, overhead view",
    ]  # fmt: skip


def test_negative_prompt_has_the_papers_twenty_terms() -> None:
    terms = NEGATIVE_PROMPT.split(", ")
    assert (len(terms), terms[0], terms[3], terms[-1]) == (20, "ugly", "pixelated obscure", "unfocused")
    assert all(term == term.strip(" ,") and term for term in terms)
