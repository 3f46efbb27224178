"""Penalties on what is rendered, against algebra."""

import math

import pytest
import torch

from dreamsplat.errors import InvalidInput
from dreamsplat.representations import Regularisers
from dreamsplat.representations.regularisers import emptiness, entropy, total_variation


def test_emptiness_is_the_sum_of_log_1_plus_10_w():
    weights = torch.tensor([0.0, 0.1, 0.9])
    assert float(emptiness(weights)) == pytest.approx(math.log(2) + math.log(10))


def test_emptiness_pulls_faint_samples_most():
    weights = torch.tensor([0.001, 0.1, 0.9], requires_grad=True)
    emptiness(weights).backward()
    torch.testing.assert_close(weights.grad, 10 / (1 + 10 * weights.detach()))


def test_entropy_is_a_bit_for_half_opaque_and_nothing_for_opaque_or_empty():
    assert float(entropy(torch.tensor([0.5, 0.5]))) == pytest.approx(2)
    assert float(entropy(torch.tensor([0.0, 1.0]))) < 1e-3
    edge = torch.tensor([0.0, 1.0], requires_grad=True)
    entropy(edge).backward()
    assert bool(edge.grad.isfinite().all())


def test_total_variation_is_the_sum_of_squared_slopes():
    z, y, x = torch.meshgrid(*(torch.arange(4.0),) * 3, indexing="ij")
    grid = torch.stack([x + 2 * y + 3 * z, torch.zeros_like(x)])
    assert float(total_variation(grid)) == 48 * (1 + 4 + 9)


def test_a_penalty_is_per_view_and_its_parts_add_up():
    weights, alpha = torch.rand(50), torch.rand(2, 4, 4)
    both = Regularisers(emptiness=0.3, entropy=0.2).penalty(weights, alpha)
    torch.testing.assert_close(both, (0.3 * emptiness(weights) + 0.2 * entropy(alpha)) / 2)
    assert Regularisers().penalty(weights, alpha) == 0.0


def test_weights_below_zero_are_refused():
    with pytest.raises(InvalidInput, match="expected"):
        Regularisers(emptiness=-1)
