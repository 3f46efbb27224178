"""Growing, colour perturbation and initial Gaussians."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import dreamsplat.method.lift as lift
from dreamsplat.errors import InvalidInput
from dreamsplat.maths.harmonics import sh_to_rgb
from dreamsplat.method.lift import grow_points, initial_scales, perturb_colours, to_gaussians, within_radius
from dreamsplat.types import PointCloud

RADIUS = 0.05


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sphere(count: int = 300, dtype: torch.dtype = torch.float32) -> PointCloud:
    g = seeded(1)
    xyz = torch.randn((count, 3), generator=g, dtype=torch.float64)
    xyz = 0.5 * xyz / xyz.norm(dim=1, keepdim=True)
    return PointCloud(xyz=xyz.to(dtype), rgb=torch.rand((count, 3), generator=g, dtype=torch.float64).to(dtype))


def grow(cloud: PointCloud, seed: int = 0, **options: Any) -> PointCloud:
    return grow_points(cloud, seeded(seed), **({"candidates": 20_000, "radius": RADIUS} | options))


def test_originals_come_last_and_unchanged() -> None:
    cloud = sphere()
    grown = grow(cloud)
    assert len(grown) > 2 * len(cloud)
    assert torch.equal(grown.xyz[-len(cloud) :], cloud.xyz)
    assert torch.equal(grown.rgb[-len(cloud) :], cloud.rgb)


def test_every_grown_point_is_near_its_colour_giver() -> None:
    # In float64, so that the perturbation can be recovered from the colours without rounding to mislead.
    cloud = sphere(dtype=torch.float64)
    grown = grow(cloud)
    new = len(grown) - len(cloud)
    distance, nearest = torch.cdist(grown.xyz[:new], cloud.xyz).min(dim=1)
    added = grown.rgb[:new] - cloud.rgb[nearest]
    assert distance.max() < RADIUS
    assert added.min() >= -1e-12
    assert added.max() < 0.2
    assert torch.allclose(added.mean(dim=0), torch.tensor(0.1, dtype=torch.float64), atol=0.01)
    assert (grown.rgb > 1).any(), "colours must not be clipped"


def test_grown_points_fill_the_shell_evenly() -> None:
    # One point at a corner of the box and one far away: survivors near the corner fill an eighth of a ball.
    cloud = PointCloud(xyz=torch.tensor([[0.0, 0, 0], [1, 1, 1]]), rgb=torch.zeros(2, 3))
    count = len(grow(cloud, candidates=200_000, radius=0.2)) - 2
    expected = 200_000 * 2 * (4 / 3 * torch.pi * 0.2**3) / 8
    assert abs(count - expected) < 4 * expected**0.5  # four standard deviations of a Poisson count


def test_growing_is_equivariant_to_the_world_scale() -> None:
    cloud = sphere()
    small, large = grow(cloud), grow(PointCloud(xyz=cloud.xyz * 4, rgb=cloud.rgb), radius=RADIUS * 4)
    assert torch.equal(small.xyz * 4, large.xyz)  # exact, since 4 is a power of two
    assert torch.equal(small.rgb, large.rgb)


def test_growing_is_determined_by_the_generator() -> None:
    cloud = sphere()
    first, same, other = grow(cloud, seed=5), grow(cloud, seed=5), grow(cloud, seed=6)
    assert torch.equal(first.xyz, same.xyz)
    assert torch.equal(first.rgb, same.rgb)
    assert first.xyz.shape != other.xyz.shape or not torch.equal(first.xyz, other.xyz)


def test_growing_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = grow(sphere())
    monkeypatch.setattr(lift, "_BLOCK", 777)
    blocks = grow(sphere())
    assert torch.equal(whole.xyz, blocks.xyz)
    assert torch.equal(whole.rgb, blocks.rgb)


def test_max_points_keeps_a_subset_of_the_grown_and_all_originals() -> None:
    cloud = sphere()
    full, limited = grow(cloud), grow(cloud, max_points=500)
    assert len(limited) == 500
    assert torch.equal(limited.xyz[200:], cloud.xyz)
    rows = {tuple(row) for row in torch.cat([full.xyz, full.rgb], dim=1).tolist()}
    kept = [tuple(row) for row in torch.cat([limited.xyz, limited.rgb], dim=1)[:200].tolist()]
    assert rows.issuperset(kept)
    assert len(set(kept)) == 200


@pytest.mark.parametrize("max_points", [0, 100, 300])
def test_max_points_never_drops_an_original(max_points: int) -> None:
    cloud = sphere()
    assert torch.equal(grow(cloud, max_points=max_points).xyz, cloud.xyz)


def test_max_points_above_the_count_changes_nothing() -> None:
    assert torch.equal(grow(sphere(), max_points=10**6).xyz, grow(sphere()).xyz)


def test_no_candidates_leave_the_cloud_as_it_is() -> None:
    assert torch.equal(grow(sphere(), candidates=0).xyz, sphere().xyz)


def test_a_cloud_without_extent_does_not_grow() -> None:
    cloud = PointCloud(xyz=torch.ones(3, 3), rgb=torch.rand((3, 3), generator=seeded()))
    assert torch.equal(grow(cloud).xyz, cloud.xyz)


def test_a_flat_cloud_grows_in_its_plane() -> None:
    xyz = torch.rand((50, 3), generator=seeded()) * torch.tensor([1.0, 1.0, 0.0])
    grown = grow(PointCloud(xyz=xyz, rgb=torch.zeros(50, 3)))
    assert len(grown) > 50
    assert torch.equal(grown.xyz[:, 2], torch.zeros(len(grown)))


def test_the_radius_itself_is_outside() -> None:
    near, nearest = within_radius(torch.zeros(1, 3), torch.tensor([[0.5, 0, 0], [0.499, 0, 0]]), 0.5)
    assert near.tolist() == [False, True]
    assert nearest[1] == 0


def test_perturbed_colours_follow_the_dtype() -> None:
    assert perturb_colours(torch.zeros(2, 3, dtype=torch.float64), seeded()).dtype == torch.float64
    assert grow(sphere(dtype=torch.float64)).xyz.dtype == torch.float64


def test_initial_scale_is_the_rms_distance_to_three_neighbours() -> None:
    xyz = torch.rand((60, 3), generator=seeded(), dtype=torch.float64)
    squared = torch.cdist(xyz, xyz).square().sort(dim=1).values[:, 1:4]
    torch.testing.assert_close(initial_scales(xyz), squared.mean(dim=1).sqrt())


@pytest.mark.parametrize(("count", "expected"), [(1, 1e-7**0.5), (2, 2.0), (3, (0.5 * (2**2 + 5**2)) ** 0.5)])
def test_initial_scale_uses_the_neighbours_there_are(count: int, expected: float) -> None:
    xyz = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 5, 0]])[:count]
    torch.testing.assert_close(initial_scales(xyz)[0], torch.tensor(expected))


def test_initial_scale_of_coincident_points_is_the_floor() -> None:
    xyz = torch.cat([torch.zeros(5, 3), torch.ones(1, 3)])
    scales = initial_scales(xyz)
    torch.testing.assert_close(scales[:5], torch.full((5,), 1e-7**0.5))
    torch.testing.assert_close(scales[5], torch.tensor(3**0.5))


def test_initial_scales_are_equivariant_to_the_world_scale() -> None:
    xyz = sphere().xyz
    torch.testing.assert_close(initial_scales(xyz * 1.6), initial_scales(xyz) * 1.6)


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_gaussians_show_the_cloud(sh_degree: int) -> None:
    cloud = sphere(50)
    g = to_gaussians(cloud, sh_degree=sh_degree)
    assert g.sh_degree == sh_degree
    assert torch.equal(g.means, cloud.xyz)
    assert torch.equal(g.scales, initial_scales(cloud.xyz)[:, None].expand(50, 3))
    assert torch.equal(g.quats, torch.tensor([1.0, 0, 0, 0]).expand(50, 4))
    assert torch.equal(g.opacities, torch.full((50,), 0.1))
    torch.testing.assert_close(sh_to_rgb(g.sh[:, 0]), cloud.rgb)
    assert not g.sh[:, 1:].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_clouds_that_cannot_be_lifted_are_refused(bad: float) -> None:
    empty = PointCloud(xyz=torch.zeros(0, 3), rgb=torch.zeros(0, 3))
    broken = PointCloud(xyz=torch.tensor([[0, bad, 0]]), rgb=torch.zeros(1, 3))
    for cloud, words in ((empty, "0 points"), (broken, "NaN or infinite")):
        with pytest.raises(InvalidInput, match=words):
            grow(cloud)
        with pytest.raises(InvalidInput, match=words):
            to_gaussians(cloud)


@pytest.mark.parametrize("options", [{"candidates": -1}, {"radius": 0.0}, {"max_points": -1}, {"colour_jitter": -0.1}])
def test_arguments_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        grow(sphere(), **options)
    with pytest.raises(InvalidInput, match="opacity"):
        to_gaussians(sphere(), opacity=1.5)
    with pytest.raises(InvalidInput, match="sh_degree"):
        to_gaussians(sphere(), sh_degree=4)
