"""2D diffusion models that judge renderings."""

from dreamsplat.priors2d.base import AbstractImagePrior, AbstractImagePriorSpec, AbstractSecondNetwork
from dreamsplat.priors2d.bundled import BundledImagePrior
from dreamsplat.priors2d.perfect import PerfectTeacher
from dreamsplat.priors2d.stable_diffusion import StableDiffusion

__all__ = [
    "AbstractImagePrior",
    "AbstractImagePriorSpec",
    "AbstractSecondNetwork",
    "BundledImagePrior",
    "PerfectTeacher",
    "StableDiffusion",
]
