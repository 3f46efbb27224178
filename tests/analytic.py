"""The 2D prior in closed form, for tests of the losses and of whole runs."""

from dreamsplat.evaluate.closed_form import GaussianDenoiser, GaussianPrior

__all__ = ["GaussianDenoiser", "GaussianPrior"]
