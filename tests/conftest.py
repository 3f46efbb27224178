"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from dreamsplat.render.selftest import scene
from dreamsplat.types import Gaussians


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of randomness."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def random_gaussians(generator: torch.Generator) -> Callable[..., Gaussians]:
    """`random_gaussians(count, sh_degree=0)`: Gaussians in the unit cube around the origin."""

    def make(count: int, sh_degree: int = 0) -> Gaussians:
        made = scene(count, sh_degree, spread=0.5, scale=(0.01, 0.11), sh=(-0.5, 0.5), generator=generator)
        return replace(made, quats=torch.nn.functional.normalize(made.quats, dim=-1))

    return make


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """The reference works on small tensors, on which torch's threads wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
