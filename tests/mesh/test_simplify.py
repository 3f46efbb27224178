"""Fewer triangles: no more than asked for, still closed, still the same shape."""

import numpy as np
import pytest
from skins import RADIUS, skin

from dreamsplat.assets import join
from dreamsplat.mesh.settings import SurfaceSettings
from dreamsplat.mesh.simplify import outer_parts, simplified
from dreamsplat.mesh.surface import extract_surface

pytest.importorskip("fast_simplification", reason="fast-simplification is not installed")
trimesh = pytest.importorskip("trimesh")


@pytest.fixture(scope="module")
def pair():
    """Two balls that touch over a few voxels: the place that collapsing edges pinches."""
    balls = join(skin(centre=(-RADIUS - 0.045, 0.0, 0.0)), skin(centre=(RADIUS + 0.045, 0.0, 0.0)))
    return extract_surface(balls, SurfaceSettings(resolution=96))


@pytest.mark.parametrize("most", [100, 1000, 5000])
def test_no_more_triangles_than_asked_for_and_still_closed(pair, most):
    vertices, faces = simplified(*pair, most)
    assert 0.5 * most < len(faces) <= most
    found = trimesh.Trimesh(vertices, faces, process=False)
    assert found.is_watertight and found.is_winding_consistent
    assert found.volume == pytest.approx(trimesh.Trimesh(*pair, process=False).volume, rel=20 / most)


def test_a_mesh_of_few_triangles_stays_as_it_is(pair):
    vertices, faces = simplified(*pair, len(pair[1]))
    assert vertices is pair[0] and faces is pair[1]


def test_far_from_the_origin_nothing_gets_coarser(pair):
    offset = [1e6, -1e6, 5e5]
    near = trimesh.Trimesh(*simplified(*pair, 2000), process=False)
    vertices, faces = simplified(pair[0] + offset, pair[1], 2000)
    far = trimesh.Trimesh(vertices - offset, faces, process=False)
    assert far.is_watertight and far.volume == pytest.approx(near.volume, rel=1e-4)
    np.testing.assert_allclose(far.bounds, near.bounds, atol=1e-3)


def test_the_wall_of_a_cavity_and_splinters_go():
    ball = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
    cavity = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    cavity.invert()
    splinter = trimesh.creation.icosphere(subdivisions=1, radius=0.02)
    splinter.apply_translation([2.0, 0, 0])
    whole = trimesh.util.concatenate([ball, cavity, splinter])
    vertices, faces = outer_parts(np.asarray(whole.vertices), np.asarray(whole.faces))
    found = trimesh.Trimesh(vertices, faces, process=False)
    assert found.is_watertight and found.body_count == 1
    assert found.volume == pytest.approx(ball.volume, rel=1e-6)


def test_four_triangles_at_an_edge_are_parted():
    """Two tetrahedra that share an edge: none of their edges has four triangles afterwards."""
    shared = [[0.0, 0, -1], [0, 0, 1]]
    vertices = np.array([*shared, [1, 0.5, 0], [1, -0.5, 0], [-1, 0.5, 0], [-1, -0.5, 0]])
    right = [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]
    left = [[0, 4, 1], [0, 1, 5], [0, 5, 4], [1, 4, 5]]
    faces = np.array(right + left)
    assert not trimesh.Trimesh(vertices, faces, process=False).is_watertight
    parted = trimesh.Trimesh(*outer_parts(vertices, faces), process=False)
    assert parted.is_watertight and parted.volume == pytest.approx(2 * trimesh.Trimesh(vertices, right).volume)
