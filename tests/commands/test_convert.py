"""`dreamsplat convert`: what it writes, what it prints, what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData

from dreamsplat import formats
from dreamsplat.assets import merge, pruning
from dreamsplat.assets.frame import Z_UP_TO_Y_DOWN, Z_UP_TO_Y_UP, rotated
from dreamsplat.assets.gaussians import with_sh_degree
from dreamsplat.commands.convert import convert
from dreamsplat.errors import DreamsplatError, FileProblem, InvalidInput
from dreamsplat.files.kinds import EXPORTS
from dreamsplat.formats import FORMATS, Format, load, ply, save
from dreamsplat.mesh import BakeSettings, MeshSettings, SurfaceSettings, mesh_of
from dreamsplat.types import Gaussians

TARGETS = [*FORMATS, *EXPORTS]
CASES = Path(__file__).parent.parent / "cases"


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(pruning, "SIZE", 32)
    coarse = MeshSettings(surface=SurfaceSettings(resolution=24), bake=BakeSettings(views=8, size=64))
    monkeypatch.setattr("dreamsplat.mesh.mesh_of", lambda gaussians, settings: mesh_of(gaussians, coarse))


@pytest.fixture
def asset(tmp_path, random_gaussians) -> Path:
    """A file of 200 Gaussians of degree 1."""
    save(random_gaussians(200, 1), tmp_path / "asset.ply")
    return tmp_path / "asset.ply"


def near(one: Gaussians, other: Gaussians) -> bool:
    """Equal up to the logarithms and logits of a .ply."""
    return all(torch.allclose(values, vars(other)[name], rtol=1e-5, atol=1e-6) for name, values in vars(one).items())


def run(*arguments: object) -> None:
    assert convert([str(argument) for argument in arguments]) == 0


def refusal(*arguments: object) -> str:
    with pytest.raises(DreamsplatError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", TARGETS)
def test_every_target_is_written_and_its_path_content_and_size_are_printed(tmp_path, asset, capsys, suffix):
    out = tmp_path / f"out{suffix}"
    run(asset, out)
    told = capsys.readouterr().out
    pattern = rf"{re.escape(str(out))}: [\d,]+ (Gaussians|points|triangles), ([\d.e-]+) MB\n"
    assert (found := re.fullmatch(pattern, told)), told
    assert float(found[2]) == pytest.approx(out.stat().st_size / 1e6, rel=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["asset.ply", out.name])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_format_receives_the_asset_as_it_is(tmp_path, asset, suffix):
    out = tmp_path / f"out{suffix.upper()}"
    run(asset, out)
    converted = out.read_bytes()
    save(load(asset), out)
    assert out.read_bytes() == converted


def test_points_are_the_centres_of_what_is_not_faint_in_their_mean_colour(tmp_path, random_gaussians):
    gaussians = random_gaussians(4, 1)
    gaussians.opacities[:] = torch.tensor([0.9, 0.04, 0.06, 0.001])
    gaussians.sh[0, 0] = torch.tensor([0.0, 10.0, -10.0])
    save(gaussians, tmp_path / "asset.ply")
    run(tmp_path / "asset.ply", tmp_path / "out.points.ply")
    vertex = PlyData.read(str(tmp_path / "out.points.ply"))["vertex"]
    np.testing.assert_array_equal(vertex["x"], gaussians.means[[0, 2], 0])
    assert [int(vertex[name][0]) for name in ("red", "green", "blue")] == [128, 255, 0]


@pytest.mark.parametrize(("axis", "turn"), [("y", Z_UP_TO_Y_UP), ("-y", Z_UP_TO_Y_DOWN), ("z", torch.eye(3))])
@pytest.mark.parametrize("form", ["--up-axis {}", "--up-axis={}"])
def test_the_up_axis_of_the_file_is_the_one_that_was_asked_for(tmp_path, asset, axis, turn, form):
    run(asset, tmp_path / "out.ply", *form.format(axis).split())
    turned = load(tmp_path / "out.ply")
    assert near(turned, rotated(load(asset), turn))
    up = torch.tensor({"y": [0.0, 1, 0], "-y": [0, -1.0, 0], "z": [0, 0, 1.0]}[axis])
    torch.testing.assert_close(turned.means @ up, load(asset).means[:, 2])


@pytest.mark.parametrize("axis", ["y", "-y", "z"])
def test_a_file_that_stands_otherwise_comes_in_as_it_went_out(tmp_path, asset, axis):
    run(asset, tmp_path / "turned.ply", f"--up-axis={axis}")
    run(tmp_path / "turned.ply", tmp_path / "back.ply", f"--from-up-axis={axis}")
    before, after = load(asset), load(tmp_path / "back.ply")
    signs = (before.quats * after.quats).sum(dim=1, keepdim=True).sign()  # q and -q are one turn.
    assert near(replace(after, quats=signs * after.quats), before)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_have_the_degree_that_was_asked_for(tmp_path, asset, degree):
    run(asset, tmp_path / "out.ply", "--sh-degree", degree)
    ply.write(with_sh_degree(load(asset), degree), tmp_path / "direct.ply")
    assert (tmp_path / "out.ply").read_bytes() == (tmp_path / "direct.ply").read_bytes()
    assert load(tmp_path / "out.ply").sh_degree == degree


def test_a_mesh_is_as_fine_as_was_asked_for(tmp_path, asset, monkeypatch, capsys):
    monkeypatch.setattr("dreamsplat.mesh.mesh_of", mesh_of)
    counts = []
    for resolution in (16, 32):
        run(asset, tmp_path / f"{resolution}.obj", "--surface.resolution", resolution, "--bake.views", 2)
        counts.append((tmp_path / f"{resolution}.obj").read_text().count("\nf "))
    assert 0 < counts[0] < counts[1] / 2


# --- smaller files ----------------------------------------------------------------------------------------------------


def test_a_limit_of_gaussians_merges_neighbours_and_says_what_is_lost(tmp_path, asset, capsys):
    run(asset, tmp_path / "out.ply", "--max-gaussians", 50)
    expected = merge(load(asset), 50)
    assert near(load(tmp_path / "out.ply"), expected)
    psnr_db = pruning.picture_psnr(load(asset), expected)
    assert "50 Gaussians" in (printed := capsys.readouterr().out)
    assert f" from 200, PSNR of the pictures {psnr_db:.1f} dB\n" in printed and psnr_db > 5


@pytest.mark.parametrize("suffix", [*FORMATS, ".points.ply"])
def test_a_limit_of_size_holds_for_every_target(tmp_path, asset, suffix):
    run(asset, tmp_path / f"whole{suffix}")
    whole = (tmp_path / f"whole{suffix}").stat().st_size
    limit = 0.7 * whole / 1e6
    try:
        run(asset, tmp_path / f"out{suffix}", "--max-mb", limit)
    except InvalidInput as error:  # a page with its viewer inside cannot be as small as that
        assert "one Gaussian takes" in str(error)
    else:
        assert 0 < (tmp_path / f"out{suffix}").stat().st_size <= limit * 1e6


def test_a_ply_fills_the_size_that_it_was_given(tmp_path, asset, capsys):
    run(asset, tmp_path / "out.ply", "--max-mb", 0.01)
    assert 0.98e4 < (tmp_path / "out.ply").stat().st_size <= 1e4
    assert "from 200, PSNR" in capsys.readouterr().out


def test_both_limits_and_both_changes_work_together(tmp_path, asset):
    options = ["--max-mb", 0.01, "--max-gaussians", 20, "--up-axis", "y", "--sh-degree", 3]
    run(asset, tmp_path / "out.ply", *options)
    loaded = load(tmp_path / "out.ply")
    assert len(loaded) == 20 and loaded.sh_degree == 3
    run(asset, tmp_path / "again.ply", *options)
    assert (tmp_path / "out.ply").read_bytes() == (tmp_path / "again.ply").read_bytes()


def test_limits_that_are_met_already_change_nothing(tmp_path, asset, capsys):
    run(asset, tmp_path / "out.ply", "--max-mb", 1, "--max-gaussians", 200)
    assert near(load(tmp_path / "out.ply"), load(asset))
    assert "PSNR" not in capsys.readouterr().out


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_existing_file_is_replaced_only_on_request(tmp_path, asset):
    (tmp_path / "out.ply").write_text("old")
    assert "add --overwrite" in refusal(asset, tmp_path / "out.ply")
    assert (tmp_path / "out.ply").read_text() == "old"
    run(asset, tmp_path / "out.ply", "--overwrite")
    assert near(load(tmp_path / "out.ply"), load(asset))


def test_a_file_is_never_written_onto_itself(tmp_path, asset, monkeypatch):
    before = asset.read_bytes()
    (tmp_path / "link.ply").symlink_to(asset)
    monkeypatch.chdir(tmp_path)
    for out in (asset, "asset.ply", tmp_path / "link.ply"):
        assert "is the input file" in refusal(asset, out, "--overwrite", "--max-gaussians", 1)
    assert asset.read_bytes() == before


@pytest.mark.parametrize(
    ("out", "options", "error", "message"),
    [
        ("out.obj8", [], FileProblem, r"unknown format '.obj8'. Known endings: .*\.ply, .*\.points\.ply"),
        ("out", [], FileProblem, "unknown format ''"),
        (".ply", [], FileProblem, "unknown format"),
        ("none/out.ply", [], FileProblem, "the folder '.*none' does not exist"),
        ("folder.ply", [], FileProblem, "is a folder"),
        ("n" * 300 + ".ply", [], FileProblem, "cannot be used .*too long"),
        ("out.ply", ["--max-gaussians", "0"], InvalidInput, "max_gaussians: 0"),
        ("out.ply", ["--max-mb", "0"], InvalidInput, "max_mb: 0"),
        ("out.ply", ["--max-mb", "nan"], InvalidInput, "max_mb: nan"),
        ("out.ply", ["--max-mb", "inf"], InvalidInput, "max_mb: inf"),
        ("out.ply", ["--bake.views", "3"], InvalidInput, ".ply files hold no mesh"),
        ("out.obj", ["--surface.gap", "9"], InvalidInput, "surface.gap: 9, expected at least 0"),
        ("out.ply", ["--max-mb", "0.0001"], InvalidInput, "one Gaussian takes .* bytes, expected at most 100"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(tmp_path, asset, out, options, error, message):
    (tmp_path / "folder.ply").mkdir()
    before = sorted(tmp_path.iterdir())
    told = refusal(asset, tmp_path / out, *options)
    assert re.search(message, told), told
    with pytest.raises(error):
        run(asset, tmp_path / out, *options)
    assert sorted(tmp_path.iterdir()) == before


def test_a_format_with_an_up_axis_of_its_own_takes_no_other(tmp_path, asset, monkeypatch):
    monkeypatch.setitem(FORMATS.loaded, ".glb", Format("a stand-in", ply.write, ply.read))
    assert ".glb files always have +y up" in refusal(asset, tmp_path / "out.glb", "--up-axis", "y")
    run(asset, tmp_path / "out.glb")
    assert ".glb files always have +y up" in refusal(tmp_path / "out.glb", tmp_path / "out.ply", "--from-up-axis", "y")


def test_a_damaged_or_missing_file_is_refused_before_anything_is_written(tmp_path, asset):
    (tmp_path / "bad.ply").write_bytes(asset.read_bytes()[:-1])
    assert "truncated" in refusal(tmp_path / "bad.ply", tmp_path / "out.ply")
    assert "no such file" in refusal(tmp_path / "none.ply", tmp_path / "out.ply")
    (tmp_path / "a.txt").write_text("words")
    assert "neither its content nor its name" in refusal(tmp_path / "a.txt", tmp_path / "out.ply")
    assert not (tmp_path / "out.ply").exists()


def test_an_empty_asset_is_converted_too(tmp_path, random_gaussians):
    save(random_gaussians(0), tmp_path / "asset.ply")
    run(tmp_path / "asset.ply", tmp_path / "out.ply", "--max-gaussians", 3, "--up-axis", "y")
    assert len(formats.load(tmp_path / "out.ply")) == 0


@pytest.mark.parametrize("suffix", [".obj", ".mesh.glb"])
def test_a_limit_of_size_is_refused_for_meshes(tmp_path, asset, suffix):
    assert "cannot limit the size of a mesh. Omit --max-mb." in refusal(asset, tmp_path / f"out{suffix}", "--max-mb", 1)


def test_map_coordinates_keep_their_detail_where_the_object_is_centred(tmp_path, capsys, caplog):
    run(CASES / "utm_double.ply", tmp_path / "centred.ply", "--centre")
    assert caplog.messages == [] and float(load(tmp_path / "centred.ply").means.abs().max()) < 1.5
    run(CASES / "utm_double.ply", tmp_path / "far.ply")
    assert "detail is lost. Add --centre" in caplog.messages[0]


def test_a_file_by_splat_transform_2_is_stood_up(tmp_path):
    run(CASES / "by_splat_transform_2.7.1.spz", tmp_path / "a.ply", "--from-up-axis", "-z")
    upright = load(CASES / "by_splat_transform_3.7.0.spz")
    assert pruning.picture_psnr(upright, load(tmp_path / "a.ply")) > 40


def test_strict_refuses_what_would_be_dropped(tmp_path):
    assert "7 of 50 Gaussians cannot be drawn" in refusal(CASES / "nan_rows.ply", tmp_path / "out.ply", "--strict")
    run(CASES / "nan_rows.ply", tmp_path / "out.ply")
    assert len(load(tmp_path / "out.ply")) == 43


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_plain_point_cloud_becomes_any_kind_of_splats(tmp_path, suffix):
    run(CASES / "rgb_short.ply", tmp_path / f"out{suffix}")
    if FORMATS[suffix].read:
        assert len(load(tmp_path / f"out{suffix}")) == 50
