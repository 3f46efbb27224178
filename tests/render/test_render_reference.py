"""The specification of rendering against closed forms, symmetries, a pixel-by-pixel loop and finite differences."""

from dataclasses import replace
from math import exp, log, pi, radians, sqrt, tan

import pytest
import torch
from torch import Tensor

from dreamsplat.maths.harmonics import rgb_to_sh
from dreamsplat.maths.rotations import rotation_from_quats
from dreamsplat.method.cameras import make_views
from dreamsplat.render import reference, selftest
from dreamsplat.types import Cameras, Gaussians, Rendering

F64 = torch.float64
FOV_DEG = 50.0


def cameras_at(*angles_deg: tuple[float, float], size: tuple[int, int] = (9, 9), distance: float = 3.0) -> Cameras:
    azimuth, elevation = torch.tensor(angles_deg, dtype=F64).unbind(-1)
    same = torch.ones_like(azimuth)
    return make_views(azimuth, elevation, distance * same, FOV_DEG * same, width=size[0], height=size[1]).cameras


def render(
    gaussians: Gaussians, cameras: Cameras, background: Tensor | None = None, offsets: Tensor | None = None
) -> Rendering:
    background = gaussians.means.new_zeros(len(cameras), 3) if background is None else background
    return reference.render(gaussians, cameras, background, offsets)


def scene(count: int = 12, sh_degree: int = 1) -> Gaussians:
    """Overlapping, half-transparent, anisotropic Gaussians around the origin."""
    return selftest.scene(count, sh_degree, scale=(0.1, 0.4), opacity=(0.3, 0.9), sh=(-0.5, 0.5), dtype=F64)


def spots(
    positions: list[tuple[float, float, float]],
    opacities: list[float],
    colours: list[tuple[float, float, float]] | None = None,
    scale: float = 0.05,
) -> Gaussians:
    """Round Gaussians, white unless `colours` are given."""
    count = len(positions)
    rgb = torch.tensor(colours or [(1.0, 1.0, 1.0)] * count, dtype=F64)
    return Gaussians(
        means=torch.tensor(positions, dtype=F64),
        scales=torch.full((count, 3), scale, dtype=F64),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=F64).repeat(count, 1),
        opacities=torch.tensor(opacities, dtype=F64),
        sh=rgb_to_sh(rgb)[:, None, :],
    )


def peak(image: Tensor) -> tuple[int, int]:
    """(row, column) of the brightest pixel of [H, W]."""
    return divmod(int(image.argmax()), image.shape[1])


# Gradients


@pytest.mark.parametrize("name", ["means", "scales", "quats", "opacities", "sh", "background", "screen_offsets"])
def test_gradients_match_finite_differences(name: str) -> None:
    gaussians = scene(count=5)
    cameras = cameras_at((20, 10), (-100, 40), size=(5, 4))
    # One sits beyond the first camera's widened frustum, and is wide enough to show: its Jacobian is clamped.
    gaussians.means[0] = 2.2 * cameras.world_to_camera[0, 0, :3]
    gaussians.scales[0] = 0.8
    assert render(gaussians, cameras).radii_px[0, 0] > 0
    inputs = {
        **vars(gaussians),
        "background": torch.tensor([[0.2, 0.5, 0.9], [0.8, 0.1, 0.4]], dtype=F64),
        "screen_offsets": torch.full((2, 5, 2), 0.1, dtype=F64),
    }

    generator = torch.Generator().manual_seed(2)
    weights = torch.rand(
        2, 4, 5, 5, generator=generator, dtype=F64
    )  # Of each pixel: sums, for they are faster to check.

    def outputs(changed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = {**inputs, name: changed}
        background, offsets = values.pop("background"), values.pop("screen_offsets")
        rendering = render(Gaussians(**values), cameras, background, offsets)
        rgb, alpha, depth = weights.split([3, 1, 1], dim=-1)
        return (
            (rendering.rgb * rgb).sum(),
            (rendering.alpha * alpha[..., 0]).sum(),
            (rendering.depth * depth[..., 0]).sum(),
        )

    assert torch.autograd.gradcheck(outputs, (inputs[name].clone().requires_grad_(),))


def test_no_gradient_passes_the_opacity_cap() -> None:
    gaussians = spots([(0, 0, 0)], [1.0], scale=0.5)
    gaussians.opacities.requires_grad_()
    rendering = render(gaussians, cameras_at((0, 0)))
    assert rendering.alpha[0, 4, 4].item() == pytest.approx(reference.MAX_ALPHA)
    rendering.alpha[0, 4, 4].backward()
    assert gaussians.opacities.grad is not None and gaussians.opacities.grad.item() == 0


# Closed forms


def test_one_round_gaussian_is_a_round_bump_with_the_closed_form_profile() -> None:
    size, distance, scale, opacity, colour = 9, 3.0, 0.2, 0.7, (0.9, 0.3, 0.6)
    rendering = render(spots([(0, 0, 0)], [opacity], [colour], scale), cameras_at((30, 20), distance=distance))
    focal = size / 2 / tan(radians(FOV_DEG / 2))
    variance = (focal * scale / distance) ** 2 + 0.3
    for row in range(size):
        for column in range(size):
            alpha = opacity * exp(-((row - 4) ** 2 + (column - 4) ** 2) / (2 * variance))
            alpha = alpha if alpha >= 1 / 255 else 0.0
            assert rendering.alpha[0, row, column].item() == pytest.approx(alpha, abs=1e-12)
            assert rendering.depth[0, row, column].item() == pytest.approx(alpha * distance, abs=1e-12)
            assert rendering.rgb[0, row, column].tolist() == pytest.approx([alpha * c for c in colour], abs=1e-12)
    assert rendering.radii_px.item() == pytest.approx(sqrt(2 * log(255 * opacity) * variance))


def test_a_turned_needle_lies_along_its_axis_on_screen() -> None:
    half = pi / 8  # A turn by -45 degrees about +y takes x to (1, 0, 1) / sqrt(2): right and up, seen from the front.
    needle = replace(
        spots([(0, 0, 0)], [0.9]),
        scales=torch.tensor([[0.6, 0.05, 0.05]], dtype=F64),
        quats=torch.tensor([[torch.tensor(half).cos(), 0, -torch.tensor(half).sin(), 0]], dtype=F64),
    )
    alpha = render(needle, cameras_at((0, 0))).alpha[0]
    assert alpha[2, 6] > 0.3 and alpha[6, 2] > 0.3  # Up-right and down-left of the middle.
    assert alpha[2, 2] < 0.01 and alpha[6, 6] < 0.01


def test_compositing_agrees_with_a_loop_over_each_pixel() -> None:
    generator = torch.Generator().manual_seed(3)
    count = 60
    splats = reference.Splats(
        index=torch.arange(count),
        centres_px=6 * torch.rand(count, 2, generator=generator, dtype=F64),
        depths=torch.rand(count, generator=generator, dtype=F64).sort().values + 1,
        # The inverse covariance xx = 0.4, xy = 0.1, yy = 0.2.
        whitening=torch.tensor([[sqrt(0.4), 0.1 / sqrt(0.4), sqrt(0.2 - 0.1**2 / 0.4)]], dtype=F64).repeat(count, 1),
        opacities=torch.rand(count, generator=generator, dtype=F64) * 1.1,  # Some pass the cap, as a test of it.
        colours=torch.rand(count, 3, generator=generator, dtype=F64),
        half_box_px=torch.full((count, 2), 20.0, dtype=F64),
        radii_px=torch.full((count,), 20.0, dtype=F64),
    )
    background = torch.tensor([0.3, 0.2, 0.1], dtype=F64)
    image = reference.composite(splats, background, width=6, height=6)
    stopped = 0
    for row in range(6):
        for column in range(6):
            transmittance, colour, depth = 1.0, torch.zeros(3, dtype=F64), 0.0
            for m in range(count):
                dx, dy = (torch.tensor([column + 0.5, row + 0.5], dtype=F64) - splats.centres_px[m]).tolist()
                power = 0.5 * (0.4 * dx * dx + 0.2 * dy * dy) + 0.1 * dx * dy
                alpha = min(0.99, splats.opacities[m].item() * exp(-power))
                if alpha < 1 / 255:
                    continue
                if transmittance * (1 - alpha) <= 1e-4:
                    stopped += 1
                    break
                colour = colour + alpha * transmittance * splats.colours[m]
                depth += alpha * transmittance * splats.depths[m].item()
                transmittance *= 1 - alpha
            expected = [*(colour + transmittance * background).tolist(), 1 - transmittance, depth]
            assert image[row, column].tolist() == pytest.approx(expected, abs=1e-12)
    assert 0 < stopped < 36  # Otherwise the scene does not test the stop.


def test_pixel_ends_before_the_gaussian_that_would_make_it_opaque() -> None:
    # All on the axis: at the middle pixel alpha is the opacity. T: 0.05, 0.0025, 1.25e-4; then 6e-6 is under 1e-4.
    # The last is thin enough to leave 1.1e-4, were it reached; a stopped pixel must not resume.
    gaussians = spots([(0, 0.1 * i, 0) for i in range(5)], [0.95, 0.95, 0.95, 0.95, 0.1])
    gaussians.opacities.requires_grad_()
    alpha = render(gaussians, cameras_at((0, 0))).alpha[0, 4, 4]
    assert 1 - alpha.item() == pytest.approx(1.25e-4, rel=1e-9)
    alpha.backward()
    assert gaussians.opacities.grad is not None
    assert (gaussians.opacities.grad != 0).tolist() == [True, True, True, False, False]


# Symmetries


def test_image_is_invariant_to_the_order_of_gaussians() -> None:
    gaussians, cameras = scene(), cameras_at((20, 10), (-100, 40))
    order = torch.randperm(len(gaussians), generator=torch.Generator().manual_seed(1))
    shuffled = Gaussians(**{name: value[order] for name, value in vars(gaussians).items()})
    first, second = render(gaussians, cameras), render(shuffled, cameras)
    torch.testing.assert_close(first.rgb, second.rgb)
    torch.testing.assert_close(first.alpha, second.alpha)
    torch.testing.assert_close(first.depth, second.depth)
    torch.testing.assert_close(first.radii_px[:, order], second.radii_px)


def test_equal_depths_blend_in_order_of_index() -> None:
    red, green = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    rgb = render(spots([(0, 0, 0), (0, 0, 0)], [0.5, 0.5], [red, green]), cameras_at((0, 0))).rgb[0, 4, 4]
    torch.testing.assert_close(rgb, torch.tensor([0.5, 0.25, 0.0], dtype=F64))


def test_turning_object_and_camera_together_leaves_the_image_unchanged() -> None:
    gaussians, cameras = scene(sh_degree=0), cameras_at((20, 10), (-100, 40))
    turn = torch.tensor([0.4, -0.3, 0.8, 0.2], dtype=F64)
    motion = torch.eye(4, dtype=F64)
    motion[:3, :3], motion[:3, 3] = rotation_from_quats(turn), torch.tensor([0.5, -1.0, 2.0], dtype=F64)
    (w, v), (s, u) = (turn[0], turn[1:]), (gaussians.quats[:, :1], gaussians.quats[:, 1:])
    product = torch.cat([w * s - u @ v[:, None], w * u + s * v + torch.linalg.cross(v.expand_as(u), u)], dim=1)
    moved = replace(gaussians, means=gaussians.means @ motion[:3, :3].T + motion[:3, 3], quats=product)
    following = replace(cameras, world_to_camera=cameras.world_to_camera @ torch.linalg.inv(motion))
    first, second = render(gaussians, cameras), render(moved, following)
    torch.testing.assert_close(first.rgb, second.rgb)
    torch.testing.assert_close(first.depth, second.depth)
    torch.testing.assert_close(first.radii_px, second.radii_px)


def test_background_shows_through_what_alpha_leaves() -> None:
    gaussians, cameras = scene(), cameras_at((20, 10), (-100, 40))
    background = torch.tensor([[0.2, 0.5, 0.9], [0.8, 0.1, 0.4]], dtype=F64)
    black, coloured = render(gaussians, cameras), render(gaussians, cameras, background)
    through = (1 - black.alpha)[..., None] * background[:, None, None, :]
    torch.testing.assert_close(coloured.rgb, black.rgb + through)
    assert 0.2 < black.alpha.mean() < 0.98  # Otherwise the scene shows one of the two only.


def test_offset_by_whole_pixels_moves_the_image() -> None:
    gaussians, cameras = scene(), cameras_at((20, 10), size=(24, 20))
    offsets = torch.tensor([3.0, 2.0], dtype=F64).expand(1, len(gaussians), 2)
    still, moved = render(gaussians, cameras), render(gaussians, cameras, offsets=offsets)
    torch.testing.assert_close(moved.rgb[:, 2:, 3:], still.rgb[:, :-2, :-3])


def test_tiles_leave_no_trace() -> None:
    gaussians, cameras = scene(count=40), cameras_at((20, 10), size=(37, 21))
    gaussians = replace(gaussians, scales=gaussians.scales / 8)
    image = render(gaussians, cameras)
    splats = reference.project(
        gaussians, cameras.world_to_camera[0], cameras.intrinsics[0], 37, 21, torch.zeros(40, 2, dtype=F64)
    )
    rows, columns = torch.meshgrid(torch.arange(21) + 0.5, torch.arange(37) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 2).double()
    whole = reference.composite_pixels(reference.sort(splats), torch.zeros(3, dtype=F64), pixels).reshape(21, 37, 5)
    torch.testing.assert_close(torch.cat([image.rgb, image.alpha[..., None], image.depth[..., None]], -1)[0], whole)


def test_each_camera_of_a_batch_renders_alone() -> None:
    gaussians, cameras = scene(), cameras_at((20, 10), (-100, 40))
    together = render(gaussians, cameras)
    for c, angles in enumerate([(20.0, 10.0), (-100.0, 40.0)]):
        alone = render(gaussians, cameras_at(angles))
        torch.testing.assert_close(together.rgb[c], alone.rgb[0])
        torch.testing.assert_close(together.radii_px[c], alone.radii_px[0])


# Cameras


@pytest.mark.parametrize(
    ("position", "azimuth_deg", "side"),
    [
        ((0.6, 0, 0), 0, "right"), ((0.6, 0, 0), 180, "left"), ((0, -0.6, 0), 90, "right"), ((0, -0.6, 0), -90, "left"),
        ((0, 0, 0.6), 0, "above"), ((0, 0, 0.6), 77, "above"), ((0, 0, -0.6), 180, "below"),
    ],
)  # fmt: skip
def test_world_directions_appear_on_the_right_side_of_the_image(position: tuple, azimuth_deg: float, side: str) -> None:
    row, column = peak(render(spots([position], [0.9]), cameras_at((azimuth_deg, 0))).alpha[0])
    found = {(0, 1): "right", (0, -1): "left", (-1, 0): "above", (1, 0): "below"}
    assert found[(row > 4) - (row < 4), (column > 4) - (column < 4)] == side


def test_nearer_gaussian_hides_the_farther_one() -> None:
    red, green = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    gaussians = spots([(0, -0.5, 0), (0, 0.5, 0)], [0.9, 0.9], [red, green])
    front, back = render(gaussians, cameras_at((0, 0), (180, 0))).rgb[:, 4, 4]
    assert front[0] > 5 * front[1] and back[1] > 5 * back[0]


@pytest.mark.parametrize(
    ("position", "opacity"),
    [
        ((0, -4, 0), 0.9),  # Behind the camera, which is at y = -3.
        ((0, -3, 0), 0.9),  # On it.
        ((0, -3 + 0.009, 0), 0.9),  # Nearer than the near plane.
        ((3, 0, 0), 0.9),  # Right of the image.
        ((0, 0, -3), 0.9),  # Under it.
        ((0, 0, 0), 0.0039),  # Opacity under 1 / 255.
    ],
)
def test_what_cannot_show_is_culled_without_gradient(position: tuple, opacity: float) -> None:
    gaussians = spots([position, (0, 0.5, 0)], [opacity, 0.5])
    leaves = [getattr(gaussians, name).requires_grad_() for name in ("means", "scales", "quats", "opacities", "sh")]
    rendering = render(gaussians, cameras_at((0, 0)))
    assert rendering.radii_px[0, 0] == 0 and rendering.radii_px[0, 1] > 0
    (rendering.rgb.sum() + rendering.depth.sum()).backward()
    for leaf in leaves:
        assert leaf.grad is not None and (leaf.grad[0] == 0).all() and leaf.grad.isfinite().all()


def test_jacobian_is_held_at_the_widened_frustum() -> None:
    intrinsics = cameras_at((0, 0), size=(10, 6)).intrinsics[0]
    tan_y = tan(radians(FOV_DEG / 2))
    tan_x = tan_y * 10 / 6
    at = torch.tensor([[1.3 * tan_x, -1.3 * tan_y, 1.0]], dtype=F64)
    beyond = torch.tensor([[5 * tan_x, -7 * tan_y, 1.0]], dtype=F64)
    within = torch.tensor([[1.2 * tan_x, -1.2 * tan_y, 1.0]], dtype=F64)
    at, beyond, within = (reference.projection_jacobian(p, intrinsics, 10, 6) for p in (at, beyond, within))
    torch.testing.assert_close(beyond, at)
    assert (within - at).abs().max() > 0.1


def test_nothing_shows_farther_out_than_its_radius() -> None:
    gaussians, cameras = scene(count=1), cameras_at((20, 10), size=(41, 41))
    rendering = render(gaussians, cameras)
    rows, columns = (rendering.alpha[0] > 0).nonzero().unbind(-1)
    splats = reference.project(
        gaussians, cameras.world_to_camera[0], cameras.intrinsics[0], 41, 41, torch.zeros(1, 2, dtype=F64)
    )
    away = (torch.stack([columns, rows], dim=-1) + 0.5 - splats.centres_px).norm(dim=-1)
    radius = rendering.radii_px.item()
    assert radius - 1 < away.max() <= radius  # The farthest pixel centre inside is within a pixel of the tip.
    assert ((columns + 0.5 - splats.centres_px[0, 0]).abs() <= splats.half_box_px[0, 0]).all()
    assert ((rows + 0.5 - splats.centres_px[0, 1]).abs() <= splats.half_box_px[0, 1]).all()


# Colour


def test_colour_is_seen_along_the_ray_from_the_camera() -> None:
    gaussians = spots([(0, 0, 0)], [0.5], [(0.5, 0.5, 0.5)])
    sh = torch.cat([gaussians.sh, torch.zeros(1, 3, 3, dtype=F64)], dim=1)
    sh[0, 1, 0], sh[0, 3, 1], sh[0, 2, 2] = -0.2, -0.2, -0.2  # Red grows along +y, green along +x, blue along -z.
    front, left, top = render(replace(gaussians, sh=sh), cameras_at((0, 0), (90, 0), (0, 90))).rgb[:, 4, 4] / 0.5
    more = 0.2 * sqrt(3 / (4 * pi))
    torch.testing.assert_close(front, torch.tensor([0.5 + more, 0.5, 0.5], dtype=F64))
    torch.testing.assert_close(left, torch.tensor([0.5, 0.5 + more, 0.5], dtype=F64))
    torch.testing.assert_close(top, torch.tensor([0.5, 0.5, 0.5 + more], dtype=F64))


def test_colours_have_no_negative_part_and_no_upper_limit() -> None:
    rgb = render(spots([(0, 0, 0)], [0.5], [(-1.0, 0.5, 3.0)]), cameras_at((0, 0))).rgb[0, 4, 4]
    torch.testing.assert_close(rgb, torch.tensor([0.0, 0.25, 1.5], dtype=F64))


# Plain use


def test_float32_gives_the_image_of_float64() -> None:
    gaussians, cameras = scene(), cameras_at((20, 10), (-100, 40))
    single = render(gaussians.to(torch.float32), cameras.to(torch.float32))
    assert {single.rgb.dtype, single.alpha.dtype, single.depth.dtype, single.radii_px.dtype} == {torch.float32}
    # float32 has 6e-8 of relative rounding; some ten operations and twelve blends stay well under this.
    torch.testing.assert_close(single.rgb.double(), render(gaussians, cameras).rgb, atol=1e-5, rtol=0)


def test_no_gaussians_leave_the_background() -> None:
    background = torch.tensor([[0.2, 0.5, 0.9]], dtype=F64)
    empty = Gaussians(**{name: value[:0] for name, value in vars(scene()).items()})
    rendering = render(empty, cameras_at((0, 0), size=(4, 3)), background)
    torch.testing.assert_close(rendering.rgb, background.expand(1, 3, 4, 3))
    assert rendering.alpha.abs().max() == 0 and rendering.radii_px.shape == (1, 0)


def test_reference_is_always_available() -> None:
    assert reference.available()[0]
