"""Colour as a function of direction: real spherical harmonics, in the order and with the signs of 3DGS files.

The basis is that of Kerbl et al. 2023 (and so of every Gaussian .ply): within degree 1 the coefficients are those of
-y, +z, -x. The constants are the usual normalisation, written in closed form.
"""

from math import pi, sqrt

import torch
from torch import Tensor

from dreamsplat.errors import InvalidInput

DC = sqrt(1 / (4 * pi))
"""Value of the constant basis function (degree 0), 0.2820948."""


def rgb_to_sh(rgb: Tensor) -> Tensor:
    """Degree-0 coefficients [..., 3] that show colours [..., 3] from every direction; inverse of `sh_to_rgb`."""
    return (rgb - 0.5) / DC


def sh_to_rgb(sh: Tensor) -> Tensor:
    """The colours [..., 3] that degree-0 coefficients [..., 3] show, not clamped; inverse of `rgb_to_sh`."""
    return 0.5 + DC * sh


def sh_basis(
    directions: Tensor,  # [..., 3] unit length, from the camera to the Gaussian, world axes
    degree: int,
) -> Tensor:
    """Values [..., K] of the K = (degree + 1)^2 basis functions in each direction.

    Raises:
        InvalidInput: if the degree is not 0, 1, 2 or 3.
    """
    if degree not in (0, 1, 2, 3):
        raise InvalidInput(f"sh_basis: degree {degree}, expected 0, 1, 2 or 3.")
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, DC)]
    if degree >= 1:
        c = sqrt(3 / (4 * pi))
        basis += [-c * y, c * z, -c * x]
    if degree >= 2:
        c = sqrt(15 / (4 * pi))
        basis += [
            c * x * y,
            -c * y * z,
            sqrt(5 / (16 * pi)) * (2 * z * z - x * x - y * y),
            -c * x * z,
            c / 2 * (x * x - y * y),
        ]
    if degree >= 3:
        c1, c2, c3 = sqrt(21 / (32 * pi)), sqrt(105 / (4 * pi)), sqrt(35 / (32 * pi))
        basis += [
            -c3 * y * (3 * x * x - y * y),
            c2 * x * y * z,
            -c1 * y * (4 * z * z - x * x - y * y),
            sqrt(7 / (16 * pi)) * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -c1 * x * (4 * z * z - x * x - y * y),
            c2 / 2 * z * (x * x - y * y),
            -c3 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(basis, dim=-1)
