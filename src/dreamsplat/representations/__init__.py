"""What is optimised: 3D Gaussians, behind an interface that other representations fit too."""

from dreamsplat.representations.base import AbstractRepresentation, AbstractRepresentationSpec
from dreamsplat.representations.splats import PAPER_RATES, QUICK_SPLATS, DensifyConfig, LearningRates, Lift, Splats

__all__ = [
    "PAPER_RATES",
    "QUICK_SPLATS",
    "AbstractRepresentation",
    "AbstractRepresentationSpec",
    "DensifyConfig",
    "LearningRates",
    "Lift",
    "Splats",
]
