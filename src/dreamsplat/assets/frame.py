"""Turning an object as a whole, including its colours by direction, and the frames of reference of files.

Our world is right-handed with +z up and an object's front towards -y. A format whose standard names other axes is
written through `rotated`; the two rotations below are proper, so nothing is mirrored.
"""

from dataclasses import replace
from math import cos, inf, isfinite, pi, radians, sin

import numpy as np
import torch
from torch import Tensor

from dreamsplat.assets.gaussians import Splats
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.harmonics import sh_basis
from dreamsplat.maths.rotations import quats_from_rotation, rotation_from_quats
from dreamsplat.types import PointCloud, check_shapes

Z_UP_TO_Y_UP = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)
"""[3, 3] our world -> +y up, front +z, +x unchanged: glTF, three.js, and what the SPZ authors call RUB."""
Z_UP_TO_Y_DOWN = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
"""[3, 3] our world -> +y down, front -z, +x unchanged: OpenCV axes of a camera in front of the object, which most splat
viewers assume. It is `Z_UP_TO_Y_UP` after half a turn about x, the turn that those viewers apply."""


def rotated(
    splats: Splats,
    rotation: Tensor,  # [3, 3] proper rotation, old world -> new world
) -> Splats:
    """The same Gaussians or points in turned axes: a camera that turns with them sees the same picture.

    Raises:
        InvalidInput: if the matrix is not a proper rotation.
    """
    check_shapes(rotation=(rotation, "3 3"))
    turn = rotation.detach().double().cpu()
    if not torch.allclose(turn @ turn.mT, torch.eye(3, dtype=turn.dtype), atol=1e-5) or torch.linalg.det(turn) < 0:
        raise InvalidInput(f"rotation: {turn.tolist()} is not a proper rotation; expected R R^T = 1 and det R = 1.")
    if isinstance(splats, PointCloud):
        return replace(splats, xyz=splats.xyz @ turn.mT.to(splats.xyz))
    colours = sh_rotation(turn, splats.sh_degree)
    return replace(
        splats,
        means=splats.means @ turn.mT.to(splats.means),
        quats=splats.quats @ _left_product(quats_from_rotation(turn)).mT.to(splats.quats),
        sh=torch.einsum("jk,nkc->njc", colours.to(splats.sh), splats.sh),
    )


def turned(splats: Splats, angle_deg: float, axis: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> Splats:
    """The same Gaussians or points, turned about a line through the origin.

    Args:
        splats: what to turn.
        angle_deg: how far, counter-clockwise when the axis points at the viewer.
        axis: direction of the line, of any length but 0; vertical by default.

    Raises:
        InvalidInput: if the angle is not finite, or the axis has no direction.
    """
    direction = torch.tensor(axis, dtype=torch.float64)
    length = float(direction.norm())
    if not (isfinite(angle_deg) and 0 < length < inf):
        raise InvalidInput(f"turned: {angle_deg} degrees about {axis}, expected finite numbers and an axis not 0 0 0.")
    half = radians(angle_deg) / 2
    return rotated(splats, rotation_from_quats(torch.tensor([cos(half), *(sin(half) / length * direction).tolist()])))


def sh_rotation(
    rotation: Tensor,  # [3, 3] float64, on the CPU
    degree: int,  # 0 to 3
) -> Tensor:
    """The matrix [K, K] that rotates spherical-harmonic coefficients: sh_new = M sh_old, float64.

    A rotated object shows towards d what the old one showed towards R^T d. As the basis is orthonormal,
    M_jk = integral of basis_j(d) basis_k(R^T d) over the sphere. The integrand is a polynomial of degree at most
    2 * `degree`; 4 Gauss-Legendre nodes in z and 7 equal steps around integrate degree 6 exactly.
    """
    nodes, node_weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(4))
    around = torch.arange(7, dtype=torch.float64) * (2 * pi / 7)
    z, angle = torch.meshgrid(nodes, around, indexing="ij")
    across = (1 - z * z).sqrt()
    directions = torch.stack([across * angle.cos(), across * angle.sin(), z], dim=-1).reshape(-1, 3)  # [28, 3]
    weights = (node_weights[:, None] * (2 * pi / 7)).expand_as(z).reshape(-1)
    new, old = sh_basis(directions, degree), sh_basis(directions @ rotation, degree)  # Rows: R^T d = d R.
    matrix = torch.einsum("p,pj,pk->jk", weights, new, old)
    degrees = torch.tensor([int(k**0.5) for k in range(len(matrix))])
    return matrix * (degrees[:, None] == degrees)  # Degrees do not mix; anything there is rounding.


def _left_product(quat: Tensor) -> Tensor:
    """The matrix [4, 4] with `quat * q = matrix @ q`, the product of quaternions [4] (w, x, y, z)."""
    w, x, y, z = quat.tolist()
    return quat.new_tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])
