""".spz: what a round trip may change, how small it is, what others read, and that damaged files are refused."""

from __future__ import annotations

import builtins
import dataclasses
import gzip
import json
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from math import exp, log10
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import repeatable
from hypothesis import given
from hypothesis import strategies as st
from peers import needs_peers, node, splat_transform

from dreamsplat.errors import FileProblem, InvalidInput, MissingDependency
from dreamsplat.formats import ply, spz
from dreamsplat.maths.rotations import covariances, rotation_from_quats
from dreamsplat.method.cameras import make_views
from dreamsplat.render import render
from dreamsplat.types import Gaussians
from dreamsplat.world.language.captions import parse_caption
from dreamsplat.world.objects.draw_object import draw_object

HEADER = struct.Struct("<4sIIBBBB")
MOST = {
    "means": 2**-13,  # Half of 2^-12.
    "opacities": 0.5 / 255,
    "log_scales": 1 / 32,  # Half of 1/16.
    "dc": 0.5 / 255 / 0.15,
    "sh": spz.SH_STEP / 2 / 128,
    # Three components off by half of sqrt(1/2) / 511 each; the largest, which is at least 1/2, makes up for up to three
    # times that. A rotation turns by twice the change of its quaternion.
    "turn_deg": float(np.rad2deg(2 * (0.5**0.5 / 1022) * (3 + 9) ** 0.5)),
}
ROUNDING = 2e-6  # float32, of values up to 10.


def differences(a: Gaussians, b: Gaussians) -> dict[str, float]:
    """The largest difference in each field, in the terms of `MOST`."""
    relative = rotation_from_quats(a.quats.double()).mT @ rotation_from_quats(b.quats.double())
    cosine = (relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return {
        "means": float((a.means - b.means).abs().max()),
        "opacities": float((a.opacities - b.opacities).abs().max()),
        "log_scales": float((a.scales.log() - b.scales.log()).abs().max()),
        "dc": float((a.sh[:, 0] - b.sh[:, 0]).abs().max()),
        "sh": float((a.sh[:, 1:] - b.sh[:, 1:]).abs().max()) if a.sh_degree else 0.0,
        "turn_deg": float(torch.rad2deg(cosine.clamp(-1, 1).acos()).max()),
    }


def assert_within_bounds(a: Gaussians, b: Gaussians) -> None:
    assert len(a) == len(b) and a.sh_degree == b.sh_degree
    found = differences(a, b)
    assert {name: value for name, value in found.items() if value > MOST[name] + ROUNDING} == {}


def trained_object(sh_noise: float, seed: int = 0, prompt: str = "a red mushroom") -> Gaussians:
    """An object of the bundled world with sizes, turns and opacities as spread as after training, and noise in its
    harmonics of degree 1 to 3."""
    generator = torch.Generator().manual_seed(seed)
    plain = draw_object(parse_caption(prompt), generator)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(len(plain), *shape, generator=generator)

    return Gaussians(
        means=plain.means,
        scales=plain.scales * (0.4 * noise(3)).exp(),
        quats=noise(4),
        opacities=(1 + 1.5 * noise()).sigmoid(),
        sh=torch.cat([plain.sh, sh_noise * noise(15, 3)], dim=1) if sh_noise else plain.sh,
    )


def round_trip(gaussians: Gaussians, folder: Path) -> Gaussians:
    spz.write(gaussians, folder / "round.spz")
    return spz.read(folder / "round.spz")


# --- accuracy and size ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_a_round_trip_stays_within_the_stated_bounds_which_are_tight(tmp_path, random_gaussians, sh_degree):
    saved = random_gaussians(3000, sh_degree)
    saved = dataclasses.replace(saved, means=2 * saved.means)  # Of an extent for which there are 12 binary digits.
    loaded = round_trip(saved, tmp_path)
    assert_within_bounds(saved, loaded)
    found = differences(saved, loaded)
    # The worst case of a turn, in all three components at once and in the same sense, is rare.
    tight = {name: 0.5 if name == "turn_deg" else 0.95 for name in MOST if name != "sh" or sh_degree}
    assert {name: found[name] for name, share in tight.items() if found[name] < share * MOST[name]} == {}
    torch.testing.assert_close(loaded.quats.norm(dim=-1), torch.ones(3000))
    assert all(values.dtype == torch.float32 and values.is_contiguous() for values in vars(loaded).values())


def test_what_was_read_is_written_and_read_again_unchanged(tmp_path, random_gaussians):
    once = round_trip(random_gaussians(2000, 3), tmp_path)
    twice = round_trip(once, tmp_path)
    for name in ("means", "scales", "opacities", "sh"):
        assert torch.equal(getattr(once, name), getattr(twice, name)), name
    # Of two largest components that are all but equal, the other one may now be left out.
    assert differences(once, twice)["turn_deg"] < MOST["turn_deg"]


@pytest.mark.parametrize("extent", [1e-6, 0.01, 0.4, 0.6, 1.0, 3.0, 2047.9, 2048.0, 70000.0, 8388607.0, 8388607.5])
def test_coordinates_of_any_extent_fit(tmp_path, random_gaussians, extent):
    base = random_gaussians(200)
    means = base.means.sign() * extent * (base.means.abs() * 2)
    means[0] = torch.tensor([extent, -extent, 0])
    loaded = round_trip(dataclasses.replace(base, means=means), tmp_path)
    bits = spz.fraction_bits(float(means.abs().max()))
    assert bits == 12 if 0.5 <= extent < 2048 else bits != 12
    # In float64: half a step of a large coordinate is below the precision of float32.
    assert float((loaded.means.double() - means.double()).abs().max()) <= 2.0 ** -(bits + 1)


@pytest.mark.parametrize("extent", [8388608.0, 1e30])
def test_coordinates_beyond_24_bits_are_refused(tmp_path, random_gaussians, extent):
    with pytest.raises(InvalidInput, match=r"holds less than 2\^23"):
        spz.write(dataclasses.replace(random_gaussians(1), means=torch.full((1, 3), -extent)), tmp_path / "a.spz")
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_their_range_are_clamped(tmp_path, random_gaussians):
    extreme = dataclasses.replace(
        random_gaussians(2, 1),
        scales=torch.tensor([[1e-30, 1e30, 1.0]]).expand(2, 3),
        opacities=torch.tensor([0.0, 1.0]),
        sh=torch.tensor([[[-9.0, 9, 0]] + 3 * [[-9.0, 9, 0]]]).expand(2, 4, 3),
    )
    loaded = round_trip(extreme, tmp_path)
    torch.testing.assert_close(loaded.scales[0], torch.tensor([exp(-10), exp(255 / 16 - 10), 1.0]))
    assert loaded.opacities.tolist() == [0, 1]
    torch.testing.assert_close(
        loaded.sh[0, 0], torch.tensor([-10 / 3, 10 / 3, 0.0]), rtol=0, atol=MOST["dc"] + ROUNDING
    )
    assert loaded.sh[0, 1].tolist() == [-1, 127 / 128, 0]


@pytest.mark.parametrize("length", [1.0, -1.0, 1e-30, 1e30])
def test_turns_by_whole_axes_survive_exactly_from_quaternions_of_any_length(tmp_path, random_gaussians, length):
    quats = length * torch.eye(4)
    loaded = round_trip(dataclasses.replace(random_gaussians(4), quats=quats), tmp_path)
    assert torch.equal(loaded.quats, torch.eye(4))


@pytest.mark.parametrize("sh_noise", [0.0, 0.03])
def test_a_trained_object_looks_the_same_after_a_round_trip(tmp_path, sh_noise):
    """At least 45 dB, as an average over six views of 192 x 192 on white."""
    saved = trained_object(sh_noise)
    angles = [torch.arange(0.0, 360, 60), *(torch.full((6,), value) for value in (20.0, 2.5, 40.0))]
    cameras = make_views(*angles, width=192, height=192).cameras
    before, after = (
        render(gaussians, cameras, background=(1.0, 1.0, 1.0)).rgb.clamp(0, 1)
        for gaussians in (saved, round_trip(saved, tmp_path))
    )
    assert -10 * log10(float((after - before).square().mean())) > 45


def test_a_file_with_all_harmonics_is_at_most_a_ninth_of_the_ply(tmp_path):
    saved = trained_object(sh_noise=0.03)
    spz.write(saved, tmp_path / "a.spz")
    ply.write(saved, tmp_path / "a.ply")
    assert 9 * (tmp_path / "a.spz").stat().st_size < (tmp_path / "a.ply").stat().st_size


def test_the_same_gaussians_give_the_same_bytes_at_any_time_and_dtype(tmp_path, random_gaussians, monkeypatch):
    gaussians = random_gaussians(50, 3)
    spz.write(gaussians, tmp_path / "a.spz")
    monkeypatch.setattr(time, "time", lambda: 1e9)
    spz.write(gaussians.to(torch.float64), tmp_path / "other.spz")
    content = (tmp_path / "a.spz").read_bytes()
    assert content == (tmp_path / "other.spz").read_bytes()
    assert content[3:8] == bytes(5)  # No name, no time.


def test_no_gaussians_are_a_file_too(tmp_path, random_gaussians):
    loaded = round_trip(random_gaussians(0, 2), tmp_path)
    assert len(loaded) == 0 and loaded.sh_degree == 2


def test_a_written_file_follows_the_published_layout(tmp_path):
    one = Gaussians(
        means=torch.tensor([[1.0, -1, 0.5]]),
        scales=torch.tensor([[exp(-10), exp(-9), 1.0]]),
        quats=torch.tensor([[-1.0, 1, 0, 0]]),
        opacities=torch.tensor([0.4]),
        sh=torch.tensor([[[0.0, 1, -1], [5 / 128, -10 / 128, 0], [0, 0, 0], [0, 0, 0]]]),
    )
    spz.write(one, tmp_path / "a.spz")
    content = gzip.decompress((tmp_path / "a.spz").read_bytes())
    assert content[:16] == HEADER.pack(b"NGSP", 3, 1, 1, 12, 0, 0)
    assert content[16:25].hex() == "001000" + "00f0ff" + "000800"
    assert list(content[25:29]) == [102, 128, 166, 89]  # 255 x 0.4; 127.5 + 38.25 c, rounded to even
    assert list(content[29:32]) == [0, 16, 160]
    # x is the first of the two largest, and made positive: then y = z = 0, w = -sqrt(1/2), which is -511.
    assert struct.unpack("<I", content[32:36])[0] == 0 << 30 | 0 << 20 | 0 << 10 | 512 | 511
    assert list(content[36:45]) == [133, 118, 128] + 6 * [128]


# --- older and newer versions, built from the published layout --------------------------------------------------------


def old_file(folder: Path, version: int, degree: int = 0, flags: int = 0, trailer: bytes = b"", **header) -> Path:
    """Two Gaussians as a file of version 1 to 3; `header` replaces its fields."""
    positions = np.array([[1, -2, 0.5], [0, 0.25, -0.125]], "<f4")
    fixed = (positions * 4096).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3]
    fields = {"magic": b"NGSP", "stated": version, "count": 2, "degree": degree, "bits": 12, "flags": flags} | header
    body = positions.astype("<f2").tobytes() if version == 1 else fixed.tobytes()
    body += bytes([255, 51]) + bytes([0, 128, 255] * 2) + bytes([160, 144, 176] * 2)
    body += struct.pack("<2I", 3 << 30, 511) if version == 3 else bytes([128, 127, 255, 0, 128, 128])
    body += bytes(range(100, 100 + 3 * ((degree + 1) ** 2 - 1))) * 2
    (folder / "old.spz").write_bytes(gzip.compress(HEADER.pack(*fields.values(), 0) + body + trailer))
    return folder / "old.spz"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_versions_1_to_3_are_read(tmp_path, version):
    loaded = spz.read(old_file(tmp_path, version, degree=2))
    assert loaded.means.tolist() == [[1, -2, 0.5], [0, 0.25, -0.125]]
    torch.testing.assert_close(loaded.opacities, torch.tensor([1, 0.2]))
    torch.testing.assert_close(loaded.scales[1], torch.tensor([0.0, -1, 1]).exp())
    torch.testing.assert_close(loaded.sh[0, 0], torch.tensor([-10 / 3, 0.5 / 255 / 0.15, 10 / 3]))
    assert loaded.sh.shape == (2, 9, 3) and loaded.sh[1, 8].tolist() == [-7 / 128, -6 / 128, -5 / 128]
    if version == 3:
        assert loaded.quats[0].tolist() == [1, 0, 0, 0]
        torch.testing.assert_close(loaded.quats[1], torch.tensor([0.5**0.5, 0.5**0.5, 0, 0]))
    else:  # z = 1 and x = -1, each to within half of 1/127.5.
        expected = torch.tensor([[0.0, 0, 0, 1], [0, -1, 0, 0]])
        torch.testing.assert_close(loaded.quats, expected, rtol=0, atol=0.5 / 127.5 + ROUNDING)


def test_degree_4_is_left_out_with_a_warning(tmp_path, caplog):
    loaded = spz.read(old_file(tmp_path, 3, degree=4))
    assert loaded.sh.shape == (2, 16, 3) and loaded.sh[1, 15].tolist() == [14 / 128, 15 / 128, 16 / 128]
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / 'old.spz'}: spherical harmonics of degree 4 are cut to degree 3."
    ]


@pytest.mark.parametrize("flag", [0x02, 0x80])
def test_extensions_of_others_are_left_out(tmp_path, flag, caplog):
    extension = struct.pack("<III", 0xADBE0002, 4, 0)
    loaded = spz.read(old_file(tmp_path, 3, flags=flag, trailer=extension))
    assert loaded.means.tolist() == spz.read(old_file(tmp_path, 3)).means.tolist()
    assert ["extensions are ignored" in r.getMessage() for r in caplog.records] == [True] * (flag == 2)


def version_4(folder: Path, saved: Gaussians, compress) -> Path:
    """The same content as version 3, in the layout of version 4."""
    spz.write(saved, folder / "three.spz")
    content = gzip.decompress((folder / "three.spz").read_bytes())
    magic, _, count, degree, bits, flags, _ = HEADER.unpack(content[:16])
    sizes = [count * size for size in (9, 1, 3, 3, 4, 3 * ((degree + 1) ** 2 - 1)) if size]
    ends = np.cumsum([16, *sizes])
    blocks = [content[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
    packed = [compress(block) for block in blocks]
    header = HEADER.pack(magic, 4, count, degree, bits, flags, len(blocks)) + struct.pack("<I12x", 40)
    extensions = bytes(8)  # Whatever is before the table is skipped.
    table = b"".join(struct.pack("<QQ", len(p), len(b)) for p, b in zip(packed, blocks, strict=True))
    (folder / "four.spz").write_bytes(header + extensions + table + b"".join(packed))
    return folder / "four.spz"


@pytest.mark.parametrize("sh_degree", [0, 3])
def test_version_4_is_read(tmp_path, random_gaussians, sh_degree):
    zstandard = pytest.importorskip("zstandard")
    path = version_4(tmp_path, random_gaussians(100, sh_degree), zstandard.ZstdCompressor().compress)
    ours, theirs = spz.read(tmp_path / "three.spz"), spz.read(path)
    assert all(torch.equal(getattr(ours, name), getattr(theirs, name)) for name in vars(ours))


def test_version_4_without_zstandard_names_the_package(tmp_path, monkeypatch):
    original = builtins.__import__

    def without(name, *args):
        if name == "zstandard":
            raise ImportError(name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "a.spz").write_bytes(b"NGSP" + struct.pack("<I", 4) + bytes(24))
    with pytest.raises(MissingDependency, match=r'pip install "dreamsplat\[spz4\]"'):
        spz.read(tmp_path / "a.spz")


# --- files that cannot be read ----------------------------------------------------------------------------------------


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(FileProblem, match=message) as caught:
        spz.read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"N", b"ply\n", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04" + bytes(99)])
def test_what_is_no_spz_file_is_refused(tmp_path, content):
    (tmp_path / "a.spz").write_bytes(content)
    assert_refused(tmp_path / "a.spz", "not an .spz file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": b"PSGN"}, "not an .spz file"),
        ({"stated": 0}, "version 0, .*expected version 1 to 3"),
        ({"stated": 4}, "version 4, .*expected version 1 to 3"),
        ({"degree": 5}, "degree 5"),
        ({"bits": 31}, "31 fraction bits"),
        ({"count": 3}, "truncated: 3 Gaussians need 60 bytes, it unpacks to 40"),
        ({"count": 1}, "unpacks to more than the 20 bytes that 1 Gaussians need"),
        ({"count": 2**31}, "2147483648 Gaussians need 42949672960 bytes, too many for a file of"),
        ({"count": 2**32 - 1, "degree": 4}, "too many for a file of"),
    ],
)
def test_headers_that_cannot_be_true_are_refused(tmp_path, changes, message):
    assert_refused(old_file(tmp_path, 3, **changes), message)


@pytest.mark.parametrize("kept", [5, 20, -500, -1])
def test_a_truncated_file_is_refused(tmp_path, random_gaussians, kept):
    spz.write(random_gaussians(200, 1), tmp_path / "a.spz")
    (tmp_path / "a.spz").write_bytes((tmp_path / "a.spz").read_bytes()[:kept])
    assert_refused(tmp_path / "a.spz", "truncated")


def test_a_changed_byte_does_not_go_unnoticed(tmp_path, random_gaussians):
    spz.write(random_gaussians(200), tmp_path / "a.spz")
    content = bytearray((tmp_path / "a.spz").read_bytes())
    content[-1000] ^= 1
    (tmp_path / "a.spz").write_bytes(content)
    assert_refused(tmp_path / "a.spz", "damaged")


@pytest.fixture
def refused_cheaply(monkeypatch) -> Callable[[Path, str], None]:
    """Asserts that a file is refused, with little memory and few bytes unpacked."""
    unpacked, real = [], zlib.decompressobj

    class Counting:
        def __init__(self, window: int) -> None:
            self.stream = real(window)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

        def decompress(self, packed: bytes, most: int) -> bytes:
            content = self.stream.decompress(packed, most)
            unpacked.append(len(content))
            return content

    def check(path: Path, message: str) -> None:
        unpacked.clear()
        tracemalloc.start()
        with monkeypatch.context() as counting:
            counting.setattr(spz.zlib, "decompressobj", Counting)
            assert_refused(path, message)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50e6 and sum(unpacked) < 25e6

    return check


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path, refused_cheaply):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    header = packer.compress(HEADER.pack(b"NGSP", 3, 3_200_000, 0, 12, 0, 0))
    bomb = header + b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()
    (tmp_path / "a.spz").write_bytes(bomb)
    refused_cheaply(tmp_path / "a.spz", "3200000 Gaussians need 64000000 bytes, too many for a file of")
    small = HEADER.pack(b"NGSP", 3, 10, 0, 12, 0, 0) + bytes(64 << 20)
    (tmp_path / "a.spz").write_bytes(gzip.compress(small, 1))
    refused_cheaply(tmp_path / "a.spz", "unpacks to more than the 200 bytes that 10 Gaussians need")


def test_files_that_would_unpack_to_more_than_real_ones_are_refused(tmp_path, refused_cheaply):
    count = 975_000  # 19.5 MB; 16 MiB are allowed to any file, and 227 kB must answer for the rest.
    header, noise = HEADER.pack(b"NGSP", 3, count, 0, 12, 0, 0), np.random.default_rng(0).bytes(170_000)
    dense = gzip.compress(header + noise + bytes(20 * count - len(noise)))
    zeros = gzip.compress(header + bytes(20 * count))
    for content in (dense, zeros, zeros + bytes(500_000)):  # The last would pass if what follows the stream counted.
        (tmp_path / "a.spz").write_bytes(content)
        refused_cheaply(tmp_path / "a.spz", "975000 Gaussians need 19500000 bytes, too many for a file of")


def test_what_follows_the_stream_does_no_harm(tmp_path, random_gaussians):
    saved = random_gaussians(50)
    spz.write(saved, tmp_path / "a.spz")
    (tmp_path / "a.spz").write_bytes((tmp_path / "a.spz").read_bytes() + bytes(1000))
    assert_within_bounds(saved, spz.read(tmp_path / "a.spz"))


@pytest.mark.parametrize("lie", [0, 2**63])
def test_what_is_in_no_block_of_version_4_does_not_count_for_its_size(tmp_path, refused_cheaply, lie):
    zstandard = pytest.importorskip("zstandard")
    count = 975_000
    blocks = [zstandard.ZstdCompressor().compress(bytes(count * size)) for size in (9, 1, 3, 3, 4)]
    sizes = [(len(block), count * size) for block, size in zip(blocks, (9, 1, 3, 3, 4), strict=True)]
    sizes[-1] = (sizes[-1][0] + lie, sizes[-1][1])
    header = HEADER.pack(b"NGSP", 4, count, 0, 12, 0, 5) + struct.pack("<I12x", 32)
    table = b"".join(struct.pack("<QQ", *pair) for pair in sizes)
    (tmp_path / "a.spz").write_bytes(header + table + b"".join(blocks) + bytes(0 if lie else 500_000))
    refused_cheaply(tmp_path / "a.spz", "975000 Gaussians need 19500000 bytes, too many for a file of")


def test_a_zstd_bomb_is_not_unpacked_beyond_what_the_header_declares(tmp_path, refused_cheaply, random_gaussians):
    zstandard = pytest.importorskip("zstandard")
    with_size = zstandard.ZstdCompressor()
    without_size = zstandard.ZstdCompressor(write_content_size=False)
    for compressor in (with_size, without_size):
        path = version_4(
            tmp_path, random_gaussians(10), lambda block, c=compressor: c.compress(block + bytes(64 << 20))
        )
        refused_cheaply(path, "positions: damaged, its zstd frame does not unpack to 90 bytes")


@pytest.mark.parametrize(
    ("place", "value"), [(15, b"\5"), (16, b"\0"), (16, b"\xff\xff\xff\xff"), (40, b"\xff" * 8), (48, b"\0")]
)
def test_a_damaged_table_of_contents_is_refused(tmp_path, random_gaussians, place, value):
    zstandard = pytest.importorskip("zstandard")
    path = version_4(tmp_path, random_gaussians(10, 1), zstandard.ZstdCompressor().compress)
    content = bytearray(path.read_bytes())
    content[place : place + len(value)] = value
    path.write_bytes(content)
    assert_refused(path, "truncated|damaged")


def mutated(content: bytes, data: st.DataObject) -> bytes:
    """Flipped, removed and inserted bytes, mostly near the start."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(60, len(changed))) | st.integers(0, len(changed)))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                changed[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del changed[place : place + data.draw(st.integers(1, 8))]
            case "insert":
                changed[place:place] = data.draw(st.binary(max_size=8))
    return bytes(changed)


def assert_read_or_refused(path: Path) -> None:
    try:
        loaded = spz.read(path)
    except (FileProblem, MissingDependency) as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert all(bool(torch.isfinite(v).all()) for v in vars(loaded).values())
        assert bool((loaded.scales > 0).all())
        torch.testing.assert_close(loaded.quats.norm(dim=-1), torch.ones(len(loaded)))


@repeatable
@given(data=st.data())
@pytest.mark.parametrize("inside", [True, False], ids=["inside gzip", "gzip"])
def test_a_corrupted_file_is_read_or_refused_and_nothing_else(tmp_path, inside, data):
    content = old_file(tmp_path, data.draw(st.integers(1, 3)), degree=1).read_bytes()
    content = gzip.compress(mutated(gzip.decompress(content), data)) if inside else mutated(content, data)
    (tmp_path / "a.spz").write_bytes(content)
    assert_read_or_refused(tmp_path / "a.spz")


@repeatable
@given(data=st.data())
def test_a_corrupted_file_of_version_4_is_read_or_refused_and_nothing_else(tmp_path, data):
    zstandard = pytest.importorskip("zstandard")
    saved = spz.read(old_file(tmp_path, 3, degree=1))
    content = version_4(tmp_path, saved, zstandard.ZstdCompressor().compress).read_bytes()
    (tmp_path / "a.spz").write_bytes(mutated(content, data))
    assert_read_or_refused(tmp_path / "a.spz")


# --- other programs ---------------------------------------------------------------------------------------------------


@needs_peers
def test_splat_transform_reads_what_is_written(tmp_path, random_gaussians):
    saved = random_gaussians(500, 3)
    spz.write(saved, tmp_path / "a.spz")
    splat_transform(tmp_path / "a.spz", tmp_path / "a.ply")
    theirs, ours = ply.read(tmp_path / "a.ply"), spz.read(tmp_path / "a.spz")
    assert_within_bounds(saved, theirs)
    for name, values in vars(ours).items():  # Both decode the same bytes.
        torch.testing.assert_close(getattr(theirs, name), values, rtol=1e-5, atol=ROUNDING)


@needs_peers
@pytest.mark.parametrize("version", [3, 4])
def test_what_splat_transform_writes_is_read(tmp_path, random_gaussians, version):
    if version == 4:
        pytest.importorskip("zstandard")
    saved = random_gaussians(500, 3)
    ply.write(saved, tmp_path / "a.ply")
    splat_transform("--spz-version", str(version), tmp_path / "a.ply", tmp_path / "a.spz")
    found = differences(saved, spz.read(tmp_path / "a.spz"))
    # It rounds degree 2 and 3 to 16/128, and away from the middle: up to a whole 128th more.
    assert {n: v for n, v in found.items() if v > (9 / 128 if n == "sh" else MOST[n] + ROUNDING)} == {}


@needs_peers
def test_three_reads_what_is_written(tmp_path, random_gaussians):
    spz.write(random_gaussians(50, 3), tmp_path / "a.spz")
    script = """
        import { readFileSync } from 'node:fs';
        import { SPZLoader } from 'three/addons/loaders/SPZLoader.js';
        const geometry = new SPZLoader().parse(new Uint8Array(readFileSync(process.argv[1])).buffer);
        const values = Object.entries(geometry.attributes).map(([name, { array }]) => [name, Array.from(array)]);
        console.log(JSON.stringify(Object.fromEntries(values)));
    """
    theirs = {name: np.array(values) for name, values in json.loads(node(script, tmp_path / "a.spz")).items()}
    ours = spz.read(tmp_path / "a.spz")
    upper = torch.triu_indices(3, 3)
    np.testing.assert_array_equal(theirs["position"].reshape(50, 3), ours.means)
    covariance = covariances(ours.scales, ours.quats)[:, upper[0], upper[1]]
    np.testing.assert_allclose(theirs["covariance"].reshape(50, 6), covariance, rtol=1e-4, atol=1e-8)
    rgba = np.concatenate([0.5 + 0.28209479 * ours.sh[:, 0], ours.opacities[:, None]], axis=1).clip(0, 1)
    np.testing.assert_allclose(theirs["color"].reshape(50, 4) / 255, rgba, rtol=0, atol=0.51 / 255)
    starts = (1, 4, 9, 16)
    for degree, (start, end) in enumerate(zip(starts[:-1], starts[1:], strict=True), 1):
        # One byte per value, and zeros after the last to fill four.
        words = theirs[f"sphericalHarmonics{degree}"].astype("<u4").view(np.uint8).reshape(50, -1)
        codes = words[:, : 3 * (end - start)].astype(float)
        np.testing.assert_array_equal((codes - 128) / 128, ours.sh[:, start:end].reshape(50, -1))
