"""Meshes: closed surfaces of the right size and colour, and files that others read."""

from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skins import BLUE, COARSE, RADIUS, RED, skin

from dreamsplat.assets import join
from dreamsplat.assets.gaussians import rows
from dreamsplat.errors import InvalidInput, MissingDependency
from dreamsplat.maths.rotations import covariances
from dreamsplat.mesh import BakeSettings, MeshSettings, SurfaceSettings, mesh_of
from dreamsplat.mesh.bake import bake_colours
from dreamsplat.mesh.cameras import cameras_around
from dreamsplat.mesh.density import MIN_ALPHA, bounds, density_on, grid_over
from dreamsplat.mesh.surface import extract_surface
from dreamsplat.mesh.triangles import vertex_normals
from dreamsplat.types import Gaussians

pytest.importorskip("skimage", reason="scikit-image is not installed")


def assert_closed(faces: torch.Tensor) -> None:
    """Every edge belongs to exactly two triangles, which run along it in opposite directions."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges.sort(dim=0).values if edges.numel() == 0 else edges
    forward, counts = edges.unique(dim=0, return_counts=True)
    assert bool((counts == 1).all())
    assert torch.equal(forward, edges.flip(1).unique(dim=0))


# --- the density ------------------------------------------------------------------------------------------------------


def enclosed_volume(
    vertices: torch.Tensor,  # [V, 3]
    faces: torch.Tensor,  # [F, 3]
) -> torch.Tensor:
    """The volume [] inside a closed mesh, by the divergence theorem; negative if its triangles face inward."""
    a, b, c = vertices[faces].unbind(dim=1)
    return (a * torch.linalg.cross(b, c)).sum() / 6


def parts(
    vertices: np.ndarray,  # [V, 3]
    faces: np.ndarray,  # [F, 3]
) -> int:
    """The number of separate pieces of a mesh."""
    ends = np.concatenate([faces[:, :2], faces[:, 1:]])
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(vertices),) * 2)
    return connected_components(links)[0]


@pytest.mark.parametrize("size", [0.2, 3.0])
def test_the_density_is_the_sum_of_opacity_times_blurred_gaussian(random_gaussians, size):
    gaussians = random_gaussians(60)
    gaussians = dataclasses.replace(gaussians, scales=size * gaussians.scales * torch.tensor([1.0, 0.1, 3.0]))
    low, high = bounds(gaussians)
    grid = grid_over(low, high - 0.3 * (high - low), 20)  # Some Gaussians reach out of the grid.
    places = torch.cartesian_prod(*(torch.arange(n) for n in grid.shape)).double()
    offset = (grid.origin + grid.voxel * places)[:, None] - gaussians.means
    spread = covariances(gaussians.scales, gaussians.quats).double() + 0.25 * grid.voxel**2 * torch.eye(3)
    power = 0.5 * torch.einsum("pni,nij,pnj->pn", offset, torch.linalg.inv(spread), offset)
    alpha = gaussians.opacities * torch.exp(-power)
    expected = torch.where(alpha < MIN_ALPHA, 0, alpha).sum(dim=1).reshape(grid.shape)
    # A voxel exactly at the end of a Gaussian may fall on either side of it.
    torch.testing.assert_close(density_on(grid, gaussians).double(), expected, rtol=1e-4, atol=1.01 * MIN_ALPHA)
    close = (density_on(grid, gaussians) - expected).abs() < 1e-4
    assert float(close.double().mean()) > 0.999


def test_work_in_parts_gives_the_density_of_one_go(random_gaussians, monkeypatch):
    gaussians = random_gaussians(50)
    grid = grid_over(*bounds(gaussians), 24)
    whole = density_on(grid, gaussians)
    monkeypatch.setattr("dreamsplat.mesh.density._PAIRS", 1000)
    torch.testing.assert_close(density_on(grid, gaussians), whole)


# --- the surface ------------------------------------------------------------------------------------------------------


def test_a_hollow_sphere_becomes_one_closed_ball_of_its_size(mesh):
    assert_closed(mesh.faces)
    distance = mesh.vertices.norm(dim=1)
    # At the skin the density is 0.95 times 2 pi 0.6^2 = 2.15; of that 0.4 is left 1.84 standard deviations outside.
    # The blur of half a voxel widens sigma = 0.028 by a tenth.
    sigma = math.hypot(float(skin().scales[0, 0]), 0.5 * 2 * RADIUS / 64)
    assert float(distance.mean()) == pytest.approx(RADIUS + 1.84 * sigma, abs=0.2 * sigma)
    assert float(distance.max() - distance.min()) < 0.02 * RADIUS
    volume = float(enclosed_volume(mesh.vertices.double(), mesh.faces))
    assert volume == pytest.approx(4 / 3 * math.pi * float(distance.mean()) ** 3, rel=0.01)
    # V - E + F = 2 is one surface without handles: the inner side of the skin is gone.
    assert len(mesh.vertices) - len(mesh) // 2 == 2


def test_normals_point_outward(mesh):
    normals = vertex_normals(mesh.vertices, mesh.faces)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(len(normals)))
    assert float((normals * mesh.vertices).sum(dim=1).min()) > 0.9 * RADIUS


def opened(ball: Gaussians, height: float) -> Gaussians:
    """The sphere without its skin above a height."""
    return dataclasses.replace(ball, opacities=torch.where(ball.means[:, 2] > height, 0.0, 0.95))


def test_a_hole_in_the_skin_does_not_make_its_inside_a_surface(halves):
    vertices, faces = extract_surface(opened(halves, 0.98 * RADIUS), SurfaceSettings(resolution=64))
    assert_closed(torch.from_numpy(faces))
    # Where the hole was a dimple stays, about as deep as it is wide.
    assert float(np.linalg.norm(vertices, axis=1).min()) > RADIUS - 0.25
    ball = 4 / 3 * math.pi * RADIUS**3
    assert float(enclosed_volume(torch.from_numpy(vertices), torch.from_numpy(faces))) > 0.99 * ball


def test_a_bowl_stays_hollow(halves):
    vertices, faces = extract_surface(opened(halves, 0.0), SurfaceSettings(resolution=64))
    assert_closed(torch.from_numpy(faces))
    half_ball = 2 / 3 * math.pi * RADIUS**3
    assert float(enclosed_volume(torch.from_numpy(vertices), torch.from_numpy(faces))) < 0.6 * half_ball


@pytest.mark.parametrize("gap", [0, 3, 8])
def test_a_slit_that_can_be_looked_through_is_no_hollow(gap):
    """Two balls that leave a slit of a few voxels between them stay two."""
    pair = join(skin(centre=(-RADIUS - 0.09, 0.0, 0.0)), skin(centre=(RADIUS + 0.09, 0.0, 0.0)))
    vertices, faces = extract_surface(pair, SurfaceSettings(resolution=96, gap=gap, smoothing=0))
    assert parts(vertices, faces) == 2


@pytest.mark.parametrize(("gap", "smooth"), [(0, False), (3, True)])
def test_pits_in_the_skin_are_filled(halves, gap, smooth):
    bare = rows(halves, torch.cdist(halves.means, halves.means[::100]).amin(dim=1) > 0.06)
    vertices, _ = extract_surface(bare, SurfaceSettings(resolution=64, gap=gap, smoothing=0))
    distance = np.linalg.norm(vertices, axis=1)
    assert (float(np.median(distance) - distance.min()) < 0.06) == smooth  # Without filling 0.13.


def test_an_object_cut_off_by_its_neighbours_end_is_closed_too(halves):
    flat = dataclasses.replace(halves, means=halves.means.clamp(max=0.2))
    _, faces = extract_surface(flat, SurfaceSettings(resolution=48))
    assert_closed(torch.from_numpy(faces))


@pytest.mark.parametrize("where", [1.5, 1e3, 1e6])
def test_strays_are_dropped_and_take_no_resolution(halves, mesh, where):
    stray = skin(centre=(where, -where, 0.3), radius=0.02, count=20)
    found, faces = extract_surface(join(halves, stray), COARSE.surface)
    assert_closed(torch.from_numpy(faces))
    assert np.abs(found).max() < 1.2 * RADIUS
    assert len(faces) > 0.6 * len(mesh)


def test_pieces_that_belong_to_the_object_stay():
    pair = join(skin(centre=(-0.7, 0.0, 0.0), radius=0.5), skin(centre=(0.7, 0.0, 0.0), radius=0.3))
    vertices, faces = extract_surface(pair, SurfaceSettings(resolution=64))
    assert_closed(torch.from_numpy(faces))
    assert vertices[:, 0].min() < -1.2 and vertices[:, 0].max() > 1.0
    assert len(vertices) - len(faces) // 2 == 4  # Two spheres.
    vertices, faces = extract_surface(pair, SurfaceSettings(resolution=64, least_share=0.9))
    assert vertices[:, 0].max() < 0 and len(vertices) - len(faces) // 2 == 2


def test_smoothing_takes_bumps_away_and_keeps_the_volume(halves):
    noise = 1 + 0.02 * torch.randn(len(halves), 1, generator=torch.Generator().manual_seed(0))
    noisy = dataclasses.replace(halves, means=noise * halves.means)
    size, tilt = {}, {}
    for steps in (0, 10):
        surface = extract_surface(noisy, SurfaceSettings(resolution=64, smoothing=steps))
        vertices, faces = (torch.from_numpy(a) for a in surface)
        outward = torch.nn.functional.normalize(vertices, dim=1)
        size[steps] = float(enclosed_volume(vertices, faces))
        tilt[steps] = float(1 - (vertex_normals(vertices, faces) * outward).sum(dim=1).mean())
    assert tilt[10] < 0.9 * tilt[0]
    assert size[10] == pytest.approx(size[0], rel=0.003)


def test_a_point_becomes_a_small_ball():
    dot = join(*(skin(centre=(3.0, 4.0, 5.0), radius=1e-9, count=5) for _ in range(2)))
    vertices, faces = extract_surface(dot, SurfaceSettings(resolution=16))
    assert_closed(torch.from_numpy(faces))
    np.testing.assert_allclose(vertices, np.broadcast_to([3.0, 4.0, 5.0], vertices.shape), atol=1e-4)


def test_what_has_no_surface_is_refused_in_one_line(halves, monkeypatch):
    faint = dataclasses.replace(halves, opacities=torch.full((len(halves),), 1e-3))
    thin = dataclasses.replace(skin(count=10), scales=torch.full((10, 3), 1e-3), opacities=torch.full((10,), 0.2))
    huge = dataclasses.replace(halves, scales=1e25 * halves.scales)
    for gaussians, message in (
        (faint, "none of 2000 has an opacity"),
        (dataclasses.replace(faint, **{k: v[:0] for k, v in vars(faint).items()}), "none of 0 has"),
        (thin, r"level: 0\.4, but the density is at most 0\.\d+: there is no surface"),
        (huge, "huge scales"),
    ):
        with pytest.raises(InvalidInput, match=message) as caught:
            mesh_of(gaussians, COARSE)
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(MissingDependency, match=r'pip install "dreamsplat\[mesh\]"'):
        mesh_of(halves, COARSE)


@pytest.mark.parametrize("change", [{"resolution": 8}, {"level": 0.0}, {"gap": -1}, {"least_share": 2.0}])
def test_surface_settings_out_of_range_are_refused(change):
    with pytest.raises(InvalidInput, match="expected"):
        SurfaceSettings(**change)


# --- the colours ------------------------------------------------------------------------------------------------------


def test_each_half_has_its_colour(mesh):
    assert mesh.rgb.dtype == torch.float32 and bool(((mesh.rgb >= 0) & (mesh.rgb <= 1)).all())
    side = mesh.vertices[:, 0]
    # The skin lets a few per cent of the light through, and so of the other half's colour.
    for half, colour in ((side < -0.15, RED), (side > 0.15, BLUE)):
        torch.testing.assert_close(mesh.rgb[half], colour.expand(int(half.sum()), 3), rtol=0, atol=0.03)


def test_what_hides_another_part_does_not_colour_it():
    """A thin blue plate over a red ball: from above the pictures show blue where the ball's vertices are."""
    i, j = torch.meshgrid(torch.linspace(-0.6, 0.6, 30), torch.linspace(-0.6, 0.6, 30), indexing="ij")
    plate = skin(count=900, rgb=BLUE)
    plate = dataclasses.replace(
        plate,
        means=torch.stack([i.flatten(), j.flatten(), torch.full((900,), 0.75)], dim=1),
        scales=torch.tensor([0.04, 0.04, 0.02]).repeat(900, 1),
    )
    found = mesh_of(
        join(skin(radius=0.4), plate), MeshSettings(None, surface=SurfaceSettings(64), bake=BakeSettings(32, 256))
    )
    ball = found.vertices[:, 2] < 0.55
    torch.testing.assert_close(found.rgb[ball], RED.expand(int(ball.sum()), 3), rtol=0, atol=0.06)
    torch.testing.assert_close(found.rgb[~ball], BLUE.expand(int((~ball).sum()), 3), rtol=0, atol=0.06)


def test_vertices_that_no_camera_sees_get_the_colour_of_the_gaussians_there(halves, mesh):
    inside = torch.tensor([[-0.3, 0, 0], [0.3, 0, 0], [0.0, 0, 0]])
    vertices = torch.cat([mesh.vertices, inside])
    normals = torch.cat([vertex_normals(mesh.vertices, mesh.faces), torch.tensor([[0.0, 0, 1]]).repeat(3, 1)])
    rgb = bake_colours(halves, vertices, normals, COARSE.bake)
    torch.testing.assert_close(rgb[-3:-1], torch.stack([RED, BLUE]), rtol=0, atol=0.01)
    assert bool(torch.isfinite(rgb).all())


def test_every_camera_sees_the_whole_object(mesh):
    off_centre = mesh.vertices + torch.tensor([5.0, -3, 2])
    cameras = cameras_around(off_centre, 20, 100)
    assert cameras.world_to_camera.shape == (20, 4, 4)
    for pose, intrinsics in zip(cameras.world_to_camera, cameras.intrinsics, strict=True):
        seen = (off_centre @ pose[:3, :3].T + pose[:3, 3]) @ intrinsics.T
        pixels = seen[:, :2] / seen[:, 2:]
        assert float(seen[:, 2].min()) > 0 and 0 < float(pixels.min()) and float(pixels.max()) < 100
        assert float(pixels.max() - pixels.min()) > 80


def test_the_same_gaussians_give_the_same_mesh_whatever_their_dtype(halves, mesh):
    state = torch.get_rng_state()
    again = mesh_of(halves.to(torch.float64), COARSE)
    for name in ("vertices", "faces", "rgb"):
        assert torch.equal(getattr(mesh, name), getattr(again, name))
    assert torch.equal(torch.get_rng_state(), state)
