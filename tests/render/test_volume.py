"""Volume rendering: against a naive loop, against Beer and Lambert, and with nothing to see."""

import math

import pytest
import torch
from torch.nn.functional import softplus

from dreamsplat.method.cameras import orbit
from dreamsplat.render import volume
from dreamsplat.render.rays import Rays, pixel_rays
from dreamsplat.render.volume import Samples, composite, march


def packed(counts, generator):
    """Random samples on rays with these numbers of them, in float64."""
    ray = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    distance = torch.cat([torch.rand(n, generator=generator).double().sort().values for n in counts])
    return Samples(ray, distance, torch.zeros(len(ray), 3).double())


def naive(samples, optical_depth, rgb, rays):
    """One sample after another, as the quadrature of NeRF is written (eq. 3)."""
    pictures = []
    for ray in range(len(rays)):
        light, total = torch.ones((), dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
        for i in (samples.ray == ray).nonzero()[:, 0].tolist():
            weight = light * (1 - torch.exp(-optical_depth[i]))
            row = torch.cat([rgb[i], torch.ones(1).double(), (samples.distance[i] * rays.z_per_length[ray])[None]])
            total = total + weight * row
            light = light * torch.exp(-optical_depth[i])
        pictures.append(total)
    return torch.stack(pictures)


def test_packed_samples_add_up_as_in_a_naive_loop_gradients_too():
    generator = torch.Generator().manual_seed(1)
    counts = [0, 3, 1, 0, 17, 5, 0]
    samples, unit = packed(counts, generator), torch.ones(len(counts), 3).double()
    rays = Rays(unit, unit, torch.rand(len(counts), generator=generator).double())
    depth = (2 * torch.rand(sum(counts), generator=generator).double()).requires_grad_()
    rgb = torch.rand(sum(counts), 3, generator=generator).double().requires_grad_()
    colour, alpha, z, weights = composite(samples, depth, rgb, rays)
    got, expected = torch.cat([colour, alpha[:, None], z[:, None]], dim=1), naive(samples, depth, rgb, rays)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights.sum(), alpha.sum())
    push = torch.randn(got.shape, generator=generator).double()
    for a, b in zip(
        torch.autograd.grad((got * push).sum(), (depth, rgb)),
        torch.autograd.grad((expected * push).sum(), (depth, rgb)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_many_samples_lose_no_precision():
    """Before the last ray there is an optical depth of 300,000, which float32 keeps to 0.03 only."""
    rays = Rays(torch.zeros(300_001, 3), torch.zeros(300_001, 3), torch.ones(300_001))
    samples = Samples(torch.arange(300_001), torch.ones(300_001), torch.zeros(300_001, 3))
    _, alpha, _, _ = composite(samples, torch.full((300_001,), 1.0001), torch.ones(300_001, 3), rays)
    torch.testing.assert_close(alpha, torch.full_like(alpha, 1 - math.exp(-1.0001)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("step_voxels", [0.25, 0.5, 1.0])
def test_fog_dims_light_as_beer_and_lambert_say(step_voxels):
    cells, per_voxel = 33, 0.05
    voxel = 2 / (cells - 1)
    rays = Rays(torch.tensor([[0.0, -3, 0]]), torch.tensor([[0.0, 1, 0]]), torch.ones(1))
    samples = march(rays, torch.full((cells,) * 3, per_voxel), 1.0, step_voxels * voxel)
    depth = torch.full((len(samples),), per_voxel * step_voxels)
    _, alpha, _, _ = composite(samples, depth, torch.ones(len(samples), 3), rays)
    assert float(alpha) == pytest.approx(1 - math.exp(-per_voxel * cells), abs=1e-5)


@pytest.fixture(scope="module")
def shells():
    """Optical depths of a ball of hollow shells, -1 where nothing is near."""
    at = torch.linspace(-1, 1, 40)
    z, y, x = torch.meshgrid(at, at, at, indexing="ij")
    radius = (x**2 + y**2 + z**2).sqrt()
    depth = softplus(20 * ((radius - 0.6).abs() < 0.08) - 6.0)
    return torch.where((radius - 0.6).abs() < 0.16, depth, -1)


def seen(depth, samples, rays, voxel, step):
    """Alpha of rays, from the nearest voxel of each sample."""
    index = ((samples.points + 1) / voxel + 0.5).long()
    at = depth.clamp_min(0)[index[:, 2], index[:, 1], index[:, 0]] * (step / voxel)
    return composite(samples, at, torch.ones(len(at), 3), rays)[1]


def test_skipping_empty_voxels_and_dark_ones_changes_nothing_to_be_seen(shells):
    voxel = 2 / 39
    rays = pixel_rays(orbit(3, size=24).cameras)
    few = march(rays, shells, 1.0, voxel)
    bright = torch.where(shells < 0, 0.0, shells)
    filled = torch.full_like(shells, -1)
    taken = (shells >= 0).nonzero()
    filled[tuple(slice(a, b + 1) for a, b in zip(*taken.aminmax(dim=0), strict=True))] = 0.0
    every = march(rays, filled, 1.0, voxel)
    assert len(few) < 0.5 * len(every)
    torch.testing.assert_close(
        seen(bright, few, rays, voxel, voxel), seen(bright, every, rays, voxel, voxel), rtol=0, atol=2e-3
    )


def test_samples_come_ray_after_ray_front_to_back_one_in_each_bin(shells):
    rays = pixel_rays(orbit(2, size=16).cameras)
    step = 3 / 39
    for generator in (None, torch.Generator().manual_seed(0)):
        samples = march(rays, shells, 1.0, step, generator)
        assert len(samples) > 500
        assert bool((samples.ray.diff() >= 0).all())
        same = samples.ray.diff() == 0
        gaps = samples.distance.diff()[same]
        assert float(gaps.min()) > 0
        if generator is None:
            assert float(gaps.min()) == pytest.approx(step, rel=1e-3)
        points = rays.origins[samples.ray] + samples.distance[:, None] * rays.directions[samples.ray]
        torch.testing.assert_close(samples.points, points)


def test_the_same_generator_draws_the_same_places_and_they_fill_their_bins(shells):
    rays = pixel_rays(orbit(2, size=16).cameras)
    first, again = (march(rays, shells, 1.0, 0.1, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.points, again.points)
    middle = march(rays, shells, 1.0, 0.1)
    assert torch.equal(first.ray, middle.ray)
    off = (first.distance - middle.distance) / 0.1
    assert -0.5 <= float(off.min()) < -0.45 and 0.45 < float(off.max()) <= 0.5
    assert abs(float(off.mean())) < 0.02


def test_blocks_of_rays_give_the_samples_of_one_go(shells, monkeypatch):
    rays = pixel_rays(orbit(2, size=16).cameras)
    whole = march(rays, shells, 1.0, 0.05)
    monkeypatch.setattr(volume, "_PAIRS", 100)
    assert torch.equal(march(rays, shells, 1.0, 0.05).points, whole.points)


def test_rays_that_miss_and_an_empty_grid_have_no_samples(shells):
    away = Rays(torch.tensor([[0.0, -3, 0]]), torch.tensor([[0.0, -1, 0]]), torch.ones(1))
    forward = Rays(torch.tensor([[0.0, -3, 0]]), torch.tensor([[0.0, 1, 0]]), torch.ones(1))
    for rays, depth in ((away, shells), (forward, torch.full_like(shells, -1))):
        samples = march(rays, depth, 1.0, 0.05)
        colour, alpha, z, _ = composite(samples, torch.zeros(0), torch.zeros(0, 3), rays)
        assert len(samples) == 0 and not colour.any() and not alpha.any() and not z.any()
