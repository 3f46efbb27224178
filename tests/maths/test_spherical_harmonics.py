"""The basis of colours by direction: order, signs and normalisation."""

from math import pi, sqrt

import numpy
import pytest
import torch

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.harmonics import DC, rgb_to_sh, sh_basis, sh_to_rgb

F64 = torch.float64


def test_degree_one_coefficients_are_of_minus_y_plus_z_minus_x() -> None:
    basis = sh_basis(torch.eye(3, dtype=F64), degree=1)  # Along +x, +y, +z.
    c = sqrt(3 / (4 * pi))
    expected = torch.tensor([[DC, 0, 0, -c], [DC, -c, 0, 0], [DC, 0, c, 0]], dtype=F64)
    torch.testing.assert_close(basis, expected)


def test_basis_is_orthonormal_on_the_sphere() -> None:
    # Products have degree 6: 4 Gauss-Legendre nodes in z and 7 equal steps around integrate them exactly.
    nodes, node_weights = (torch.from_numpy(a) for a in numpy.polynomial.legendre.leggauss(4))
    z, turn = torch.meshgrid(nodes, 2 * pi / 7 * torch.arange(7, dtype=F64), indexing="ij")
    across = (1 - z * z).sqrt()
    basis = sh_basis(torch.stack([across * turn.cos(), across * turn.sin(), z], dim=-1), degree=3)  # [4, 7, 16]
    products = torch.einsum("z,zti,ztj->ij", node_weights * 2 * pi / 7, basis, basis)
    torch.testing.assert_close(products, torch.eye(16, dtype=F64))


def test_rgb_and_degree_zero_coefficients_convert_both_ways() -> None:
    rgb = torch.rand(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sh_to_rgb(rgb_to_sh(rgb)), rgb)
    torch.testing.assert_close(sh_to_rgb(torch.zeros(3)), torch.full((3,), 0.5))


def test_unknown_degree_is_refused() -> None:
    with pytest.raises(InvalidInput, match="degree 4, expected 0, 1, 2 or 3"):
        sh_basis(torch.eye(3), degree=4)
