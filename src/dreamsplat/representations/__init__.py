"""What is optimised: 3D Gaussians, or a voxel radiance field, behind one interface that others fit too."""

from dreamsplat.representations.base import AbstractRepresentation, AbstractRepresentationSpec
from dreamsplat.representations.regularisers import Regularisers
from dreamsplat.representations.splats import PAPER_RATES, QUICK_SPLATS, DensifyConfig, LearningRates, Lift, Splats
from dreamsplat.representations.voxel_field import FieldRates, VoxelField

__all__ = [
    "PAPER_RATES",
    "QUICK_SPLATS",
    "AbstractRepresentation",
    "AbstractRepresentationSpec",
    "DensifyConfig",
    "FieldRates",
    "LearningRates",
    "Lift",
    "Regularisers",
    "Splats",
    "VoxelField",
]
