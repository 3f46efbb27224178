"""SOG: its stated error bounds, its layout, codebooks and palettes, other writers' files, damage."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable
from math import exp, radians
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import assert_usable_or_refused, damaged, repeatable
from hypothesis import given
from hypothesis import strategies as st
from peers import needs_peers, splat_transform
from PIL import Image

from dreamsplat.errors import FileProblem
from dreamsplat.formats import ply, sog
from dreamsplat.formats.morton import morton_order
from dreamsplat.formats.sog.bundle import picture_of
from dreamsplat.formats.sog.codebook import codebook, nearest_codes, palette
from dreamsplat.types import Gaussians


def rows(gaussians: Gaussians, index: np.ndarray) -> Gaussians:
    picked = torch.from_numpy(index)
    return Gaussians(**{field.name: getattr(gaussians, field.name)[picked] for field in dataclasses.fields(gaussians)})


def in_file_order(gaussians: Gaussians) -> Gaussians:
    return rows(gaussians, morton_order(gaussians.means.numpy()))


def rms(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).double().square().mean().sqrt())


def assert_within_bounds(loaded: Gaussians, saved: Gaussians, steps: float = 1) -> None:
    """The bounds of the module's docstring; `steps` is 2 for writers that cut where we round."""
    logs = saved.means.abs().log1p() * saved.means.sign()
    room = (1 + saved.means.abs()) * (logs.amax(0) - logs.amin(0)) / 131000
    assert (loaded.means - saved.means).abs().le(steps * room + 2e-7).all()
    across = (loaded.quats * (loaded.quats * saved.quats).sum(-1, keepdim=True).sign() - saved.quats).norm(dim=-1)
    assert 4 * torch.asin(across / 2).max() < steps * radians(1.15)
    assert (loaded.opacities - saved.opacities).abs().max() <= steps / 510 + 1e-6
    sizes = saved.scales.log()
    assert rms(loaded.scales.log(), sizes) <= float(sizes.max() - sizes.min()) / 512 + 1e-6
    colours = saved.sh[:, 0]
    assert rms(loaded.sh[:, 0], colours) <= float(colours.max() - colours.min()) / 512 + 1e-6


@pytest.mark.parametrize(("count", "sh_degree"), [(1, 0), (17, 1), (1000, 2), (1024, 3), (5000, 1)])
def test_a_round_trip_stays_within_the_stated_bounds(tmp_path, random_gaussians, count, sh_degree):
    saved = random_gaussians(count, sh_degree)
    sog.write(saved, tmp_path / "a.sog")
    loaded, saved = sog.read(tmp_path / "a.sog"), in_file_order(saved)
    assert loaded.sh_degree == sh_degree
    assert_within_bounds(loaded, saved)
    if sh_degree and count <= 1024:
        assert rms(loaded.sh[:, 1:], saved.sh[:, 1:]) <= float(np.ptp(saved.sh[:, 1:].numpy())) / 512


def test_places_keep_their_precision_near_the_origin_of_a_wide_scene(tmp_path, random_gaussians):
    saved = random_gaussians(2000)
    saved = dataclasses.replace(saved, means=saved.means * torch.logspace(-2, 3, 2000)[:, None])
    sog.write(saved, tmp_path / "a.sog")
    loaded, saved = sog.read(tmp_path / "a.sog"), in_file_order(saved)
    assert_within_bounds(loaded, saved)
    near = saved.means.norm(dim=-1) < 0.1
    assert near.any() and (loaded.means - saved.means)[near].abs().max() < 2e-4  # 16 bits of the whole: 8e-3.


def test_few_different_values_come_back_exactly(tmp_path, random_gaussians):
    saved = random_gaussians(400, 1)
    saved = dataclasses.replace(
        saved, scales=torch.tensor([0.01, 0.02, 0.5]).expand(400, 3), sh=(saved.sh * 20).round() / 20
    )
    sog.write(saved, tmp_path / "a.sog")
    loaded, saved = sog.read(tmp_path / "a.sog"), in_file_order(saved)
    torch.testing.assert_close(loaded.scales, saved.scales, rtol=1e-6, atol=0)
    torch.testing.assert_close(loaded.sh, saved.sh, rtol=0, atol=0)


def test_no_gaussians_come_back_as_none(tmp_path, random_gaussians):
    sog.write(random_gaussians(0, 2), tmp_path / "a.sog")
    loaded = sog.read(tmp_path / "a.sog")
    assert len(loaded) == 0 and loaded.sh_degree == 2


def test_colours_of_clear_gaussians_survive(tmp_path, random_gaussians):
    """Opacity is the picture's alpha, and encoders drop colours below alpha 0 unless told not to."""
    saved = dataclasses.replace(random_gaussians(200), opacities=torch.zeros(200))
    sog.write(saved, tmp_path / "a.sog")
    loaded = sog.read(tmp_path / "a.sog")
    assert loaded.opacities.max() == 0
    assert_within_bounds(loaded, in_file_order(saved))


def test_the_same_gaussians_give_the_same_bytes(tmp_path, random_gaussians):
    gaussians = random_gaussians(3000, 1)
    sog.write(gaussians, tmp_path / "a.sog")
    sog.write(gaussians.to(torch.float64), tmp_path / "b.sog")
    assert (tmp_path / "a.sog").read_bytes() == (tmp_path / "b.sog").read_bytes()


def test_a_written_file_follows_the_layout(tmp_path, random_gaussians):
    saved = in_file_order(random_gaussians(500, 1))
    sog.write(saved, tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        assert archive.namelist()[0] == "meta.json" and archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        meta = json.loads(archive.read("meta.json"))
        images = {
            n: np.asarray(Image.open(io.BytesIO(archive.read(n))).convert("RGBA")) for n in archive.namelist()[1:]
        }
    assert meta["version"] == 2 and meta["count"] == 500 and meta["shN"]["bands"] == 1 and meta["shN"]["count"] == 500
    assert [len(meta[name]["codebook"]) for name in ("scales", "sh0", "shN")] == [256] * 3
    shapes = {name: image.shape[:2] for name, image in images.items()}
    assert shapes.pop("shN_centroids.webp") == (8, 64 * 3)
    assert set(shapes.values()) == {(24, 24)} and len(shapes) == 6
    flat = {name: image.reshape(-1, 4)[:500].astype(int) for name, image in images.items()}
    assert meta["means"]["maxs"][1] == pytest.approx(float(saved.means[:, 1].max().log1p()))
    highest = int(saved.means[:, 1].argmax())
    assert flat["means_l.webp"][highest, 1] == flat["means_u.webp"][highest, 1] == 255
    np.testing.assert_array_equal(flat["quats.webp"][:, 3] - 252, saved.quats.abs().argmax(-1))
    codes = np.array(meta["scales"]["codebook"])
    np.testing.assert_allclose(np.exp(codes[flat["scales.webp"][:, 2]]), saved.scales[:, 2], rtol=0.02)
    np.testing.assert_allclose(flat["sh0.webp"][:, 3] / 255, saved.opacities, atol=0.002)
    # Gaussian 70 has entry 70: row 1, columns 6 * 3 and the two that follow.
    assert flat["shN_labels.webp"][70, 0] + 256 * flat["shN_labels.webp"][70, 1] == 70
    entry = np.array(meta["shN"]["codebook"])[images["shN_centroids.webp"][1, 18:21, :3]]
    np.testing.assert_allclose(entry, saved.sh[70, 1:], atol=0.01)


# --- codebooks and palettes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["normal", "uniform", "outlier", "integers", "constant"])
def test_codebooks_are_no_worse_than_equal_steps(shape):
    random = np.random.default_rng(0)
    values = {
        "normal": random.normal(size=20_000),
        "uniform": random.random(20_000),
        "outlier": np.append(random.normal(size=20_000), 1e6),
        "integers": random.integers(0, 1000, 20_000).astype(float),
        "constant": np.full(7, 0.3),
    }[shape]
    codes = codebook(values)
    assert codes.shape == (256,) and (np.diff(codes) >= 0).all()
    error = np.sqrt(np.mean((codes[nearest_codes(codes, values)] - values) ** 2))
    assert error <= np.ptp(values) / 512 + 1e-6
    if shape == "outlier":  # One value far off must not cost all others their codes.
        assert np.abs(codes[nearest_codes(codes, values[:-1])] - values[:-1]).max() < 0.5
    if shape == "normal":
        assert error < 0.6 * np.ptp(values) / 512


def test_every_value_takes_its_nearest_code(generator):
    values = torch.randn(1000, generator=generator).numpy()
    codes = codebook(values)
    best = np.abs(values[:, None] - codes).min(axis=1)
    np.testing.assert_allclose(np.abs(codes[nearest_codes(codes, values)] - values), best, atol=1e-7)


def test_palettes_find_clusters_and_stay_within_their_size(generator):
    kinds = torch.randn(200, 9, generator=generator)
    vectors = kinds[torch.randint(200, (5000,), generator=generator)] + 0.01 * torch.randn(5000, 9, generator=generator)
    entries, labels = palette(vectors.numpy())
    assert len(entries) <= 4096 and labels.min() >= 0 and labels.max() < len(entries)
    assert np.sqrt(np.mean((entries[labels] - vectors.numpy()) ** 2)) < 0.01  # Below the noise within a cluster.


def test_palettes_of_equal_vectors_and_of_few_are_exact(generator):
    same = np.ones((3000, 9), np.float32)
    entries, labels = palette(same)
    np.testing.assert_array_equal(entries[labels], same)
    few = torch.randn(1024, 9, generator=generator).numpy()
    entries, labels = palette(few)
    np.testing.assert_array_equal(entries[labels], few)


def test_palettes_serve_rare_vectors_too(generator):
    vectors = torch.zeros(3000, 9)
    vectors[1000:1050] = torch.randn(50, 9, generator=generator)
    entries, labels = palette(vectors.numpy())
    np.testing.assert_allclose(entries[labels], vectors.numpy(), atol=1e-6)


# --- other writers and readers ----------------------------------------------------------------------------------------


@needs_peers
def test_splat_transform_reads_ours_as_we_do(tmp_path, random_gaussians):
    saved = random_gaussians(1500, 3)
    sog.write(saved, tmp_path / "ours.sog")
    splat_transform(tmp_path / "ours.sog", tmp_path / "theirs.ply")
    theirs, ours = ply.read(tmp_path / "theirs.ply"), sog.read(tmp_path / "ours.sog")
    for field in dataclasses.fields(Gaussians):
        torch.testing.assert_close(getattr(theirs, field.name), getattr(ours, field.name), rtol=1e-5, atol=2e-6)
    assert_within_bounds(theirs, in_file_order(saved))


@needs_peers
def test_what_splat_transform_writes_is_read_as_it_reads_it(tmp_path, random_gaussians):
    saved = random_gaussians(300, 2)
    ply.write(saved, tmp_path / "a.ply")
    splat_transform(tmp_path / "a.ply", tmp_path / "theirs.sog")
    splat_transform(tmp_path / "theirs.sog", tmp_path / "back.ply")
    loaded, back = sog.read(tmp_path / "theirs.sog"), ply.read(tmp_path / "back.ply")
    for field in dataclasses.fields(Gaussians):
        torch.testing.assert_close(getattr(back, field.name), getattr(loaded, field.name), rtol=1e-5, atol=2e-6)
    nearest = torch.cdist(loaded.means, saved.means).argmin(dim=1).numpy()
    assert_within_bounds(loaded, rows(saved, nearest), steps=2)


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None], **packing: int) -> None:
    """Rewrite a bundle after `change(meta, pictures)`."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(entries.pop("meta.json"))
    change(meta, entries)
    with zipfile.ZipFile(path, "w", packing.get("compression", zipfile.ZIP_DEFLATED)) as archive:
        archive.writestr("meta.json", json.dumps(meta))
        for name, content in entries.items():
            archive.writestr(name, content)


def test_a_code_that_early_writers_lost_is_continued_from_the_others(tmp_path, random_gaussians):
    saved = dataclasses.replace(random_gaussians(256), scales=torch.linspace(-3, -1, 256).exp()[:, None].expand(256, 3))
    sog.write(saved, tmp_path / "a.sog")
    changed(tmp_path / "a.sog", lambda meta, _: meta["scales"]["codebook"].__setitem__(0, None))
    loaded = sog.read(tmp_path / "a.sog")
    assert float(loaded.scales.min()) == pytest.approx(exp(-3), rel=1e-3)


# --- damage -----------------------------------------------------------------------------------------------------------


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(FileProblem, match=message) as caught:
        sog.read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def put(*keys: str | int) -> Callable[[object], Callable[[dict[str, Any], dict[str, bytes]], None]]:
    """`put("a", 0)(value)` sets meta["a"][0]; `put(...)(...)` removes it."""

    def with_value(value: object) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
        def change(meta: dict[str, Any], _: dict[str, bytes]) -> None:
            *path, last = keys
            owner: Any = meta
            for key in path:
                owner = owner[key]
            if value is ...:
                del owner[last]
            else:
                owner[last] = value

        return change

    return with_value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("version")(3), "SOG version 3, expected 1 or 2"),
        (put("version")("a\nb"), re.escape(r"SOG version 'a\nb'")),
        (put("count")(...), "count is None, expected an integer"),
        (put("count")(True), "count is True"),
        (put("count")(-1), "count is -1"),
        (put("count")(2**31), "count is 2147483648"),
        (put("count")(10**7), "10000000 Gaussians in .* bytes"),
        (put("count")(5000), "24 x 24 pixels do not match 5000 Gaussians"),
        (put("note")("x" * (1 << 20)), "'meta.json' unpacks to more than 1048576 bytes"),
        (put("means")([]), "no section means"),
        (put("means", "mins")([0, 0]), "means mins is not a list of 3 numbers"),
        (put("means", "maxs", 1)(float("nan")), "means maxs is not a list of 3 numbers"),
        (put("means", "maxs", 1)(10**400), "means maxs is not a list"),
        (put("means", "files")(["means_l.webp"]), "means files names no picture 1"),
        (put("means", "files", 0)("../means.webp"), "it has no '../means.webp'"),
        (put("scales", "codebook")([-1.0] * 300), "scales codebook is not a list of 256"),
        (put("scales", "codebook")([-1.0] * 3), "asks for code .* of 3"),
        (put("scales", "codebook", 0)("-1"), "scales codebook is not a list"),
        (put("shN", "bands")(4), "shN bands is 4, expected an integer from 1 to 3"),
        (put("shN", "bands")(2), "192 x 8 pixels do not match"),
        (put("shN", "count")(400), "shN: a label is 499, but the palette has 400 entries"),
        (put("shN", "count")(70_000), "shN count is 70000"),
        (lambda meta, files: files.pop("quats.webp"), "it has no 'quats.webp'"),
        (lambda meta, files: files.update({"quats.webp": picture_of(np.zeros((500, 4), int))}), "last channel is 0"),
        (lambda meta, files: files.update({"quats.webp": files["quats.webp"][:100]}), "cannot be decoded"),
        (lambda meta, files: files.update({"quats.webp": b"\x89PNG\r\n\x1a\n" * 9}), "not a lossless WebP"),
        (lambda meta, files: files.update({"sh0.webp": picture_of(np.zeros((200_000, 3), int))}), "do not match 500"),
        (lambda meta, files: files.update({"sh0.webp": bytes(8_000_000)}), "'sh0.webp' unpacks to more than"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(tmp_path, random_gaussians, change, message):
    sog.write(random_gaussians(500, 1), tmp_path / "a.sog")
    changed(tmp_path / "a.sog", change)
    assert_refused(tmp_path / "a.sog", message)


def test_what_is_no_zip_or_packed_in_other_ways_is_refused(tmp_path, random_gaussians):
    assert_refused(tmp_path / "none.sog", "no such file")
    (tmp_path / "a.sog").write_bytes(b"PK\x03\x04 but no more")
    assert_refused(tmp_path / "a.sog", "not a .sog bundle: not a zip")
    sog.write(random_gaussians(5), tmp_path / "a.sog")
    changed(tmp_path / "a.sog", lambda meta, files: None, compression=zipfile.ZIP_LZMA)
    assert_refused(tmp_path / "a.sog", "compressed by method 14, expected stored or deflated")


def test_a_zip_of_many_files_is_refused_before_its_directory_is_parsed(tmp_path, random_gaussians):
    sog.write(random_gaussians(5), tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog", "a") as archive:
        archive.writestr("readme.txt", "A few more do no harm.")
    assert len(sog.read(tmp_path / "a.sog")) == 5
    with zipfile.ZipFile(tmp_path / "a.sog", "a") as archive:
        for i in range(1500):
            archive.writestr(zipfile.ZipInfo(str(i)), b"")
    assert_refused(tmp_path / "a.sog", "not a .sog bundle: not a zip, truncated, or with too many entries")


def test_an_entry_that_starts_beyond_the_end_of_all_numbers_is_refused(tmp_path, random_gaussians):
    sog.write(random_gaussians(5), tmp_path / "a.sog")
    content = (tmp_path / "a.sog").read_bytes()
    end = content.rindex(b"PK\5\6")
    size, start = struct.unpack_from("<II", content, end + 12)
    entry, name_end = bytearray(content[start:end]), 46 + len("meta.json")
    beyond = struct.pack("<HHQ", 1, 8, 2**63)  # A zip64 extra, which holds where the entry starts.
    struct.pack_into("<H", entry, 30, len(beyond))
    struct.pack_into("<I", entry, 42, 2**32 - 1)
    directory = bytes(entry[:name_end] + beyond + entry[name_end:])
    tail = content[end : end + 12] + struct.pack("<II", size + len(beyond), start) + content[end + 20 :]
    (tmp_path / "a.sog").write_bytes(content[:start] + directory + tail)
    assert_refused(tmp_path / "a.sog", "'meta.json' cannot be unpacked")


def test_more_gaussians_than_one_for_four_bytes_are_refused(tmp_path, random_gaussians):
    sog.write(random_gaussians(500, 1), tmp_path / "a.sog")
    size = (tmp_path / "a.sog").stat().st_size
    changed(tmp_path / "a.sog", put("count")(100_000 + size // 2))
    assert_refused(tmp_path / "a.sog", "Gaussians in only .* bytes")


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b'{"version": 2, "count": ' + b"9" * 5000 + b"}"])
def test_meta_that_is_no_object_is_refused(tmp_path, text):
    with zipfile.ZipFile(tmp_path / "a.sog", "w") as archive:
        archive.writestr("meta.json", text)
    assert_refused(tmp_path / "a.sog", "meta.json is not a JSON object")


@repeatable
@given(data=st.data())
def test_a_corrupted_file_is_read_or_refused_and_nothing_else(tmp_path, random_gaussians, data):
    if not (tmp_path / "valid.sog").exists():
        saved = random_gaussians(5, 1)
        sog.write(dataclasses.replace(saved, sh=saved.sh.round()), tmp_path / "valid.sog")
    pieces = [b"PK\x01\x02", b"\0" * 8, b"\xff\xff\xff\xff", b"9", b'"', b"null", b"VP8X", b"[[", b"e400"]
    path = tmp_path / "a.sog"
    path.write_bytes(damaged((tmp_path / "valid.sog").read_bytes(), data, pieces))
    assert_usable_or_refused(sog.read, path)


@repeatable
@given(data=st.data())
def test_a_bundle_of_corrupted_parts_is_read_or_refused_and_nothing_else(tmp_path, random_gaussians, data):
    """The zip's checksums stop damage early; here they are right, and what they guard is wrong."""
    if not (tmp_path / "valid.sog").exists():
        sog.write(random_gaussians(5, 1), tmp_path / "valid.sog")
    with zipfile.ZipFile(tmp_path / "valid.sog") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    chosen = data.draw(st.sampled_from(sorted(entries)))
    pieces = [b"\0" * 8, b"\xff\xff\xff\xff", b"9", b'"', b"null,", b"VP8X", b"[[", b"e40", b"-"]
    entries[chosen] = damaged(entries[chosen], data, pieces)
    with zipfile.ZipFile(tmp_path / "a.sog", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert_usable_or_refused(sog.read, tmp_path / "a.sog")
