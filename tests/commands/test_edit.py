"""`dreamsplat edit`: each flag does what the operation of its name does, and refusals write nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from spheres import ball

from dreamsplat import Gaussians, load, save
from dreamsplat.assets import bounds, extent, in_ball, join, moved, pruning, rows, scaled, turned
from dreamsplat.commands.edit import edit
from dreamsplat.errors import DreamsplatError
from dreamsplat.maths.harmonics import sh_to_rgb


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(pruning, "SIZE", 48)


@pytest.fixture
def asset(tmp_path: Path, random_gaussians) -> Gaussians:
    """In tmp_path/in.ply, as it reads."""
    save(random_gaussians(120, 1), tmp_path / "in.ply")
    return load(tmp_path / "in.ply")


def edited(folder: Path, *flags: object, read: tuple[str, ...] = ("in.ply",)) -> Gaussians:
    files = [str(folder / name) for name in (*read, "out.ply")]
    assert edit([*files, *map(str, flags)]) == 0
    return load(folder / "out.ply")


def same(one: Gaussians, other: Gaussians, tolerance: float = 1e-5) -> bool:
    return all(
        value.shape == other.tensors()[name].shape
        and torch.allclose(value, other.tensors()[name], rtol=tolerance, atol=tolerance)
        for name, value in one.tensors().items()
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), lambda g: g),
        (("--crop-ball", 0, 0, 0, 0.5), lambda g: in_ball(g, 0.5)),
        (("--crop-box", -9, -9, 0, 9, 9, 9), lambda g: rows(g, g.means[:, 2] >= 0)),
        (("--min-opacity", 0.4), lambda g: rows(g, g.opacities >= 0.4)),
        (("--max-scale", 0.1), lambda g: rows(g, g.scales.amax(dim=1) <= 0.1)),
        (("--min-scale", 0.1), lambda g: rows(g, g.scales.amax(dim=1) >= 0.1)),
        (("--move", 1, 2, 3), lambda g: moved(g, (1.0, 2.0, 3.0))),
        (("--scale", 2), lambda g: scaled(g, 2.0)),
        (("--turn-deg", 30), lambda g: turned(g, 30.0)),
        (("--turn-deg", 30, "--turn-axis", 1, 0, 0), lambda g: turned(g, 30.0, (1.0, 0.0, 0.0))),
        (("--move", 1, 0, 0, "--scale", 2), lambda g: moved(scaled(g, 2.0), (1.0, 0.0, 0.0))),
    ],
)  # fmt: skip
def test_a_flag_does_what_the_operation_of_its_name_does(tmp_path, asset, flags, expected):
    assert 0 < len(expected(asset)) and same(edited(tmp_path, *flags), expected(asset))


def test_several_files_are_joined_in_order(tmp_path, asset):
    save(ball(30, 1.0), tmp_path / "ball.splat")
    whole = edited(tmp_path, read=("in.ply", "ball.splat"))
    assert same(whole, join(asset, load(tmp_path / "ball.splat")))


def test_floaters_hidden_and_oversized_gaussians_are_dropped(tmp_path):
    object_ = join(ball(600, 1.0), ball(600, 0.97))
    core, crumb = ball(10, 0.2), moved(ball(3, 0.05), (4.0, 0.0, 0.0))
    save(join(object_, core, crumb), tmp_path / "in.ply")
    distances = edited(tmp_path, "--drop-floaters", "--drop-hidden", "--drop-oversized").means.norm(dim=1)
    assert int((distances > 0.99).sum()) == 600 and 0.96 < float(distances.min()) and float(distances.max()) < 1.01


def test_saturation_and_paint_change_the_colours_and_nothing_else(tmp_path, asset):
    grey = edited(tmp_path, "--saturation", 0)
    assert torch.allclose(grey.sh[..., 0], grey.sh[..., 1], atol=1e-5) and torch.equal(grey.means, asset.means)
    tinted = edited(tmp_path, "--tint", 1, 0, 1, "--overwrite")
    assert torch.allclose(sh_to_rgb(tinted.sh[:, 0])[:, 1], torch.zeros(len(asset)), atol=1e-5)
    painted = edited(tmp_path, "--paint", 0.2, 0.4, 0.6, "--overwrite")
    assert torch.allclose(sh_to_rgb(painted.sh[:, 0]), torch.tensor([0.2, 0.4, 0.6]), atol=1e-5)


def test_the_object_stands_on_the_ground_and_its_middle_is_the_origin(tmp_path, asset):
    low, high = extent(edited(tmp_path, "--centre"))
    assert torch.allclose(low, -high, atol=1e-4)
    low, _ = extent(edited(tmp_path, "--ground", "--overwrite"))
    assert float(low[2]) == pytest.approx(0, abs=1e-5)


def test_neighbours_are_merged_until_few_enough_are_left_and_degrees_change(tmp_path, asset):
    fewer = edited(tmp_path, "--max-gaussians", 40, "--sh-degree", 3)
    assert len(fewer) == 40 and fewer.sh_degree == 3
    assert all(bool((a - b).abs().max() < 0.5) for a, b in zip(bounds(fewer), bounds(asset), strict=True))


def test_an_input_may_be_replaced(tmp_path, asset):
    path = str(tmp_path / "in.ply")
    assert edit([path, path, "--scale", "2", "--overwrite"]) == 0
    assert same(load(path), scaled(asset, 2.0))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["in.ply"], "IN or OUT"),
        (["gone.ply", "out.ply"], "no such file"),
        (["in.ply", "out.xyz"], "Known endings"),
        (["in.ply", "nowhere/out.ply"], "does not exist"),
        (["in.ply", "in.ply"], "the file exists"),
        (["in.ply", "folder.ply"], "is a folder"),
        (["in.ply", "out.ply", "--crop-ball", "9", "9", "9", "1"], "no Gaussian is left"),
        (["in.ply", "out.ply", "--scale", "0"], "scale"),
        (["in.ply", "out.ply", "--max-scale", "nan"], "max-scale|max_scale"),
        (["in.ply", "out.ply", "--max-gaussians", "0"], "at least 1"),
        (["in.ply", "out.ply", "--crop-box", "1", "2"], "X Y Z"),
        (["in.ply", "out.ply", "--turn-deg", "5", "--turn-axis", "0", "0", "0"], "axis"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line_and_writes_nothing(
    tmp_path, asset, arguments, complaint, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.ply").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DreamsplatError, match=complaint) as refused:
        edit(arguments)
    assert "\n" not in str(refused.value) and sorted(tmp_path.rglob("*")) == before
