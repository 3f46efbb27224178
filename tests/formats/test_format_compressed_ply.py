"""The compressed PLY: its stated error bounds, its layout, other writers' files, damage."""

from __future__ import annotations

import dataclasses
from math import exp, radians
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import assert_usable_or_refused, damaged, repeatable
from hypothesis import given
from hypothesis import strategies as st
from peers import needs_peers, splat_transform
from plyfile import PlyData

from dreamsplat.errors import FileProblem
from dreamsplat.formats import compressed_ply, load, ply
from dreamsplat.formats.morton import morton_order
from dreamsplat.formats.smallest_three import with_largest, without_largest
from dreamsplat.maths.harmonics import DC
from dreamsplat.types import Gaussians


def rows(gaussians: Gaussians, index: np.ndarray) -> Gaussians:
    picked = torch.from_numpy(index)
    return Gaussians(**{field.name: getattr(gaussians, field.name)[picked] for field in dataclasses.fields(gaussians)})


def in_file_order(gaussians: Gaussians) -> Gaussians:
    return rows(gaussians, morton_order(gaussians.means.numpy()))


def turn_between(a: Gaussians, b: Gaussians) -> float:
    """The largest angle, radians, between rotations of the same rows."""
    across = torch.linalg.vector_norm(
        a.quats.double() * (a.quats * b.quats).sum(-1, keepdim=True).sign() - b.quats, dim=-1
    )
    return float(4 * torch.asin(across / 2).max())


def chunk_extents(values: torch.Tensor) -> torch.Tensor:
    """[N, D] -> the extent of each row's chunk of 256 rows, [N, D]."""
    extents = [part.amax(0) - part.amin(0) for part in values.split(256) for _ in range(len(part))]
    return torch.stack(extents)


def assert_within_bounds(loaded: Gaussians, saved: Gaussians) -> None:
    """The bounds of the module's docstring, with 2e-6 for float32 rounding."""
    halves = torch.tensor([2047, 1023, 2047]) * 2
    assert (loaded.means - saved.means).abs().le(chunk_extents(saved.means) / halves + 2e-6).all()
    logs = saved.scales.log()
    assert (loaded.scales.log() - logs).abs().le(chunk_extents(logs) / halves + 2e-6).all()
    assert turn_between(loaded, saved) < radians(0.28)
    colours = DC * saved.sh[:, 0]
    assert (DC * loaded.sh[:, 0] - colours).abs().le(chunk_extents(colours) / 510 + 2e-6).all()
    assert (loaded.opacities - saved.opacities).abs().max() <= 1 / 510 + 2e-6
    if saved.sh_degree:
        assert (loaded.sh[:, 1:] - saved.sh[:, 1:].clamp(-4, 4)).abs().max() <= 3 / 128 + 2e-6


@pytest.mark.parametrize(("count", "sh_degree"), [(1, 0), (255, 1), (256, 2), (257, 0), (3000, 3)])
def test_a_round_trip_stays_within_the_stated_bounds(tmp_path, random_gaussians, count, sh_degree):
    saved = random_gaussians(count, sh_degree)
    compressed_ply.write(saved, tmp_path / "a.ply")
    loaded = compressed_ply.read(tmp_path / "a.ply")
    assert loaded.sh_degree == sh_degree
    assert_within_bounds(loaded, in_file_order(saved))


def test_the_bounds_are_reached(tmp_path, random_gaussians):
    """With 256 Gaussians some land half way between two steps, so a coarser code or a shifted one would show."""
    saved = in_file_order(random_gaussians(256, 1))
    compressed_ply.write(saved, tmp_path / "a.ply")
    loaded = compressed_ply.read(tmp_path / "a.ply")
    extents = saved.means.amax(0) - saved.means.amin(0)
    assert ((loaded.means - saved.means).abs().amax(0) > 0.9 * extents / torch.tensor([4094, 2046, 4094])).all()
    assert 0.9 / 64 < float((loaded.sh[:, 1:] - saved.sh[:, 1:]).abs().max()) <= 1 / 64 + 2e-6
    assert radians(0.05) < turn_between(loaded, saved)


def test_no_gaussians_come_back_as_none(tmp_path, random_gaussians):
    compressed_ply.write(random_gaussians(0, 2), tmp_path / "a.ply")
    loaded = compressed_ply.read(tmp_path / "a.ply")
    assert len(loaded) == 0 and loaded.sh_degree == 2


def test_extreme_values_are_clamped_and_not_refused(tmp_path, random_gaussians):
    plain = random_gaussians(4, 1)
    sh = plain.sh * torch.tensor([1.0, 1e38, 100, 10])[:, None, None]
    extreme = dataclasses.replace(
        plain, sh=sh, scales=torch.tensor([[1e-38] * 3, [1e30] * 3, [0.1] * 3, [1.0] * 3]),
        opacities=torch.tensor([0.0, 1, 0.5, 0.5]), means=plain.means * torch.tensor([[3e38], [1.0], [1], [1]]),
    )  # fmt: skip
    compressed_ply.write(extreme, tmp_path / "a.ply")
    loaded = compressed_ply.read(tmp_path / "a.ply")
    assert loaded.opacities.min() == 0 and loaded.opacities.max() == 1
    assert loaded.sh[:, 1:].min() == -4 and loaded.sh[:, 1:].max() == 4
    # The chunk's range is 40 in the logarithm here, so float32 adds to the two ends.
    assert float(loaded.scales.min()) == pytest.approx(exp(-20), rel=1e-5)
    assert float(loaded.scales.max()) == pytest.approx(exp(20), rel=1e-5)


def test_the_same_gaussians_give_the_same_bytes(tmp_path, random_gaussians):
    gaussians = random_gaussians(300, 3)
    compressed_ply.write(gaussians, tmp_path / "a.ply")
    compressed_ply.write(gaussians.to(torch.float64), tmp_path / "b.ply")
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_a_written_file_follows_the_layout(tmp_path, random_gaussians):
    saved = in_file_order(random_gaussians(300, 1))
    compressed_ply.write(saved, tmp_path / "a.ply")
    file = PlyData.read(str(tmp_path / "a.ply"))
    assert [(e.name, e.count, len(e.properties)) for e in file] == [
        ("chunk", 2, 18),
        ("vertex", 300, 4),
        ("sh", 300, 9),
    ]
    first = saved.means[:256]
    assert file["chunk"]["min_y"][0] == first[:, 1].min() and file["chunk"]["max_z"][0] == first[:, 2].max()
    assert file["chunk"]["max_scale_x"][0] == pytest.approx(float(saved.scales[:256, 0].log().max()))
    assert file["chunk"]["min_g"][1] == pytest.approx(0.5 + DC * float(saved.sh[256:, 0, 1].min()))
    lowest = int(first[:, 0].argmin())
    assert file["vertex"]["packed_position"][lowest] >> 21 == 0
    assert file["vertex"]["packed_position"][int(first[:, 0].argmax())] >> 21 == 2047
    np.testing.assert_allclose((file["vertex"]["packed_color"] & 255) / 255, saved.opacities, atol=0.002)
    np.testing.assert_array_equal(file["vertex"]["packed_rotation"] >> 30, saved.quats.abs().argmax(-1))
    # f_rest_3 is green of the first coefficient of degree 1.
    np.testing.assert_allclose((file["sh"]["f_rest_3"] + 0.5) / 32 - 4, saved.sh[:, 1, 1], atol=1 / 64 + 1e-6)


# --- the parts --------------------------------------------------------------------------------------------------------


def test_neighbours_in_morton_order_are_neighbours_in_space(random_gaussians):
    means = random_gaussians(4096).means.numpy()
    order = morton_order(means)
    np.testing.assert_array_equal(np.sort(order), np.arange(4096))
    steps = np.linalg.norm(np.diff(means[order], axis=0), axis=-1)
    # 4096 points fill cells of 1/16; along the curve a step is about one cell, at random about 0.66.
    assert steps.mean() < 0.1
    volumes = [np.ptp(block, axis=0).prod() for block in np.split(means[order], 16)]
    assert np.mean(volumes) < 0.2  # 1/16 if blocks ended where cubes do; about 1 in random order.


def test_points_on_one_spot_keep_their_order():
    np.testing.assert_array_equal(morton_order(np.ones((5, 3), np.float32)), np.arange(5))
    assert morton_order(np.zeros((0, 3), np.float32)).shape == (0,)


def test_quaternions_come_back_from_their_three_smallest_parts(generator):
    quats = torch.randn(500, 4, generator=generator, dtype=torch.float64).numpy() * 3
    quats[:5] = [[1, 0, 0, 0], [0, 0, -2, 0], [1, 1, 1, 1], [-1, 1, -1, 1], [1e-30, 0, 0, 0]]
    largest, parts = without_largest(quats)
    assert np.abs(parts).max() <= 0.5**0.5 + 1e-12
    unit = quats / np.linalg.norm(quats, axis=-1, keepdims=True)
    back = with_largest(largest, parts)
    np.testing.assert_allclose(back * np.sign((back * unit).sum(-1))[:, None], unit, atol=1e-7)


# --- other writers and readers ----------------------------------------------------------------------------------------


def old_file(folder: Path, **kinds: str) -> Path:
    """A file without colour ranges, as early writers made it: one Gaussian, in the middle of its ranges."""
    names = [f"{end}_{n}" for n in ("x", "y", "z", "scale_x", "scale_y", "scale_z") for end in ("min", "max")]
    lines = ["ply", "format binary_little_endian 1.0", "comment made elsewhere", "element chunk 1"]
    lines += [f"property {kinds.get(name, 'float')} {name}" for name in names]
    packed = ["position", "rotation", "scale", "color"]
    lines += ["element vertex 1", *(f"property {kinds.get(n, 'uint')} packed_{n}" for n in packed), "end_header", ""]
    middle = 1023 << 21 | 511 << 11 | 1023
    identity = 0 << 30 | 511 << 20 | 511 << 10 | 511
    numbers = np.array([middle, identity, middle, 255 << 24 | 51 << 8 | 255], "<u4")
    ranges = np.array([-1, 1] * 3 + [-3, -1] * 3, "<f4")
    (folder / "old.ply").write_bytes("\n".join(lines).encode() + ranges.tobytes() + numbers.tobytes())
    return folder / "old.ply"


def test_chunks_without_colour_ranges_mean_plain_colours(tmp_path):
    loaded = compressed_ply.read(old_file(tmp_path))
    torch.testing.assert_close(0.5 + DC * loaded.sh[0, 0], torch.tensor([1.0, 0, 0.2]))
    torch.testing.assert_close(loaded.means[0], torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(loaded.scales[0], torch.full((3,), exp(-2)), atol=0, rtol=1e-3)
    torch.testing.assert_close(loaded.quats[0], torch.tensor([1.0, 0, 0, 0]), atol=2e-3, rtol=0)
    assert float(loaded.opacities[0]) == 1


@needs_peers
def test_splat_transform_reads_ours_as_we_do(tmp_path, random_gaussians):
    saved = random_gaussians(700, 3)
    compressed_ply.write(saved, tmp_path / "ours.compressed.ply")
    splat_transform(tmp_path / "ours.compressed.ply", tmp_path / "theirs.ply")
    theirs, ours = ply.read(tmp_path / "theirs.ply"), compressed_ply.read(tmp_path / "ours.compressed.ply")
    for field in dataclasses.fields(Gaussians):
        torch.testing.assert_close(getattr(theirs, field.name), getattr(ours, field.name), rtol=2e-5, atol=1e-5)
    assert_within_bounds(theirs, in_file_order(saved))


@needs_peers
def test_what_splat_transform_writes_is_read_as_it_reads_it(tmp_path, random_gaussians):
    saved = random_gaussians(700, 2)
    ply.write(saved, tmp_path / "a.ply")
    splat_transform(tmp_path / "a.ply", tmp_path / "theirs.compressed.ply")
    splat_transform(tmp_path / "theirs.compressed.ply", tmp_path / "back.ply")
    loaded, back = compressed_ply.read(tmp_path / "theirs.compressed.ply"), ply.read(tmp_path / "back.ply")
    for field in dataclasses.fields(Gaussians):
        torch.testing.assert_close(getattr(back, field.name), getattr(loaded, field.name), rtol=2e-5, atol=1e-5)
    nearest = torch.cdist(loaded.means, saved.means).argmin(dim=1).numpy()
    assert_within_bounds(loaded, rows(saved, nearest))


# --- damage -----------------------------------------------------------------------------------------------------------


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(FileProblem, match=message) as caught:
        compressed_ply.read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ply\n", b"plx\n", "not a PLY file"),
        (b"end_header", b"end_footer", "header has no end"),
        (b"little", b"big", "only binary_little_endian"),
        (b"vertex 300", b"vertex 99999999999999999", "2 chunks for 99999999999999999 vertices"),
        (b"vertex 300", b"vertex -1", "'element vertex -1' does not say how many"),
        (b"vertex 300", b"vertex 10", "2 chunks for 10 vertices"),
        (b"sh 300", b"sh 299", "299 rows for 300 vertices"),
        (b"chunk 2", b"chunk 1", "1 chunks for 300 vertices"),
        (b"float min_x", b"uint min_x", "'chunk' lacks min_x"),
        (b"uint packed_scale", b"uint packed_scala", "'vertex' lacks packed_scale"),
        (b"uchar f_rest_8", b"uchar f_rest_7", "repeated header line 'property uchar f_rest_7'"),
        (b"uchar f_rest_8", b"uchar f_best_8", "element sh: 9 properties"),
        (b"property uchar f_rest_8\n", b"", "element sh: 8 properties"),
        (b"float max_x", b"list uchar int max_x", "'chunk' lacks max_x, or it is of another type"),
        (b"uchar f_rest_8", b"list uchar uchar f_rest_8", "element sh: 9 properties, expected .* uchar"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, random_gaussians, old, new, message):
    compressed_ply.write(random_gaussians(300, 1), tmp_path / "a.ply")
    content = (tmp_path / "a.ply").read_bytes()
    assert content.count(old) == 1
    (tmp_path / "a.ply").write_bytes(content.replace(old, new))
    assert_refused(tmp_path / "a.ply", message)


def test_a_file_that_ends_too_early_is_refused(tmp_path, random_gaussians):
    compressed_ply.write(random_gaussians(300, 1), tmp_path / "a.ply")
    (tmp_path / "a.ply").write_bytes((tmp_path / "a.ply").read_bytes()[:-1])
    assert_refused(tmp_path / "a.ply", "truncated: it ends before the last of 300 records")


@pytest.mark.parametrize(("old", "new"), [(b"sh 300", b"sh 299"), (b"chunk 2", b"chunk 1")])
def test_elements_that_differ_in_number_are_refused_before_any_is_decoded(
    tmp_path, random_gaussians, monkeypatch, old, new
):
    def must_wait(*_: object) -> None:
        raise AssertionError("decoded first")

    for decoder in ("_read_bounds", "_unpack", "_read_sh"):
        monkeypatch.setattr(compressed_ply, decoder, must_wait)
    compressed_ply.write(random_gaussians(300, 1), tmp_path / "a.ply")
    (tmp_path / "a.ply").write_bytes((tmp_path / "a.ply").read_bytes().replace(old, new))
    assert_refused(tmp_path / "a.ply", "for 300 vertices, expected")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_chunk_whose_range_is_not_finite_is_dropped(tmp_path, random_gaussians, value):
    compressed_ply.write(random_gaussians(300, 0), tmp_path / "a.ply")
    content = bytearray((tmp_path / "a.ply").read_bytes())
    start = content.index(b"end_header\n") + 11 + 18 * 4  # of the second chunk, which has 44 Gaussians
    content[start + 24 : start + 28] = np.float32(value).tobytes()
    (tmp_path / "a.ply").write_bytes(content)
    assert 256 <= len(load(tmp_path / "a.ply")) < 300


def test_missing_files_and_wrong_types_are_refused(tmp_path):
    assert_refused(tmp_path / "none.ply", "no such file")
    assert_refused(old_file(tmp_path, position="int"), "'vertex' lacks packed_position, or it is of another type")


@repeatable
@given(data=st.data())
def test_a_corrupted_file_is_read_or_refused_and_nothing_else(tmp_path, random_gaussians, data):
    path = tmp_path / "a.ply"
    if not (tmp_path / "valid.ply").exists():
        compressed_ply.write(random_gaussians(3, 1), tmp_path / "valid.ply")
    pieces = [b"\n", b" ", b"\r\n", b"9", b"end_header\n", b"list ", b"element sh 1\n", b"\xff\xff\xff\xff", b"\0" * 8]
    path.write_bytes(damaged((tmp_path / "valid.ply").read_bytes(), data, pieces))
    assert_usable_or_refused(load, path)
