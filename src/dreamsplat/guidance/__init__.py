"""Score distillation: one loss per file."""

from dreamsplat.guidance.base import AbstractLoss, LossState, guided_denoise
from dreamsplat.guidance.conditions import Conditions, ViewText, describe, every_prompt
from dreamsplat.guidance.csd import CSD
from dreamsplat.guidance.ism import ISM
from dreamsplat.guidance.sds import SDS
from dreamsplat.guidance.sjc import SJC
from dreamsplat.guidance.vsd import VSD

__all__ = [
    "CSD",
    "ISM",
    "SDS",
    "SJC",
    "VSD",
    "AbstractLoss",
    "Conditions",
    "LossState",
    "ViewText",
    "describe",
    "every_prompt",
    "guided_denoise",
]
