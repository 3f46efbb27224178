"""Measuring assets: scorers, an independent judge of the bundled world, and contracts for what can be added."""

from dreamsplat.evaluate.scorers import AbstractScorer, Looks

__all__ = ["AbstractScorer", "Looks"]
