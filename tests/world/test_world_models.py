"""The bundled models' mathematics, data and priors, on closed forms and small pools."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dreamsplat.errors import InvalidInput
from dreamsplat.maths.heun import karras_sigmas, sample_heun
from dreamsplat.method.cameras import sample_views
from dreamsplat.presets import PRESETS
from dreamsplat.priors2d import BundledImagePrior, PerfectTeacher
from dreamsplat.priors2d.bundled import ViewConditioning
from dreamsplat.priors2d.bundled_model import premultiplied
from dreamsplat.priors3d import BundledCloudPrior
from dreamsplat.render import render
from dreamsplat.types import PointCloud
from dreamsplat.world.camera_range import WORLD_CAMERAS
from dreamsplat.world.data import shapes
from dreamsplat.world.data.pictures import draw_pictures, paint, render_layers, surface_gaussians
from dreamsplat.world.data.shapes import draw_shapes, encode_pool, fit_code
from dreamsplat.world.language.captions import Caption, parse_caption
from dreamsplat.world.language.palette import COLOUR_RGB
from dreamsplat.world.nets.camera_features import PosedFeatures, ray_points
from dreamsplat.world.nets.conditions import drop_conditions, pack_condition
from dreamsplat.world.nets.diffusion import denoising_loss, precondition
from dreamsplat.world.nets.shape_code import ShapeGrid, draw_layers, paint_layers, surface_cloud
from dreamsplat.world.objects.categories import CATEGORIES
from dreamsplat.world.objects.draw_object import draw_object
from dreamsplat.world.objects.shapes import surface_points


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_network_that_knows_nothing_loses_about_one_at_every_noise_level() -> None:
    clean = 0.6 * torch.randn(4000, 1, generator=_generator())
    for sigma in (0.02, 0.6, 20.0):
        levels = torch.full((4000,), sigma)
        noisy = clean + sigma * torch.randn(4000, 1, generator=_generator(1))
        estimate = precondition(lambda x, _: torch.zeros_like(x), noisy, levels, sigma_data=0.6)
        assert abs(float(denoising_loss(estimate, clean, levels, 0.6)) - 1) < 0.1


def test_the_sampler_draws_the_distribution_of_an_exact_denoiser() -> None:
    # For N(2, 0.5^2) the optimal denoiser is known; samples must have that mean and spread.
    def denoise(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        s = sigma[:, None]
        return (0.25 * z + s**2 * 2.0) / (0.25 + s**2)

    samples = sample_heun(denoise, torch.randn(4000, 1, generator=_generator()), karras_sigmas(32, 0.01, 40.0))
    assert abs(float(samples.mean()) - 2.0) < 0.05 and abs(float(samples.std()) - 0.5) < 0.05


def test_conditions_hold_words_and_camera_and_forget_them_apart() -> None:
    views = sample_views(WORLD_CAMERAS, 400, 32, _generator())
    packed = pack_condition([parse_caption("a red mushroom, back view")] * 400, views)
    assert packed[0, :3].tolist() == [1.0, 1.0, 3.0] and bool((packed[:, 3] == 1).all())
    assert torch.equal(drop_conditions(packed, _generator(), words=0, word=0, view=0, camera=0), packed)
    gone = drop_conditions(packed, _generator(), words=1, word=0, view=0, camera=0)
    assert bool((gone[:, :2] == 0).all()) and torch.equal(gone[:, 2:], packed[:, 2:])
    mixed = drop_conditions(packed, _generator(), words=0, word=0.5, view=0.5, camera=0.5)
    heard = (mixed[:, [0, 1, 2, 3]] > 0).float()
    assert bool(((heard.mean(0) - 0.5).abs() < 0.1).all())
    assert bool((mixed[mixed[:, 3] == 0, 3:] == 0).all())


def test_posed_features_are_seen_through_the_very_cameras_of_the_renderer() -> None:
    views = sample_views(WORLD_CAMERAS, 5, 64, _generator())
    points = ray_points(pack_condition([Caption()] * 5, views), grid=16, samples=8)
    cameras = views.cameras
    rotation, shift = cameras.world_to_camera[:, :3, :3], cameras.world_to_camera[:, :3, 3]
    in_camera = torch.einsum("cij,cnj->cni", rotation, points.reshape(5, -1, 3)) + shift[:, None]
    pixels = torch.einsum("cij,cnj->cni", cameras.intrinsics, in_camera)
    pixels = (pixels[..., :2] / pixels[..., 2:]).reshape(5, 8, 16, 16, 2)
    centres = (torch.arange(16) + 0.5) * 4
    torch.testing.assert_close(pixels[..., 0], centres.expand(5, 8, 16, 16), rtol=0, atol=1e-3)
    torch.testing.assert_close(pixels[..., 1], centres[:, None].expand(5, 8, 16, 16), rtol=0, atol=1e-3)
    depth = in_camera[..., 2].reshape(5, 8, 16, 16)[:, :, 0, 0] - views.distance[:, None]
    torch.testing.assert_close(depth, ((torch.arange(8) + 0.5) / 4 - 1).expand(5, 8), rtol=0, atol=1e-4)


def test_without_a_camera_posed_features_do_not_depend_on_it() -> None:
    posed = PosedFeatures(out=4, grid=8)
    torch.nn.init.normal_(posed.out.weight)
    views = sample_views(WORLD_CAMERAS, 2, 64, _generator())
    told, untold = (pack_condition([parse_caption("a red mug")] * 2, v) for v in (views, None))
    assert not torch.allclose(*posed(told)) and torch.equal(*posed(untold))


def test_a_painted_picture_is_the_rendering_of_the_coloured_object() -> None:
    # The pool's layers rely on rendering being linear in colour: check it against a direct rendering.
    surface = surface_points(CATEGORIES["mug"].build(_generator()), 800, _generator())
    views = sample_views(WORLD_CAMERAS, 2, 32, _generator())
    rgb = COLOUR_RGB[:2]
    painted = paint(render_layers(surface, views), rgb)
    for row in range(2):
        direct = premultiplied(render(surface_gaussians(surface, surface.colours(rgb[row])), views.cameras))
        torch.testing.assert_close(painted[row], direct[row], rtol=0, atol=1e-5)


def test_a_pool_gives_trained_captions_with_their_pictures() -> None:
    pool = draw_pictures(1, 2, 32, _generator(), categories=("mug", "tree"))
    z, packed = pool.batch(50, _generator())
    assert z.shape == (50, 4, 32, 32) and 0.2 < float(z.max()) <= 2.0 + 1e-4
    names = list(CATEGORIES)
    assert set(packed[:, 1].int().tolist()) == {names.index("mug") + 1, names.index("tree") + 1}
    mugs = packed[packed[:, 1] == names.index("mug") + 1]
    assert 1.0 not in mugs[:, 0].tolist()  # "a red mug" is held out.


def test_the_code_gives_back_shapes_like_those_it_was_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "SHAPE_LATENT", 16)
    monkeypatch.setattr(shapes, "COLOUR_LATENT", 16)
    pool = draw_shapes(15, _generator(), categories=("chair", "duck"))
    code = fit_code(pool, _generator())
    parts = CATEGORIES["chair"].build(_generator(7))
    distance, layers = draw_layers(parts)
    colour = paint_layers(layers[None], torch.tensor([[0.2, 0.3, 0.9]]))
    decoded = code.decode(code.encode(ShapeGrid(distance[None], colour)))
    spread = (distance - code.shape_mean).square().mean().sqrt()
    error = (decoded.distance[0] - distance).square().mean().sqrt()
    assert error < 0.25 * spread
    latents = encode_pool(pool, code)
    z, packed = latents.batch(64, _generator())
    assert z.shape == (64, len(code.scales)) and bool((packed[:, :2] > 0).all()) and bool((packed[:, 2:] == 0).all())


def test_points_lie_on_the_surface_of_a_shape_in_its_colour() -> None:
    cells = torch.linspace(-1, 1, 33)[:-1] + 1 / 32
    grid = torch.stack(torch.meshgrid(cells, cells, cells, indexing="ij"), -1).reshape(-1, 3)
    ball = ((grid.norm(dim=1) - 0.5) / 0.16).clamp(-1, 1)
    cloud = surface_cloud(ball, torch.tensor([0.1, 0.6, 0.3]).expand(16**3, 3), 1000, _generator())
    assert len(cloud) == 1000
    assert bool(((cloud.xyz.norm(dim=1) - 0.5).abs() < 0.03).all())
    torch.testing.assert_close(cloud.rgb[0], torch.tensor([0.1, 0.6, 0.3]), rtol=0, atol=1e-5)


def test_a_shape_without_a_surface_gives_no_points() -> None:
    assert len(surface_cloud(torch.ones(32**3), torch.zeros(16**3, 3), 100, _generator())) == 0


def test_the_shipped_3d_model_makes_the_cloud_that_the_prompt_names() -> None:
    prior = BundledCloudPrior(points=600).load(torch.device("cpu"))
    red, blue = (prior.sample(f"a {colour} mug", _generator()) for colour in ("green", "blue"))
    assert isinstance(red, PointCloud) and len(red) == 600 and bool((red.xyz.norm(dim=1) < 1.3).all())
    assert red.rgb[:, 1].mean() > red.rgb[:, 2].mean() and blue.rgb[:, 2].mean() > blue.rgb[:, 1].mean()
    again = prior.sample("a green mug", _generator())
    assert torch.equal(red.xyz, again.xyz)


def test_the_shipped_2d_model_prefers_the_picture_that_the_prompt_names() -> None:
    prior = BundledImagePrior().load(torch.device("cpu"))
    views = sample_views(WORLD_CAMERAS, 4, 64, _generator())
    z = prior.encode(render(draw_object(parse_caption("a yellow duck"), _generator(3)), views.cameras))
    sigma = torch.full((4,), 2.0)
    noisy = z + 2.0 * torch.randn(z.shape, generator=_generator(4))

    def error(prompt: str) -> float:
        return float((prior.denoise(noisy, sigma, prior.embed([prompt] * 4, views)) - z).square().mean())

    right = error("a yellow duck")
    assert right < error("a blue duck") and right < error("a yellow chair") and right < error("")


@pytest.mark.parametrize(("view", "word", "camera"), [
    ("both", True, True), ("words", True, False), ("camera", False, True), ("neither", False, False),
])  # fmt: skip
def test_the_view_reaches_the_2d_model_in_the_chosen_ways_only(
    view: ViewConditioning, word: bool, camera: bool
) -> None:
    prior = BundledImagePrior(view=view).load(torch.device("cpu"))
    told = prior.embed(["a red mug, back view"], sample_views(WORLD_CAMERAS, 1, 64, _generator()))
    assert bool(told[:, 2].any()) == word and bool(told[:, 3:].any()) == camera and bool((told[:, :2] > 0).all())


def test_the_2d_model_refuses_cameras_that_it_was_not_trained_for() -> None:
    prior = BundledImagePrior().load(torch.device("cpu"))
    views = sample_views(replace(WORLD_CAMERAS, fov_y_deg=(70.0, 70.0)), 1, 64, _generator())
    with pytest.raises(InvalidInput, match="cameras.fov_y_deg: 70 to 70"):
        prior.embed(["a red mug"], views)


def test_the_2d_model_refuses_pictures_of_another_size_and_other_backgrounds() -> None:
    prior = BundledImagePrior().load(torch.device("cpu"))
    views = sample_views(WORLD_CAMERAS, 1, 48, _generator())
    with pytest.raises(InvalidInput, match="render_size: 48 px.*Use 64"):
        prior.encode(render(draw_object(Caption(), _generator()), views.cameras))
    with pytest.raises(InvalidInput, match="background: 'white'.*Use black"):
        replace(PRESETS["bundled"], prompt="a red mug", background="white").check()


def test_the_perfect_teacher_is_the_posterior_mean_of_its_pictures() -> None:
    teacher = PerfectTeacher(instances=3, resolution=16).load(torch.device("cpu"))
    views = sample_views(WORLD_CAMERAS, 2, 16, _generator())
    pictures = teacher.embed(["a red mug"] * 2, views)
    noisy = pictures[:, 1] + 0.5 * torch.randn(pictures[:, 1].shape, generator=_generator(2))
    weights = torch.stack([torch.exp(-((noisy - pictures[:, k]) ** 2).double().sum((1, 2, 3)) / 0.5) for k in range(3)])
    expected = sum((weights[k] / weights.sum(0))[:, None, None, None] * pictures[:, k].double() for k in range(3))
    estimate = teacher.denoise(noisy, torch.full((2,), 0.5), pictures)
    torch.testing.assert_close(estimate.double(), expected, rtol=1e-4, atol=1e-5)
    # Without noise to speak of, the nearest picture itself; the same objects are seen from every view.
    nearest = teacher.denoise(pictures[:, 2], torch.full((2,), 0.01), pictures)
    torch.testing.assert_close(nearest, pictures[:, 2], rtol=0, atol=1e-4)


def test_an_object_draws_what_the_caption_leaves_open() -> None:
    a, b = (draw_object(Caption(), _generator(seed)) for seed in (1, 2))
    assert not torch.equal(a.means, b.means)
