"""3D diffusion models that give the first point cloud; a union of their settings is the registry."""

from dreamsplat.priors3d.base import AbstractCloudPrior, AbstractCloudPriorSpec
from dreamsplat.priors3d.bundled import BundledCloudPrior
from dreamsplat.priors3d.from_file import FromFile
from dreamsplat.priors3d.shap_e import ShapE

CloudPrior = BundledCloudPrior | ShapE | FromFile
"""Every 3D prior that a config can name."""

__all__ = ["AbstractCloudPrior", "AbstractCloudPriorSpec", "BundledCloudPrior", "CloudPrior", "FromFile", "ShapE"]
