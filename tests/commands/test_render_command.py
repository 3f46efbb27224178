"""`dreamsplat render`: pictures, films, what it refuses, and that a film of any length takes no more memory."""

from __future__ import annotations

import gc
import weakref
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import is_one_error
from PIL import Image
from spheres import ball

from dreamsplat import save
from dreamsplat.assets import join, moved, scaled
from dreamsplat.assets.draw import Frames
from dreamsplat.assets.radiance_field import RadianceField
from dreamsplat.formats.video import write_turntable
from dreamsplat.method.cameras import orbit

CASES = Path(__file__).parent.parent / "cases"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_a_rendered_picture_follows_size_azimuth_and_background(run, asset, tmp_path):
    pictures = {}
    for azimuth in (0, 90, 360):
        code, out, err = run("render", asset, "--out", tmp_path / f"{azimuth}.png", "--azimuth-deg", azimuth,
                             "--size", 64, "--background", 0, 0, 1)  # fmt: skip
        assert code == 0 and out.strip() == str(tmp_path / f"{azimuth}.png"), err
        pictures[azimuth] = pixels(tmp_path / f"{azimuth}.png")
    assert pictures[0].shape == (64, 64, 3) and pictures[0][0, 0].tolist() == [0, 0, 255]
    assert np.abs(pictures[0] - pictures[90]).max() > 20 and np.abs(pictures[0] - pictures[360]).max() <= 1


@pytest.fixture
def field(tmp_path):
    """A file of a radiance field: a yellow cube in the middle."""
    grid = torch.full((4, 17, 17, 17), -9.0)
    grid[:3, 5:12, 5:12, 5:12] = 4.0
    save(RadianceField(grid, 1.0), tmp_path / "field.safetensors")
    return tmp_path / "field.safetensors"


@pytest.mark.parametrize("flags", [(), ("--distance", 4)])
def test_a_radiance_field_is_drawn_as_it_is(run, field, tmp_path, flags):
    code, _, err = run("render", field, "--out", tmp_path / "a.png", "--size", 64, *flags)
    assert code == 0 and err == "", err
    picture = pixels(tmp_path / "a.png")
    assert picture[32, 32].tolist() == pytest.approx([250, 250, 0], abs=8) and picture[0, 0].tolist() == [255] * 3
    for show in ("alpha", "depth"):
        code, _, err = run("render", field, "--out", tmp_path / f"{show}.png", "--size", 32, "--show", show, *flags)
        assert code == 0 and pixels(tmp_path / f"{show}.png")[16, 16, 0] > 100
    code, _, err = run("render", field, "--out", tmp_path / "film.gif", "--frames", 3, "--size", 32)
    assert code == 0, err


def test_a_turntable_has_the_frames_asked_for(run, asset, tmp_path):
    code, _, err = run("render", asset, "--out", tmp_path / "film.gif", "--frames", 5, "--size", 32)
    assert code == 0, err
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 5 and film.size == (32, 32)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--out", "x.jpg"), "unknown format '.jpg'. Known endings: .gif, .mp4, .png, .webp."),
        (("--out", "none/x.png"), "none/x.png: the folder 'none' does not exist. Create it first."),
        (("--out", "n" * 300 + ".png"), "File name too long"),
        (("--out", "folder.png"), "is a folder"),
        (("--out", "x.png", "--size", 0), "expected 1 to 8192 px for a picture"),
        (("--out", "x.png", "--size", 8193), "expected 1 to 8192 px for a picture"),
        (("--out", "x.mp4", "--size", 8192, "--frames", 10000), "expected 1 to 4096 px for a film"),
        (("--out", "x.gif", "--frames", 10001), "expected 1 to 10000"),
        (("--out", "x.png", "--background", 255, 0, 0), "three numbers from 0 to 1"),
        (("--out", "x.png", "--azimuth-deg", "nan"), "expected at least -1e+06"),
        (("--out", "x.png", "--distance", "inf"), "expected above 0"),
        (("--out", "x.png", "--distance", -1), "distance"),
        (("--out", "x.png", "--elevation-deg", 91), "elevation"),
    ],
)
def test_what_cannot_be_drawn_is_one_error(run, asset, monkeypatch, flags, message):
    monkeypatch.chdir(asset.parent)
    (asset.parent / "folder.png").mkdir()
    code, _, err = run("render", asset, *flags)
    assert code == 2 and is_one_error(err) and message in err


def test_an_existing_picture_is_replaced_only_on_request(run, asset, tmp_path):
    (tmp_path / "x.png").write_text("old")
    code, _, err = run("render", asset, "--out", tmp_path / "x.png", "--size", 32)
    assert code == 2 and is_one_error(err) and "the file exists. Choose another name, or add --overwrite." in err
    assert (tmp_path / "x.png").read_text() == "old"
    assert run("render", asset, "--out", tmp_path / "x.png", "--size", 32, "--overwrite")[0] == 0
    assert pixels(tmp_path / "x.png").shape == (32, 32, 3)


@pytest.mark.parametrize("content", [None, b"", b"ply\nformat ascii 1.0\nelement vertex 1\nend_header\n", b"\x00" * 99])
def test_a_missing_or_corrupt_asset_is_one_error_that_names_it(run, tmp_path, content):
    if content is not None:
        (tmp_path / "bad.ply").write_bytes(content)
    code, _, err = run("render", tmp_path / "bad.ply", "--out", tmp_path / "x.png")
    assert code == 2 and is_one_error(err) and str(tmp_path / "bad.ply") in err and not (tmp_path / "x.png").exists()


# --- long films -------------------------------------------------------------------------------------------------------


class Counted:
    """Frames that count how many of them exist at a time."""

    def __init__(self, count: int) -> None:
        self.count, self.alive, self.most = count, 0, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self):
        for index in range(self.count):
            frame = torch.full((16, 16, 3), index / self.count)
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(frame, self.gone)
            yield frame
            del frame

    def gone(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif"])
@pytest.mark.parametrize("count", [10, 80])
def test_however_long_a_film_few_of_its_frames_exist_at_a_time(tmp_path, suffix, count):
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg")
    frames = Counted(count)
    write_turntable(frames, tmp_path / f"film{suffix}")
    gc.collect()
    assert frames.most <= 2 and frames.alive == 0


@pytest.mark.parametrize(("size", "most"), [(8, 8), (512, 8), (1024, 2), (3000, 1)])
def test_few_cameras_are_rendered_at_a_time_and_fewer_of_large_pictures(random_gaussians, monkeypatch, size, most):
    asked: list[int] = []

    def nothing(gaussians, cameras, background):
        asked.append(len(cameras))
        return type("Rendering", (), {"rgb": torch.zeros(len(cameras), 1, 1, 3)})

    monkeypatch.setattr(import_module("dreamsplat.assets.draw"), "render", nothing)
    frames = Frames(random_gaussians(1), orbit(20, size=size).cameras)
    assert sum(1 for _ in frames) == len(frames) == 20
    assert max(asked) == most and sum(asked) == 20


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ".gif"])
def test_a_film_that_fails_half_way_leaves_the_old_one_and_nothing_beside_it(tmp_path, suffix):
    class Broken(Counted):
        def __iter__(self):
            yield from [torch.zeros(16, 16, 3)] * 3
            raise KeyboardInterrupt

    (tmp_path / f"film{suffix}").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_turntable(Broken(10), tmp_path / f"film{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == [f"film{suffix}"]
    assert (tmp_path / f"film{suffix}").read_text() == "old"


def drawn(path: Path) -> np.ndarray:
    """Which pixels are more of a red ball than of the white behind it."""
    return pixels(path).min(axis=-1) < 150


@pytest.mark.parametrize(("size", "place"), [(0.01, (0, 0, 0)), (1.0, (100.0, -50.0, 7.0)), (300.0, (0, 0, 1e4))])
@pytest.mark.parametrize("shape", [(64, 64), (96, 48), (40, 80)])
def test_the_object_fills_the_picture_whatever_its_size_and_place(run, tmp_path, size, place, shape):
    save(moved(scaled(ball(300, 1.0), size), place), tmp_path / "a.ply")
    width, height = shape
    code, _, err = run("render", tmp_path / "a.ply", "--out", tmp_path / "a.png", "--width", width, "--height", height)
    assert code == 0 and "warning" not in err
    shown = drawn(tmp_path / "a.png")
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert shown.shape == (height, width)
    assert rows[0] > 0 and columns[0] > 0 and rows[-1] < height - 1 and columns[-1] < width - 1
    assert max(len(rows) / height, len(columns) / width) > 0.75 and min(len(rows), len(columns)) > 0.7 * min(shape)


def test_several_azimuths_make_one_picture_each(run, asset, tmp_path):
    flags = ("--azimuth-deg", 0, -90, 12.5, "--size", 32)
    code, out, err = run("render", asset, "--out", tmp_path / "a.png", *flags)
    names = [str(tmp_path / f"a-{angle}.png") for angle in ("0", "-90", "12.5")]
    assert code == 0 and out.split() == names, err
    code, _, err = run("render", asset, "--out", tmp_path / "a.png", *flags)
    assert code == 2 and "the file exists" in err
    run("render", asset, "--out", tmp_path / "one.png", "--azimuth-deg", -90, "--size", 32)
    assert np.array_equal(pixels(tmp_path / "one.png"), pixels(Path(names[1])))


def test_alpha_is_white_where_the_object_is_and_depth_brightest_where_it_is_nearest(run, tmp_path):
    save(join(ball(400, 1.0), moved(ball(200, 0.3), (0.0, -1.2, 0.0))), tmp_path / "a.ply")
    for show in ("alpha", "depth"):
        code, _, err = run("render", tmp_path / "a.ply", "--out", tmp_path / f"{show}.png", "--show", show,
                           "--size", 64, "--elevation-deg", 0)  # fmt: skip
        assert code == 0, err
    alpha, depth = pixels(tmp_path / "alpha.png")[..., 0], pixels(tmp_path / "depth.png")[..., 0]
    assert alpha[32, 32] > 250 and alpha[0, 0] == 0 and depth[0, 0] == 0
    assert depth[32, 32] > 230 and 20 <= depth[32, 14] < depth[32, 22] < depth[32, 32]


def test_nothing_in_view_is_said(run, asset, tmp_path):
    code, _, err = run("render", CASES / "utm_double.ply", "--out", tmp_path / "a.png", "--distance", 3, "--size", 16)
    assert code == 0 and "nothing is in view. Omit --distance" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--out", "x.mp4", "--azimuth-deg", 0, 90), "a film starts at one azimuth"),
        (("--out", "x.gif", "--show", "depth"), "a film starts at one azimuth"),
        (("--out", "x.png", "--width", 0), "--width: 0, expected 1 to 8192"),
        (("--out", "x.png", "--show", "normal"), "expected one of"),
    ],
)
def test_pictures_that_cannot_be_made_are_refused(run, asset, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("render", asset, *flags)
    assert code == 2 and out == "" and message in err and is_one_error(err)
