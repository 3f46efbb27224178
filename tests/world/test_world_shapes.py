"""Primitives measure what they sample, and every category builds objects that keep the promises of the world."""

import math

import pytest
import torch

from dreamsplat.world.language.vocabulary import COLOURS
from dreamsplat.world.objects.categories import CATEGORIES
from dreamsplat.world.objects.makers import star, towards, turned
from dreamsplat.world.objects.primitives import Box, Ellipsoid, Primitive, Torus
from dreamsplat.world.objects.profiles import CappedCone, Extrusion, Lathe
from dreamsplat.world.objects.shapes import Part, nearest_part_colour, shade, signed_distance, surface_points

SQUARE = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
PRIMITIVES: dict[str, Primitive] = {
    "sphere": Ellipsoid((0.5, 0.5, 0.5)),
    "ellipsoid": Ellipsoid((0.3, 0.5, 0.9)),
    "box": Box((0.3, 0.5, 0.7)),
    "rounded box": Box((0.3, 0.5, 0.7), 0.2),
    "ring": Torus(0.6, 0.2),
    "arc": Torus(0.6, 0.2, math.radians(100)),
    "cup": Lathe(((0, 0), (0.5, 0), (0.6, 1), (0.5, 1), (0.4, 0.1), (0, 0.1))),
    "cone": CappedCone((0.1, 0.2, 0), (0.4, -0.3, 0.8), 0.4, 0.0),
    "frustum": CappedCone((0, 0, 0), (0, 0.8, 0.1), 0.4, 0.2),
    "star": Extrusion(star(5, 0.8, 0.4), 0.2),
    "tapered": Extrusion(SQUARE, 0.4, 0.6),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_surface_points_are_at_distance_zero_and_normals_lead_outwards(name: str) -> None:
    primitive = PRIMITIVES[name]
    xyz, normal = primitive.surface(2000, seeded())
    assert xyz.shape == normal.shape == (2000, 3)
    assert primitive.distance(xyz).abs().max() < 1e-4
    torch.testing.assert_close(normal.norm(dim=-1), torch.ones(2000))
    # A step of 1 % along the normal changes the distance by as much, except for steps that cross a corner region.
    assert (primitive.distance(xyz + 0.01 * normal) - 0.01).abs().median() < 1e-3
    assert (primitive.distance(xyz - 0.01 * normal) < 0).float().mean() > 0.98


@pytest.mark.parametrize("name", PRIMITIVES)
def test_surface_points_are_uniform_by_area(name: str) -> None:
    # Independent of the sampler: the volume of a thin shell, counted with uniform points of a box, is area * thickness,
    # and each half of the box must hold the same share of the shell as of the surface points.
    primitive, thickness, generator = PRIMITIVES[name], 0.02, seeded(1)
    points = torch.rand(1_000_000, 3, generator=generator) * 2.2 - 1.1
    shell = points[primitive.distance(points).abs() < thickness / 2]
    area = len(shell) / len(points) * 2.2**3 / thickness
    assert primitive.area() == pytest.approx(area, rel=0.06)
    xyz, _ = primitive.surface(20_000, generator)
    for axis in range(3):
        split = float(xyz[:, axis].mean())
        assert (xyz[:, axis] > split).float().mean() == pytest.approx(
            float((shell[:, axis] > split).float().mean()), abs=0.04
        )


@pytest.mark.parametrize("name", PRIMITIVES)
def test_hull_reaches_as_far_as_the_surface(name: str) -> None:
    primitive = PRIMITIVES[name]
    xyz, _ = primitive.surface(5000, seeded())
    hull = primitive.hull()
    assert (xyz.amax(0) <= hull.amax(0) + 0.02).all() and (xyz.amin(0) >= hull.amin(0) - 0.02).all()
    assert (hull.norm(dim=-1).max() - xyz.norm(dim=-1).max()).abs() < 0.08


def test_distances_known_by_hand() -> None:
    origin = torch.zeros(1, 3, dtype=torch.float64)
    above = torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64)
    assert Box((1, 1, 1)).distance(above).item() == pytest.approx(1)
    assert Ellipsoid((1, 1, 1)).distance(origin).item() == pytest.approx(-1)
    assert Torus(1, 0.25).distance(origin).item() == pytest.approx(0.75)
    assert CappedCone((0, 0, 0), (0, 0, 1), 0.5, 0.5).distance(above).item() == pytest.approx(1)
    assert CappedCone((0, 0, -1), (0, 0, 1), 0.5, 0.5).distance(origin).item() == pytest.approx(-0.5, abs=1e-5)
    assert Extrusion(SQUARE, 0.5).distance(above).dtype == torch.float64


def test_a_part_measures_in_world_units_where_it_stands() -> None:
    part = Part(Box((1, 2, 3)), translation=(1, 0, 0), rotation=turned("z", 90), scale=0.5)
    points = torch.tensor([[1.0, 0.0, 2.0], [1.0, 1.0, 0.0], [2.5, 0.0, 0.0]])
    torch.testing.assert_close(part.distance(points), torch.tensor([0.5, 0.5, 0.5]))
    torch.testing.assert_close(part.to_world(part.to_local(points)), points)


def test_towards_is_a_rotation_that_takes_up_to_the_direction() -> None:
    rotation = towards((1, -2, 0.5))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3))
    assert torch.linalg.det(rotation) == pytest.approx(1)
    torch.testing.assert_close(rotation[:, 2], torch.nn.functional.normalize(torch.tensor([1, -2, 0.5]), dim=0))


def test_points_inside_another_part_are_dropped() -> None:
    parts = [Part(Ellipsoid((1, 1, 1))), Part(Ellipsoid((0.5, 0.5, 0.5)), (1, 0, 0)), Part(Box((2, 0.2, 0.2)))]
    surface = surface_points(parts, 3000, seeded())
    assert surface.xyz.shape == (3000, 3)
    assert signed_distance(parts, surface.xyz).abs().max() < 5e-3
    assert surface.base_rgb.max() == 0


def test_light_never_exceeds_one_and_favours_the_upper_front() -> None:
    normal = torch.nn.functional.normalize(torch.randn(10_000, 3, generator=seeded()), dim=-1)
    assert 0.5 < shade(normal).min() < shade(normal).max() <= 1
    up, front, back, down = shade(torch.tensor([[0.0, 0, 1], [0, -1, 0], [0, 1, 0], [0, 0, -1]]))
    assert up > front > back > down


@pytest.mark.parametrize("name", CATEGORIES)
def test_every_instance_fills_the_unit_ball(name: str) -> None:
    for seed in range(4):
        generator = seeded(seed)
        parts = CATEGORIES[name].build(generator)
        surface = surface_points(parts, 2048, generator)
        assert surface.xyz.shape == (2048, 3)
        assert 0.85 < surface.xyz.norm(dim=-1).max() < 0.96
        assert signed_distance(parts, surface.xyz).abs().max() < 6e-3


@pytest.mark.parametrize("name", CATEGORIES)
def test_colours_are_linear_in_the_caption_colour_and_never_clip(name: str) -> None:
    generator = seeded(3)
    surface = surface_points(CATEGORIES[name].build(generator), 2048, generator)
    for rgb in COLOURS.values():
        colours = surface.colours(torch.tensor(rgb))
        assert colours.min() >= 0 and colours.max() <= 1
    assert ((surface.base_rgb.amax(-1) == 0) | (surface.main_shade == 0)).all()


# The six sides from which an object is looked at along an axis, and the least share of its points that the
# caption's colour must hold there: enough to name the colour at a glance. From above a snowman shows mostly its hat.
SIDES = {"front": (1, -1), "back": (1, 1), "right": (0, 1), "left": (0, -1), "top": (2, 1)}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", CATEGORIES)
def test_the_caption_colour_shows_from_every_side(name: str, side: str) -> None:
    axis, sign = SIDES[side]
    generator = seeded(5)
    surface = surface_points(CATEGORIES[name].build(generator), 4096, generator)
    towards_viewer = (surface.normal[:, axis] * sign).clamp_min(0)
    share = (towards_viewer * (surface.main_shade > 0)).sum() / towards_viewer.sum()
    assert share > 0.3


@pytest.mark.parametrize("name", CATEGORIES)
def test_an_instance_follows_from_its_seed_and_instances_differ(name: str) -> None:
    def points(seed: int) -> torch.Tensor:
        return torch.cat([part.to_world(part.primitive.hull()) for part in CATEGORIES[name].build(seeded(seed))])

    assert torch.equal(points(1), points(1))
    assert not torch.allclose(points(1), points(2), atol=1e-3)


def picture(name: str, sign: float) -> torch.Tensor:
    """What an object looks like from (0, sign, 0): mean unlit colour and depth of the nearest points, [144, 4]."""
    surface = surface_points(CATEGORIES[name].build(seeded(2)), 8192, seeded(2))
    light = shade(surface.normal)[:, None]
    colour = (surface.base_rgb + surface.main_shade[:, None] * torch.tensor([0.9, 0.1, 0.8])) / light
    x, z = ((surface.xyz[:, [0, 2]] * torch.tensor([-sign, 1.0]) + 1) * 6).long().unbind(-1)
    cell, depth = x * 12 + z, -sign * surface.xyz[:, 1]
    nearest = torch.full((144,), 2.0).scatter_reduce(0, cell, depth, "amin")
    seen = depth < nearest[cell] + 0.06
    total = torch.zeros(144, 4).index_add(0, cell[seen], torch.cat([colour, depth[:, None]], -1)[seen])
    return total / torch.bincount(cell[seen], minlength=144).clamp_min(1)[:, None]


def test_things_with_a_front_look_different_from_behind() -> None:
    differences = {name: float((picture(name, -1) - picture(name, 1)).abs().mean()) for name in CATEGORIES}
    # A table is the same from both sides: what it shows is the noise of this measure.
    assert differences["table"] < 0.003
    for name, category in CATEGORIES.items():
        assert not category.has_front or differences[name] > 0.01, name


def test_nearest_colour_agrees_with_the_surface() -> None:
    parts = CATEGORIES["duck"].build(seeded())
    surface = surface_points(parts, 2048, seeded())
    base_rgb, main_shade = nearest_part_colour(parts, surface.xyz.reshape(2, 1024, 3))
    assert base_rgb.shape == (2, 1024, 3) and main_shade.shape == (2, 1024)
    agree = (base_rgb.reshape(-1, 3) - surface.base_rgb).abs().amax(-1) < 0.02
    agree &= (main_shade.reshape(-1) - surface.main_shade).abs() < 0.02
    assert agree.float().mean() > 0.95
