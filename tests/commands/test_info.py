"""`dreamsplat info`: what it says of files, and that it changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import is_one_error
from spheres import ball

from dreamsplat import save
from dreamsplat.assets import join, moved
from dreamsplat.assets.radiance_field import RadianceField

CASES = Path(__file__).parent.parent / "cases"


def test_kind_count_degree_and_bounds_are_said(run, tmp_path, random_gaussians):
    save(random_gaussians(77, 2), tmp_path / "a.spz")
    code, out, _ = run("info", tmp_path / "a.spz")
    assert code == 0 and out.startswith(f"{tmp_path / 'a.spz'}: .spz file, ")
    assert "77, harmonics of degree 2, centres in float32" in out and "x -0.4" in out
    assert list(tmp_path.iterdir()) == [tmp_path / "a.spz"]


def test_a_radiance_field_is_described(run, tmp_path):
    grid = torch.full((4, 9, 9, 9), -9.0)
    grid[:, 3:6, 3:6, 3:6] = 2.0
    save(RadianceField(grid, 0.5), tmp_path / "a.safetensors")
    code, out, _ = run("info", tmp_path / "a.safetensors")
    assert code == 0 and "radiance field" in out and "9 x 9 x 9 voxels, sides of 0.125; 17.1 % not empty" in out


def test_oddities_are_said_with_the_way_to_remove_them(run, tmp_path):
    save(join(ball(400, 1.0), moved(ball(3, 0.02), (5.0, 0.0, 0.0))), tmp_path / "a.ply")
    _, out, _ = run("info", tmp_path / "a.ply")
    assert "3 floaters: dreamsplat edit --drop-floaters removes them" in out
    _, out, err = run("info", CASES / "nan_rows.ply")
    assert "43, harmonics" in out and "dropped 7 of 50 Gaussians" in err


def test_several_files_clouds_and_folders(run):
    code, out, _ = run("info", CASES / "rgb_short.ply", CASES / "unbundled", CASES / "utm_double.ply")
    assert code == 0 and "rgb_short.ply: PLY of points" in out and "50, which become small balls" in out
    assert "unbundled: SOG file" in out and "x 4299999 to 4300001" in out and "centres in float64" in out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.ply", "no such file"),
        ("three.glb", "a mesh as .glb, not Gaussians"),
        ("nan_rows.ply --strict", "7 of 50"),
    ],
)
def test_what_cannot_be_said_is_refused_in_one_line(run, name, message):
    name, *flags = name.split()
    code, _, err = run("info", CASES / name, *flags)
    assert code == 2 and message in err and is_one_error(err)
