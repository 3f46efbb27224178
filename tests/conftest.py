"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from dreamsplat.types import Gaussians


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of randomness."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def random_gaussians(generator: torch.Generator) -> Callable[..., Gaussians]:
    """`random_gaussians(count, sh_degree=0)`: Gaussians in the unit cube around the origin."""

    def make(count: int, sh_degree: int = 0) -> Gaussians:
        def draw(*shape: int) -> torch.Tensor:
            return torch.rand(*shape, generator=generator)

        return Gaussians(
            means=draw(count, 3) - 0.5,
            scales=0.01 + 0.1 * draw(count, 3),
            quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
            opacities=0.05 + 0.9 * draw(count),
            sh=draw(count, (sh_degree + 1) ** 2, 3) - 0.5,
        )

    return make


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """The reference works on small tensors, on which torch's threads wait for each other far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
