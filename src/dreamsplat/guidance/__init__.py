"""Score distillation: one loss per file; a union of their settings is the registry."""

from dreamsplat.guidance.base import AbstractLoss, Conditions, guided_denoise
from dreamsplat.guidance.sds import SDS
from dreamsplat.guidance.sjc import SJC

Loss = SDS | SJC
"""Every loss that a config can name."""

__all__ = ["SDS", "SJC", "AbstractLoss", "Conditions", "Loss", "guided_denoise"]
