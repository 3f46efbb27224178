"""3D diffusion models that give the first point cloud."""

from dreamsplat.priors3d.base import AbstractCloudPrior, AbstractCloudPriorSpec
from dreamsplat.priors3d.bundled import BundledCloudPrior
from dreamsplat.priors3d.from_file import FromFile
from dreamsplat.priors3d.grey_ball import GreyBall
from dreamsplat.priors3d.shap_e import ShapE

__all__ = ["AbstractCloudPrior", "AbstractCloudPriorSpec", "BundledCloudPrior", "FromFile", "GreyBall", "ShapE"]
