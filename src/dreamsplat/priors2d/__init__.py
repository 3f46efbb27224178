"""2D diffusion models that judge renderings; a union of their settings is the registry."""

from dreamsplat.priors2d.base import AbstractImagePrior, AbstractImagePriorSpec, AbstractParticles
from dreamsplat.priors2d.bundled import BundledImagePrior
from dreamsplat.priors2d.perfect import PerfectTeacher
from dreamsplat.priors2d.stable_diffusion import StableDiffusion

ImagePrior = BundledImagePrior | StableDiffusion | PerfectTeacher
"""Every 2D prior that a config can name."""

__all__ = [
    "AbstractImagePrior",
    "AbstractImagePriorSpec",
    "AbstractParticles",
    "BundledImagePrior",
    "ImagePrior",
    "PerfectTeacher",
    "StableDiffusion",
]
