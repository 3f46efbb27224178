"""Colours that depend on the direction: what the bundled preset's learning rates let them learn."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import harmonics  # noqa: E402


def test_with_the_presets_rates_degree_3_learns_a_highlight_that_degree_0_cannot_show() -> None:
    flat, shiny = (
        harmonics.held_out(harmonics.fit(degree, exponent=12, steps=100, count=600, size=32), exponent=12, size=32)
        for degree in (0, 3)
    )
    # 5.8 and 8.3 dB; with the official twentieth of the constant colour's rate 0.7 and 0.8.
    assert shiny[0] > flat[0] + 4 and shiny[1] > flat[1] + 6
