"""Files: what is written, what is read, and that damaged files are refused in one clear line."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import repeatable
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from plyfile import PlyData, PlyElement

from dreamsplat.assets.gaussians import with_sh_degree
from dreamsplat.errors import DreamsplatError, FileProblem, InvalidInput
from dreamsplat.files.atomic import replacing
from dreamsplat.formats import FORMATS, load, ply, save
from dreamsplat.formats.ply import OPACITY_MARGIN, save_points
from dreamsplat.formats.png import write_png
from dreamsplat.formats.video import write_turntable
from dreamsplat.maths.srgb import to_uint8
from dreamsplat.types import Gaussians, PointCloud

C0 = 0.28209479177387814
LOSSLESS = {".ply"}
NEVER_EMPTY = {".glb"}


def one(**changes) -> Gaussians:
    """One Gaussian at the origin, with some fields changed."""
    plain = Gaussians(
        means=torch.zeros(1, 3),
        scales=torch.full((1, 3), 0.1),
        quats=torch.tensor([[1.0, 0, 0, 0]]),
        opacities=torch.tensor([0.5]),
        sh=torch.zeros(1, 1, 3),
    )
    return dataclasses.replace(plain, **{name: torch.tensor(value) for name, value in changes.items()})


# --- any format -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if FORMATS[suffix].read])
@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_loading_gives_back_what_was_saved(tmp_path, random_gaussians, suffix, sh_degree, count):
    saved = random_gaussians(count, sh_degree)
    if count == 0 and suffix in NEVER_EMPTY:
        with pytest.raises(FileProblem, match="0 Gaussians"):
            save(saved, tmp_path / f"asset{suffix}")
        return
    save(saved, tmp_path / f"asset{suffix}")
    loaded = load(tmp_path / f"asset{suffix}")
    assert len(loaded) == count
    if suffix not in LOSSLESS:  # the tests of such a format say how near it comes
        return
    assert loaded.sh_degree == sh_degree
    for field in dataclasses.fields(Gaussians):
        torch.testing.assert_close(getattr(loaded, field.name), getattr(saved, field.name), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("suffix", FORMATS)
def test_saving_twice_gives_the_same_bytes(tmp_path, random_gaussians, suffix):
    gaussians = random_gaussians(50, 3)
    save(gaussians, tmp_path / f"asset{suffix}")
    first = (tmp_path / f"asset{suffix}").read_bytes()
    save(gaussians.to(torch.float64), str(tmp_path / f"asset{suffix}"))
    assert (tmp_path / f"asset{suffix}").read_bytes() == first


def test_a_compressed_ply_is_known_by_its_header_whatever_its_name(tmp_path, random_gaussians):
    save(random_gaussians(300, 1), tmp_path / "a.compressed.ply")
    (tmp_path / "a.compressed.ply").rename(tmp_path / "b.ply")
    assert len(load(tmp_path / "b.ply")) == 300


def test_a_format_that_is_only_written_is_refused_with_those_that_can_be_read(tmp_path, random_gaussians):
    save(random_gaussians(3), tmp_path / "page.html")
    with pytest.raises(FileProblem, match=r"cannot be read back.*\.ply"):
        load(tmp_path / "page.html")


def test_saving_takes_gaussians_that_carry_gradients(tmp_path):
    gaussians = one()
    gaussians.means.requires_grad_()
    save(gaussians, tmp_path / "a.ply")
    assert not load(tmp_path / "a.ply").means.requires_grad


@pytest.mark.parametrize("name", ["asset.xyz", "asset", "asset.ply.txt"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path, name):
    with pytest.raises(FileProblem, match=r"saved as '.*'\. Known endings: .*\.ply"):
        save(one(), tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": [[float("nan"), 0, 0]]}, "means: a value is NaN"),
        ({"sh": [[[float("inf"), 0, 0]]]}, "sh: a value is NaN"),
        ({"scales": [[0.1, 0.0, 0.1]]}, "scales: a value is not above 0"),
        ({"opacities": [1.01]}, "opacities: a value is outside"),
        ({"quats": [[0.0, 0, 0, 0]]}, "quats: a quaternion is 0"),
    ],
)
def test_values_that_no_reader_could_use_are_not_written(tmp_path, changes, message):
    with pytest.raises(InvalidInput, match=message):
        save(one(**changes), tmp_path / "asset.ply")
    assert list(tmp_path.iterdir()) == []


# --- the standard PLY, against an independent reader and writer -------------------------------------------------------


def test_a_written_ply_follows_the_standard_layout(tmp_path, random_gaussians):
    gaussians = random_gaussians(20, 3)
    save(gaussians, tmp_path / "asset.ply")
    written = PlyData.read(str(tmp_path / "asset.ply"))
    vertex = written["vertex"]
    names = [p.name for p in vertex.properties]
    assert not written.text and written.byte_order == "<" and all(p.val_dtype == "f4" for p in vertex.properties)
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:54] == [f"f_rest_{i}" for i in range(45)]
    assert names[54:] == ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    np.testing.assert_array_equal(vertex["z"], gaussians.means[:, 2])
    assert not vertex["nx"].any()
    np.testing.assert_array_equal(vertex["f_dc_1"], gaussians.sh[:, 0, 1])
    # f_rest_0, 15 and 30 are red, green and blue of the first coefficient of degree 1.
    np.testing.assert_array_equal(np.stack([vertex[f"f_rest_{i}"] for i in (0, 15, 30)], -1), gaussians.sh[:, 1])
    np.testing.assert_array_equal(vertex["f_rest_44"], gaussians.sh[:, 15, 2])
    np.testing.assert_allclose(vertex["opacity"], torch.logit(gaussians.opacities), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(vertex["scale_2"], gaussians.scales[:, 2].log(), rtol=1e-6)
    np.testing.assert_allclose(vertex["rot_0"], gaussians.quats[:, 0], rtol=1e-5, atol=1e-7)


def written_by_plyfile(path: Path, vertices: np.ndarray, extra: list[PlyElement] | None = None, **options) -> Path:
    PlyData([PlyElement.describe(vertices, "vertex"), *(extra or [])], byte_order="<", **options).write(str(path))
    return path


def standard_vertices(count: int = 3, kind: str = "f4", drop: tuple[str, ...] = (), rest: int = 0) -> np.ndarray:
    names = ["rot_3", "rot_2", "rot_1", "rot_0", "opacity", "scale_0", "scale_1", "scale_2", "f_dc_0", "f_dc_1"]
    names += ["f_dc_2", *(f"f_rest_{i}" for i in range(rest)), "x", "y", "z", "label"]
    vertices = np.zeros(count, dtype=[(n, "u1" if n == "label" else kind) for n in names if n not in drop])
    for name in set(names) - set(drop):
        vertices[name] = {"rot_0": 2, "opacity": -1, "x": 0.25, "scale_1": -3, "f_dc_0": 0.5 / C0}.get(name, 0)
    return vertices


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_a_ply_of_another_writer_is_read_whatever_the_order_of_its_properties(tmp_path, kind):
    faces = PlyElement.describe(np.array([([0, 1, 2],)], dtype=[("vertex_indices", "O")]), "face")
    comments = ["made elsewhere", "element vertex 7"]
    path = written_by_plyfile(tmp_path / "other.ply", standard_vertices(kind=kind), [faces], comments=comments)
    loaded = load(path)
    assert len(loaded) == 3 and all(v.dtype == torch.float32 for v in vars(loaded).values())
    torch.testing.assert_close(loaded.means[0], torch.tensor([0.25, 0, 0]))
    torch.testing.assert_close(loaded.quats[0], torch.tensor([1.0, 0, 0, 0]))  # 2 0 0 0 in the file
    torch.testing.assert_close(loaded.opacities[0], torch.tensor(-1.0).sigmoid())
    torch.testing.assert_close(loaded.scales[0], torch.tensor([0.0, -3, 0]).exp())
    torch.testing.assert_close(0.5 + C0 * loaded.sh[0, 0], torch.tensor([1.0, 0.5, 0.5]))


@pytest.mark.parametrize("opacity", [0.0, 1.0, 1e-12])
def test_opacities_0_and_1_are_written_as_finite_logits(tmp_path, opacity):
    save(one(opacities=[opacity]), tmp_path / "asset.ply")
    assert np.isfinite(PlyData.read(str(tmp_path / "asset.ply"))["vertex"]["opacity"]).all()
    assert abs(float(load(tmp_path / "asset.ply").opacities[0]) - opacity) <= 1.1 * OPACITY_MARGIN


def test_infinite_logits_of_other_writers_mean_opaque_and_clear(tmp_path):
    vertices = standard_vertices(2)
    vertices["opacity"] = [np.inf, -np.inf]
    assert load(written_by_plyfile(tmp_path / "a.ply", vertices)).opacities.tolist() == [1.0, 0.0]


def test_scales_below_what_float32_holds_stay_above_zero(tmp_path):
    vertices = standard_vertices(1)
    vertices["scale_0"] = -500
    assert float(load(written_by_plyfile(tmp_path / "a.ply", vertices)).scales.min()) > 0


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(FileProblem, match=message) as caught:
        load(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: ") and "\n" not in told and told.isprintable()
    assert told.count(". ") >= 1 and told.endswith(("again.", "first.", ".ply.", "file`.", "path.", "file.")), told


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert_refused(tmp_path / "none.ply", "no such file")
    (tmp_path / "folder.ply").mkdir()
    assert_refused(tmp_path / "folder.ply", "cannot be read")


@pytest.mark.parametrize("content", [b"", b"ply", b"solid cube\n", b"plywood\n", b"ply\n" + b"x\n" * 99])
def test_what_is_not_a_ply_is_refused(tmp_path, content):
    (tmp_path / "a.ply").write_bytes(content)
    assert_refused(tmp_path / "a.ply", "not a PLY file")


@pytest.mark.parametrize("kept", [0.999, 0.7, 0.3])
def test_a_truncated_file_is_refused(tmp_path, random_gaussians, kept):
    save(random_gaussians(200), tmp_path / "a.ply")
    content = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(content[: int(kept * len(content))])
    assert_refused(tmp_path / "a.ply", "truncated: it ends before the last of 200 records")


@pytest.mark.parametrize("count", ["99999999999999999", "9" * 400, "-1", "1e9", "\N{SUPERSCRIPT TWO}", "0x10"])
def test_an_absurd_number_of_vertices_is_refused_without_allocating(tmp_path, count):
    save(one(), tmp_path / "a.ply")
    content = (tmp_path / "a.ply").read_bytes().replace(b"vertex 1\n", f"vertex {count}\n".encode())
    (tmp_path / "a.ply").write_bytes(content)
    assert_refused(tmp_path / "a.ply", "truncated|does not say how many")


@pytest.mark.parametrize("drop", [("opacity",), ("x", "y", "z"), ("rot_2",), ("f_dc_0",), ("scale_1",)])
def test_missing_properties_are_named(tmp_path, drop):
    path = written_by_plyfile(tmp_path / "a.ply", standard_vertices(drop=drop))
    assert_refused(path, f"lacks {', '.join(drop)}")


@pytest.mark.parametrize("rest", [1, 8, 44, 46])
def test_an_incomplete_set_of_harmonics_is_refused(tmp_path, rest):
    assert_refused(written_by_plyfile(tmp_path / "a.ply", standard_vertices(rest=rest)), f"{rest} f_rest_")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bits", [0x7FF0000000000001, 0x7FEFFFFFFFFFFFFF], ids=["signalling NaN", "beyond float32"])
def test_doubles_that_float32_cannot_hold_are_dropped_without_a_warning_of_numpy(tmp_path, bits):
    vertices = standard_vertices(20, kind="f8")
    vertices["scale_1"][1] = np.array(bits, np.uint64).view(np.float64)
    assert len(load(written_by_plyfile(tmp_path / "a.ply", vertices))) == 19


def test_meshes_are_sent_to_where_they_are_of_use(tmp_path):
    corners = PlyElement.describe(np.array([([0, 1, 2],)], dtype=[("vertex_indices", "O")]), "face")
    path = written_by_plyfile(tmp_path / "a.ply", np.zeros(3, dtype=[(name, "f4") for name in "xyz"]), [corners])
    assert_refused(path, "a PLY mesh, not Gaussians. .* prior3d:points and set `prior3d.file`")


def test_foreign_text_in_a_message_cannot_reach_the_terminal_as_commands(tmp_path):
    (tmp_path / "a.ply").write_bytes(b"ply\n\x1b[2J comes first\nend_header\n")
    assert_refused(tmp_path / "a.ply", r"unknown or repeated header line '\\x1b\[2J comes first'")
    (tmp_path / "b.ply").write_bytes(b"ply\nformat \x1b[2J\nelement vertex 1\nproperty uchar opacity\nend_header\n")
    assert_refused(tmp_path / "b.ply", r"'\\x1b\[2J', expected one of ascii")


@pytest.mark.parametrize("before", [0, 1, 2, 3])
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_harmonics_of_another_degree_are_padded_with_zeros_or_dropped(tmp_path, random_gaussians, before, after):
    gaussians = random_gaussians(7, before)
    ply.write(with_sh_degree(gaussians, after), tmp_path / "a.ply")
    vertex = PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    assert len(vertex.properties) == 17 + 3 * ((after + 1) ** 2 - 1)
    loaded, kept = load(tmp_path / "a.ply"), min(gaussians.sh.shape[1], (after + 1) ** 2)
    assert torch.equal(loaded.sh[:, :kept], gaussians.sh[:, :kept]) and not loaded.sh[:, kept:].any()
    torch.testing.assert_close(loaded.means, gaussians.means)


def test_a_vertex_of_degree_3_has_the_62_numbers_that_engines_expect(tmp_path, random_gaussians):
    for count in (0, 10):
        ply.write(with_sh_degree(random_gaussians(count), 3), tmp_path / f"{count}.ply")
        content = (tmp_path / f"{count}.ply").read_bytes()
        assert len(content) - content.index(b"end_header\n") - len(b"end_header\n") == count * 62 * 4


def test_files_longer_than_a_block_keep_every_gaussian_in_its_place(tmp_path, random_gaussians):
    saved = random_gaussians(40_000, 1)
    save(saved, tmp_path / "a.ply")
    vertex, loaded = PlyData.read(str(tmp_path / "a.ply"))["vertex"], load(tmp_path / "a.ply")
    np.testing.assert_array_equal(vertex["x"], saved.means[:, 0])
    np.testing.assert_array_equal(vertex["f_rest_5"], saved.sh[:, 3, 1])
    assert torch.equal(loaded.means, saved.means) and torch.equal(loaded.sh, saved.sh)


@repeatable
@given(data=st.data())
def test_a_corrupted_file_is_read_or_refused_and_nothing_else(tmp_path, data):
    """Flipped, removed and inserted bytes, mostly in the header: never a crash, never a value that cannot be used."""
    save(one(), tmp_path / "a.ply")
    content = bytearray((tmp_path / "a.ply").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "remove", "insert"])):
            case "flip":
                content[place] = data.draw(st.integers(0, 255))
            case "remove":
                del content[place : place + data.draw(st.integers(1, 8))]
            case "insert":
                content[place:place] = data.draw(
                    st.sampled_from([b"\n", b" ", b"\r\n", b"9", b"end_header\n", b"list "])
                )
        if not content:
            break
    (tmp_path / "a.ply").write_bytes(content)
    try:
        loaded = load(tmp_path / "a.ply")
    except DreamsplatError as error:
        assert str(error).startswith(str(tmp_path / "a.ply")) and "\n" not in str(error)
    else:
        assert all(bool(torch.isfinite(v).all()) for v in vars(loaded).values())
        assert bool((loaded.scales > 0).all())
        torch.testing.assert_close(loaded.quats.norm(dim=-1), torch.ones(len(loaded)))


def test_a_point_cloud_is_readable_by_others(tmp_path):
    cloud = PointCloud(xyz=torch.tensor([[0.0, 1, 2], [3, 4, 5]]), rgb=torch.tensor([[0.0, 0.5, 1.2], [-1, 1, 0]]))
    save_points(cloud, tmp_path / "cloud.ply")
    vertex = PlyData.read(str(tmp_path / "cloud.ply"))["vertex"]
    assert [p.name for p in vertex.properties] == ["x", "y", "z", "red", "green", "blue"]
    assert vertex["y"].tolist() == [1, 4] and vertex["green"].tolist() == [128, 255]
    assert vertex["red"].tolist() == [0, 0] and vertex["blue"].tolist() == [255, 0]


# --- writing in one step ----------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ValueError, match="half way"), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("ne")
        raise ValueError("half way")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_that_does_not_exist_is_a_file_problem(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "none" / "a.ply", tmp_path / "file" / "a.ply"):
        with pytest.raises(FileProblem, match=f"{re.escape(str(place))}: cannot be written"):
            save(one(), place)


# --- pictures and films -----------------------------------------------------------------------------------------------


def test_bytes_are_rounded_and_clamped():
    assert to_uint8(torch.tensor([-0.1, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 7.0])).tolist() == [0, 0, 0, 1, 255, 255]


def test_a_png_holds_the_pixels_it_was_given(tmp_path):
    image = torch.rand(5, 7, 3, generator=torch.Generator().manual_seed(0))
    write_png(image, tmp_path / "a.png")
    assert (np.asarray(Image.open(tmp_path / "a.png")) == to_uint8(image)).all()
    with pytest.raises(FileProblem, match="Use .png"):
        write_png(image, tmp_path / "a.jpeg")


def frames(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(count, 1, 1, 3, generator=torch.Generator().manual_seed(0)).expand(count, height, width, 3)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47)])
def test_an_mp4_plays_with_even_sides(tmp_path, height, width):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    pictures = frames(6, height, width)
    path = write_turntable(pictures, tmp_path / "a.mp4")
    assert path == tmp_path / "a.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True)
    even_height, even_width = height + height % 2, width + width % 2
    assert re.search(rf"Video: h264.* yuv420p\b.* {even_width}x{even_height}\b.* 30 fps", decoded.stderr.decode())
    film = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, even_height, even_width, 3)
    assert len(film) == 6
    # Flat pictures survive 4:2:0 and H.264 to within a few steps of 255.
    error = film.astype(int) - to_uint8(pictures)[:, :1, :1]
    assert np.abs(error).max() <= 12


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_a_gif_or_webp_holds_every_frame_and_loops(tmp_path, suffix):
    pictures = torch.rand(5, 1, 1, 3, generator=torch.Generator().manual_seed(0)).expand(5, 16, 16, 3)
    path = write_turntable(pictures, tmp_path / f"a{suffix}", frames_per_second=25)
    with Image.open(path) as film:
        assert film.n_frames == 5 and film.info["loop"] == 0
        for index, picture in enumerate(to_uint8(pictures)):
            film.seek(index)
            film.load()  # A .webp knows the duration of a frame only when it is decoded.
            assert film.info["duration"] == 40
            # Flat colours survive the palette of a GIF and the half-size colours of a WebP to within a few of 255.
            assert np.abs(np.asarray(film.convert("RGB")).astype(int) - picture).max() <= 6


def test_a_name_with_a_dash_in_front_is_no_flag_of_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write_turntable(torch.zeros(2, 16, 16, 3), Path("-dash.mp4")) == Path("-dash.mp4")
    assert (tmp_path / "-dash.mp4").stat().st_size > 0


def test_without_ffmpeg_an_mp4_becomes_a_gif_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    path = write_turntable(frames(2, 16, 16), tmp_path / "a.mp4")
    assert path == tmp_path / "a.gif" and [p.name for p in tmp_path.iterdir()] == ["a.gif"]
    assert [r.getMessage() for r in caplog.records] == [
        "a.gif, not .mp4: imageio-ffmpeg is missing (pip install imageio-ffmpeg)"
    ]


def test_films_without_frames_or_of_an_unknown_kind_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="a film of 0 frames"):
        write_turntable(torch.zeros(0, 4, 4, 3), tmp_path / "a.gif")
    with pytest.raises(FileProblem, match="Use .mp4, .webp, .gif"):
        write_turntable(frames(2, 4, 4), tmp_path / "a.avi")
    with pytest.raises(InvalidInput, match=r"frame 0 of shape \[4, 4\], expected \[H, W, 3\]"):
        write_turntable(torch.zeros(2, 4, 4), tmp_path / "a.gif")
    with pytest.raises(InvalidInput, match="a film of 5000 x 1 px, expected at most 4096"):
        write_turntable(torch.zeros(1, 1, 5000, 3), tmp_path / "a.gif")
    for suffix in (".mp4", ".webp", ".gif"):
        with pytest.raises(FileProblem, match="cannot be written"):
            write_turntable(frames(2, 4, 4), tmp_path / "none" / f"a{suffix}")


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if FORMATS[suffix].read])
def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"endless{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        assert_refused(tmp_path / f"{name}{suffix}", "is a pipe or a device, expected a file")


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if FORMATS[suffix].read])
def test_names_that_no_file_can_have_are_refused(suffix):
    for name, message in ((f"a\0{suffix}", "null byte"), (f"{300 * 'a'}{suffix}", "too long")):
        with pytest.raises(FileProblem, match=message):
            load(name)


def test_a_name_does_not_reach_the_terminal_as_a_command(tmp_path):
    with pytest.raises(FileProblem) as caught:
        load(tmp_path / "a\x1b[31m\n\udc80.ply")
    assert str(caught.value) == f"{tmp_path}/a?[31m ?.ply: no such file. Check the path."
