"""Score distillation: one loss per file; a union of their settings is the registry."""

from dreamsplat.guidance.base import AbstractLoss, LossState, guided_denoise
from dreamsplat.guidance.conditions import Conditions, ViewText, describe, every_prompt
from dreamsplat.guidance.csd import CSD
from dreamsplat.guidance.ism import ISM
from dreamsplat.guidance.sds import SDS
from dreamsplat.guidance.sjc import SJC
from dreamsplat.guidance.vsd import VSD

Loss = SDS | SJC | CSD | ISM | VSD
"""Every loss that a config can name."""

__all__ = [
    "CSD",
    "ISM",
    "SDS",
    "SJC",
    "VSD",
    "AbstractLoss",
    "Conditions",
    "Loss",
    "LossState",
    "ViewText",
    "describe",
    "every_prompt",
    "guided_denoise",
]
