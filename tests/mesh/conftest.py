"""A sphere in two colours and its mesh."""

import dataclasses

import pytest
import torch
from skins import BLUE, COARSE, RED, skin

from dreamsplat.maths.harmonics import rgb_to_sh
from dreamsplat.mesh import Mesh, mesh_of
from dreamsplat.types import Gaussians


@pytest.fixture(scope="session")
def halves() -> Gaussians:
    """A sphere that is red where x < 0 and blue elsewhere."""
    sphere = skin()
    return dataclasses.replace(sphere, sh=rgb_to_sh(torch.where(sphere.means[:, :1] < 0, RED, BLUE))[:, None])


@pytest.fixture(scope="session")
def mesh(halves) -> Mesh:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    return mesh_of(halves, COARSE)
