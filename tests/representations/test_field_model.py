"""A voxel field while it is optimised: its start, its penalties, its refinement, its limits."""

import dataclasses

import pytest
import torch

from dreamsplat.assets import draw_points, render_asset
from dreamsplat.config import DreamConfig
from dreamsplat.errors import Diverged, InvalidInput
from dreamsplat.method.cameras import orbit
from dreamsplat.representations import Regularisers, VoxelField
from dreamsplat.representations.field_model import FieldModel
from dreamsplat.representations.field_start import field_from_cloud
from dreamsplat.types import PointCloud

BLACK = torch.zeros(3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def cloud():
    """An ellipsoid of points, red on the right."""
    outward = torch.nn.functional.normalize(torch.randn(4000, 3, generator=seeded()), dim=1)
    xyz = outward * torch.tensor([0.7, 0.4, 0.5])
    return PointCloud(xyz, torch.where(xyz[:, :1] > 0, torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.1, 0.9])))


def pull(model, level=0.8, generator=None):
    """One step towards grey pictures."""
    image = model.render(orbit(2, size=24).cameras, BLACK, generator or seeded(1))
    ((image.rgb - level).square().sum() + model.penalty()).backward()
    model.adapt(1, seeded())
    model.update()
    return image


def test_the_first_field_has_the_outline_and_the_colours_of_the_cloud(cloud):
    cameras = orbit(6, size=64).cameras
    image = render_asset(field_from_cloud(VoxelField(), cloud), cameras, (0, 0, 0))
    points = draw_points(cloud, cameras)
    there, expected = image.alpha > 0.5, (points - 0.86).abs().amax(dim=-1) > 0.05
    assert float((there & expected).sum() / (there | expected).sum()) > 0.85
    front = image.rgb[0] / image.alpha[0, ..., None]
    assert float(front[32, 45, 0]) > 0.8 and float(front[32, 19, 2]) > 0.8


@pytest.mark.parametrize("count", [1, 40])
def test_points_in_one_place_become_a_dot(count):
    dot = PointCloud(torch.full((count, 3), 0.25), torch.full((count, 3), 0.7))
    field = field_from_cloud(VoxelField(cells=16), dot)
    assert bool(field.grid.isfinite().all())
    assert 1 <= int((field.depth_of_voxels() >= 0).sum()) < 300


def test_points_outside_the_cube_are_cut_off_and_none_inside_is_refused(cloud):
    far = dataclasses.replace(cloud, xyz=cloud.xyz + torch.tensor([0.6, 0, 0]))
    assert bool(field_from_cloud(VoxelField(cells=24), far).grid.isfinite().all())
    with pytest.raises(InvalidInput, match="none of 4,000 points") as caught:
        field_from_cloud(VoxelField(cells=24), dataclasses.replace(cloud, xyz=cloud.xyz + 9))
    assert caught.value.setting == "representation.extent"


def test_a_colour_that_is_not_finite_spoils_no_voxel_and_doubles_are_taken(cloud):
    rgb = cloud.rgb.double()
    rgb[7] = torch.nan
    field = field_from_cloud(VoxelField(cells=16), PointCloud(cloud.xyz.double(), rgb))
    assert field.grid.dtype == torch.float32 and bool(field.grid.isfinite().all())


def test_a_ball_grows_towards_pictures_that_are_larger(cloud):
    """What is empty at first is found by the next search for voxels that are not."""
    small = dataclasses.replace(cloud, xyz=0.3 * cloud.xyz)
    model = VoxelField(cells=24, occupancy_every=2).start(small, seeded())
    before = model.metrics()["voxels"]
    for _ in range(30):
        pull(model)
    assert model.metrics()["voxels"] > 1.5 * before


def test_emptiness_thins_a_field_out_and_entropy_decides_it(cloud):
    alpha = {}
    for name, regularisers in (
        ("none", Regularisers()), ("emptiness", Regularisers(emptiness=5.0)), ("entropy", Regularisers(entropy=5.0)),
    ):  # fmt: skip
        model = VoxelField(cells=24, start_alpha=0.1, regularisers=regularisers).start(cloud, seeded())
        for _ in range(15):
            alpha[name] = pull(model, level=0.3).alpha.detach()
    assert float(alpha["emptiness"].mean()) < 0.8 * float(alpha["none"].mean())

    def undecided(a):
        return float(((a > 0.1) & (a < 0.9)).float().mean())

    assert undecided(alpha["entropy"]) < 0.7 * undecided(alpha["none"])


def test_total_variation_smooths(cloud):
    rough = {}
    for weight in (0.0, 1.0):
        model = VoxelField(cells=16, total_variation=weight).start(cloud, seeded())
        for _ in range(10):
            pull(model)
        rough[weight] = float(model.leaves["colour"].detach().diff(dim=1).square().mean())
    assert rough[1.0] < 0.7 * rough[0.0]


def test_the_grid_is_refined_when_it_is_due(cloud):
    spec = VoxelField(cells=33, refine_at=(3, 5))
    model = spec.start(cloud, seeded())
    sizes = []
    for step in range(7):
        image = model.render(orbit(2, size=24).cameras, BLACK, seeded())
        (image.rgb - 0.5).square().sum().backward()
        model.adapt(step, seeded())
        model.update()
        sizes.append(model.leaves["density"].shape[1])
    assert sizes == [9, 9, 9, 17, 17, 33, 33]
    assert spec.first_cells == 9


def test_a_restored_field_goes_on_between_two_searches_for_empty_voxels(cloud):
    spec = VoxelField(cells=20, occupancy_every=4)
    model, rng = spec.start(cloud, seeded()), seeded(7)
    for _ in range(6):
        pull(model, generator=rng)
    state, position = {k: v.clone() for k, v in model.state_tensors().items()}, rng.get_state()
    for _ in range(5):
        pull(model, generator=rng)
    again = spec.restore(state)
    rng.set_state(position)
    for _ in range(5):
        pull(again, generator=rng)
    expected = model.state_tensors()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_tensors().items())


@pytest.mark.parametrize("frozen", ["density", "colour"])
def test_a_rate_of_zero_freezes_a_leaf(cloud, frozen):
    spec = VoxelField(cells=16)
    spec = dataclasses.replace(spec, rates=dataclasses.replace(spec.rates, **{frozen: 0.0}))
    model = spec.start(cloud, seeded())
    before = {name: leaf.detach().clone() for name, leaf in model.leaves.items()}
    pull(model)
    changed = {name for name, leaf in model.leaves.items() if not torch.equal(leaf, before[name])}
    assert changed == {"density", "colour"} - {frozen}


def test_a_number_that_is_not_finite_is_a_divergence(cloud):
    model = VoxelField(cells=16).start(cloud, seeded())
    model.leaves["density"].data[0, 0, 0, 0] = torch.inf
    with pytest.raises(Diverged, match="density"):
        model.check(3)


def test_rendering_twice_without_an_update_leaves_no_trace(cloud):
    """As a step does that ran out of memory and is repeated with fewer views."""
    model, other = (VoxelField(cells=16).start(cloud, seeded()) for _ in range(2))
    model.render(orbit(4, size=24).cameras, BLACK, seeded(9))
    for one in (model, other):
        pull(one)
    assert torch.equal(model.leaves["density"], other.leaves["density"])


def test_sizes_that_would_take_gigabytes_are_refused_or_warned_of(caplog):
    spec = VoxelField(cells=128)
    config = DreamConfig("a red mushroom", representation=spec, render_size=128)
    spec.check(config)
    assert not caplog.records
    spec.check(dataclasses.replace(config, render_size=512))
    assert "GB of memory" in caplog.text
    with pytest.raises(InvalidInput, match=r"would take about \d+ GB") as caught:
        spec.check(dataclasses.replace(config, render_size=1024))
    assert caught.value.setting == "representation.cells"


@pytest.mark.parametrize(
    "change", [{"cells": 4}, {"cells": 1000}, {"extent": 0.0}, {"start_alpha": 1.0}, {"refine_at": (1, 2, 3, 4)}]
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(InvalidInput, match="expected"):
        VoxelField(**change)


def test_a_field_model_says_what_its_state_lacks():
    with pytest.raises(InvalidInput, match="expected that of a voxel field"):
        FieldModel.from_state_tensors(VoxelField(), {"means": torch.zeros(1)})
