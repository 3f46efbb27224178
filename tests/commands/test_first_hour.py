"""What a newcomer met in the first hour: each said or refused in one line."""

import json

import pytest
from command_line import is_one_error
from safetensors import SafetensorError

from dreamsplat import save
from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import replacing
from dreamsplat.runs import find_runs


@pytest.mark.parametrize("name", ["x.mesh.glb", "x.points.ply", "x.obj", "x.stl"])
def test_edit_and_save_do_not_write_gaussians_into_files_named_as_meshes_or_points(
    run, asset, tmp_path, random_gaussians, name
):
    code, _, err = run("edit", asset, tmp_path / name)
    assert code == 2 and "files hold no Gaussians" in err and "dreamsplat convert" in err
    with pytest.raises(FileProblem, match="hold no Gaussians"):
        save(random_gaussians(3), tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--paint", 2, 0, 0), "--paint: 2.0, expected at least 0 and at most 1"),
        (("--paint", "nan", 0, 0), "--paint: nan"),
        (("--tint", -1, 0, 0), "--tint: -1.0"),
        (("--move", 0, 0, "nan"), "--move: nan"),
        (("--crop-box", 1, 1, 1, 0, 0, 0), "--crop-box: 1 1 1 0 0 0, expected the lower corner first"),
        (("--crop-ball", 0, 0, 0, -1), "--crop-ball: -1.0"),
        (("--turn-deg", 30, "--turn-axis", 0, 0, 0), "--turn-axis: 0 0 0, expected a direction"),
        (("--scale", 1e30), "--scale: 1e+30"),
    ],
)
def test_numbers_that_leave_nothing_are_refused_by_their_flag(run, asset, tmp_path, flags, message):
    code, _, err = run("edit", asset, tmp_path / "out.ply", *flags)
    assert code == 2 and message in err and is_one_error(err)
    assert not (tmp_path / "out.ply").exists()


def test_a_full_disk_is_said_as_such_by_a_library_in_rust_too(tmp_path):
    with pytest.raises(FileProblem, match="No space left on device") as caught, replacing(tmp_path / "a.safetensors"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "Free some space" in caught.value.advice


def test_runs_with_the_default_name_are_listed(run, tmp_path):
    folder = tmp_path / "runs" / "a-red-car-0"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    assert find_runs(tmp_path) == [folder]
    empty = tmp_path / "empty"
    empty.mkdir()
    code, out, _ = run("runs", empty)
    assert code == 0 and f"No runs in '{empty}'." in out


def test_info_without_a_file_says_so(run):
    code, _, err = run("info")
    assert code == 2 and "missing: FILE" in err


def test_the_folder_of_a_run_is_named_as_such(run, tmp_path, random_gaussians):
    save(random_gaussians(3), tmp_path / "asset.ply")
    for command in (
        ("info", tmp_path),
        ("render", tmp_path, "--out", tmp_path / "a.png"),
        ("convert", tmp_path, tmp_path / "a.spz"),
    ):
        code, _, err = run(*command)
        assert code == 2 and "folder of a run" in err and str(tmp_path / "asset.ply") in err


def test_settings_of_a_run_are_not_taken_for_an_unpacked_sog(run, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"representation": {"rates": {"means": 0.002, "quats": 0.005}}}))
    code, _, err = run("info", path)
    assert code == 2 and "a JSON file, not Gaussians" in err
