"""One loader for every file of Gaussians: its content decides, what cannot be drawn is dropped, oddities are said."""

from __future__ import annotations

import dataclasses
import gzip
import json
import logging
import math
import shutil
import zipfile
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plyfile import PlyData, PlyElement

from dreamsplat import load, save
from dreamsplat.assets import Z_UP_TO_Y_UP, moved, rotated, rows
from dreamsplat.errors import FileProblem
from dreamsplat.files import gltf
from dreamsplat.files.kinds import GLB, SOG, kind_of
from dreamsplat.formats import FORMATS, read
from dreamsplat.maths.harmonics import rgb_to_sh, sh_to_rgb
from dreamsplat.types import Gaussians

CASES = Path(__file__).parent.parent / "cases"
READABLE = [end for end, form in FORMATS.items() if form.read]
SCALES = ("scale_0", "scale_1", "scale_2")
PLAIN = [*"xyz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", *SCALES, "rot_0", "rot_1", "rot_2", "rot_3"]


def vertices(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """The columns of a PLY of degree 0."""
    table = torch.cat(
        [
            gaussians.means,
            gaussians.sh[:, 0],
            gaussians.opacities.logit()[:, None],
            gaussians.scales.log(),
            gaussians.quats,
        ],
        dim=1,
    )
    return dict(zip(PLAIN, table.double().numpy().T, strict=True))


def write_ply(path: Path, columns: dict[str, np.ndarray], kinds: dict[str, str] | None = None, **options) -> Path:
    """A file by plyfile; `kinds` gives numpy types other than float32."""
    types = [(name, (kinds or {}).get(name, "f4")) for name in columns]
    table = np.empty(len(next(iter(columns.values()))), dtype=types)
    with np.errstate(over="ignore"):
        for name, values in columns.items():
            table[name] = values
    before = options.pop("before", [])
    PlyData([*before, PlyElement.describe(table, "vertex")], **({"byte_order": "<"} | options)).write(str(path))
    return path


def same(one: Gaussians, other: Gaussians, tolerance: float = 1e-5) -> bool:
    pairs = zip(one.tensors().values(), other.tensors().values(), strict=True)
    return all(
        a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=tolerance, rtol=tolerance) for a, b in pairs
    )


@pytest.fixture
def asset(random_gaussians) -> Gaussians:
    return random_gaussians(60)


# --- the cases that strangers handed over -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count", "told"),
    [
        ("nan_rows.ply", 43, "dropped 7 of 50 Gaussians: NaN or infinite centre (7)"),
        ("nan_colour.ply", 49, "dropped 1 of 50 Gaussians: NaN or infinite colour (1)"),
        ("cloud_one_nan_row.ply", 49, "dropped 1 of 50 points: NaN or infinite position (1)"),
        ("ascii.ply", 50, None),
        ("big_endian.ply", 50, None),
        ("listfirst.ply", 2000, None),
        ("rgb_uchar_colours.ply", 50, None),
        ("rgb_short.ply", 50, None),
        ("utm_double.ply", 300, "Add --centre"),
        ("utm_float32.ply", 300, "detail was lost when the file was written"),
        ("unbundled", 2000, None),
        ("v1.sog", 2000, None),
        ("anti.splat", 2000, None),
        ("base4.spz", 2000, None),
    ],
)
def test_a_strangers_file_is_read(name, count, told, caplog):
    assert len(load(CASES / name)) == count
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == (told is not None) and (told is None or told in warnings[0])


def test_dialects_of_one_asset_hold_the_same(caplog):
    text, binary = load(CASES / "ascii.ply"), load(CASES / "big_endian.ply")
    assert same(text, binary)
    bytes_ = PlyData.read(str(CASES / "rgb_uchar_colours.ply"))["vertex"]["green"] / 255
    green = sh_to_rgb(load(CASES / "rgb_uchar_colours.ply").sh[:, 0])[:, 1]
    np.testing.assert_allclose(green, bytes_, atol=1e-6)
    assert same(load(CASES / "listfirst.ply"), load(CASES / "listfirst.ply", strict=True))


# --- rows that cannot be drawn ----------------------------------------------------------------------------------------

BAD = {
    "NaN or infinite centre": ("x", [math.nan, math.inf, -math.inf, 1e300]),
    "NaN or infinite scale": ("scale_1", [math.nan, math.inf, 500.0]),
    "NaN or infinite rotation": ("rot_2", [math.nan, math.inf]),
    "NaN or infinite opacity": ("opacity", [math.nan]),
    "NaN or infinite colour": ("f_dc_1", [math.nan, math.inf]),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_bad_rows_are_dropped_and_the_others_are_as_they_were(tmp_path, asset, data, caplog):
    columns = vertices(asset)
    reason = data.draw(st.sampled_from(list(BAD)))
    name, values = BAD[reason]
    places = data.draw(st.sets(st.integers(0, len(asset) - 1), min_size=1, max_size=50))
    for place in places:
        columns[name][place] = data.draw(st.sampled_from(values))
    path = write_ply(tmp_path / "a.ply", columns, dict.fromkeys(PLAIN, "f8"), text=data.draw(st.booleans()))
    kept = [place for place in range(len(asset)) if place not in places]
    caplog.clear()
    assert same(load(path), rows(asset, torch.tensor(kept)))
    assert [f"dropped {len(places)} of 60 Gaussians: {reason} ({len(places)})." in m for m in caplog.messages] == [True]
    with pytest.raises(FileProblem, match=f"{len(places)} of 60 Gaussians cannot be drawn: {reason}"):
        load(path, strict=True)


def test_zero_rotations_are_dropped_and_several_reasons_are_counted(tmp_path, asset, caplog):
    columns = vertices(asset)
    for name in ("rot_0", "rot_1", "rot_2", "rot_3"):
        columns[name][[3, 4]] = 0
    columns["y"][4] = math.nan
    assert len(load(write_ply(tmp_path / "a.ply", columns))) == 58
    assert "dropped 2 of 60 Gaussians: NaN or infinite centre (1), rotation 0 0 0 0 (2)" in caplog.text


def test_what_is_at_the_edge_is_kept(tmp_path, asset, caplog):
    columns = vertices(asset)
    columns["scale_0"][0], columns["opacity"][1], columns["opacity"][2] = -math.inf, math.inf, -math.inf
    loaded = load(write_ply(tmp_path / "a.ply", columns), strict=True)
    assert len(loaded) == 60 and caplog.messages == []
    assert 0 < float(loaded.scales[0, 0]) < 1e-37 and loaded.opacities[1:3].tolist() == [1.0, 0.0]


def test_a_file_of_which_little_is_left_is_refused(tmp_path, asset):
    columns = vertices(asset)
    columns["z"][:55] = math.nan
    with pytest.raises(FileProblem, match="damaged, 55 of 60 Gaussians cannot be drawn") as refused:
        load(write_ply(tmp_path / "a.ply", columns))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("suffix", "stride"), [(".splat", 32), (".glb", 12)])
def test_other_formats_drop_bad_rows_too(tmp_path, asset, suffix, stride, caplog):
    path = tmp_path / f"a{suffix}"
    save(asset, path)
    content = bytearray(path.read_bytes())
    begin = content.index(b"BIN\0") + 4 if suffix == ".glb" else 0
    content[begin + 7 * stride : begin + 7 * stride + 4] = np.float32(math.nan).tobytes()
    path.write_bytes(content)
    assert len(load(path)) == 59 and "dropped 1 of 60 Gaussians: NaN or infinite centre (1)" in caplog.text


# --- what is in the file decides --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [".ply", ".spz", ".splat", ".glb", ".sog", ".compressed.ply", ".bin", ""])
@pytest.mark.parametrize("suffix", [end for end in READABLE if end != ".splat"])
def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path, asset, suffix, wrong, caplog):
    right = tmp_path / f"a{suffix}"
    save(asset, right)
    expected = load(right)
    right.rename(tmp_path / f"b{wrong}")
    caplog.clear()
    assert same(load(tmp_path / f"b{wrong}"), expected)
    quiet = wrong in (suffix, ".bin", "") or (suffix, wrong) == (".compressed.ply", ".ply")
    assert ("whatever its name says" in caplog.text) == (not quiet)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"\x80\x04\x95", "a Python pickle"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (gzip.compress(b"hello", mtime=0), "a gzip archive"),
        (b'{"hello": 1}', "a JSON file"),
        (b"OFF\n3 1 0\n", "a mesh as .off"),
        (b"solid cube\nfacet normal 0 0 1\n", "a mesh as .stl"),
    ],
)
@pytest.mark.parametrize("name", ["a.ply", "a.spz", "a"])
def test_what_holds_no_gaussians_is_called_by_its_name(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileProblem, match=what) as refused:
        load(tmp_path / name)
    assert "\n" not in str(refused.value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_layout_of_a_ply_is_read_alike(tmp_path, asset, data):
    columns = vertices(asset)
    order = data.draw(st.permutations(list(columns)))
    spelling = data.draw(st.sampled_from([str, str.upper, str.title]))
    kind = data.draw(st.sampled_from(["f4", "f8"]))
    faces = np.array([([0, 1, 2],), ([3],)], dtype=[("vertex_indices", "O")])
    cameras = np.ones(3, dtype=[("focal", "f4"), ("index", "u1")])
    before = [PlyElement.describe(faces, "face"), PlyElement.describe(cameras, "camera")]
    options = data.draw(st.sampled_from([{"text": True}, {"byte_order": "<"}, {"byte_order": ">"}]))
    renamed = {spelling(name): columns[name] for name in order}
    path = write_ply(
        tmp_path / "a.ply", renamed, dict.fromkeys(renamed, kind), before=data.draw(st.permutations(before)), **options
    )
    assert same(load(path), asset, 1e-4)


@pytest.mark.parametrize(
    ("names", "kind", "top"),
    [
        (("red", "green", "blue"), "u1", 255), (("Red", "Green", "Blue"), "u1", 255), (("r", "g", "b"), "f4", 1),
        (("diffuse_red", "diffuse_green", "diffuse_blue"), "u1", 255), (("red", "green", "blue"), "u2", 65535),
        (("R", "G", "B"), "f4", 255),
    ],
)  # fmt: skip
def test_colours_of_gaussians_may_be_display_colours(tmp_path, asset, names, kind, top):
    rgb = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    columns = {name: values for name, values in vertices(asset).items() if not name.startswith("f_dc")}
    columns |= {name: (rgb[:, i] * top).numpy() for i, name in enumerate(names)}
    loaded = load(write_ply(tmp_path / "a.ply", columns, dict.fromkeys(names, kind)))
    assert torch.allclose(loaded.sh[:, 0], rgb_to_sh(rgb), atol=0.02)


def test_surfels_are_flat(tmp_path, asset):
    columns = {name: values for name, values in vertices(asset).items() if name != "scale_2"}
    loaded = load(write_ply(tmp_path / "a.ply", columns))
    assert torch.allclose(loaded.scales[:, :2], asset.scales[:, :2]) and bool((loaded.scales[:, 2] < 2e-3).all())


def test_harmonics_above_degree_3_are_dropped(tmp_path, random_gaussians, caplog):
    gaussians = random_gaussians(20, 3)
    rest = np.zeros((20, 3, 24))
    rest[:, :, :15] = gaussians.sh[:, 1:].mT
    columns = vertices(gaussians) | {f"f_rest_{i}": column for i, column in enumerate(rest.reshape(20, 72).T)}
    assert same(load(write_ply(tmp_path / "a.ply", columns)), gaussians) and "degree 4" in caplog.text


@pytest.mark.parametrize("outside", [False, True])
def test_gaussians_in_a_gltf_are_those_of_its_glb(tmp_path, asset, outside):
    save(asset, tmp_path / "a.glb")
    text, body = gltf.chunks_of(tmp_path / "a.glb", (tmp_path / "a.glb").read_bytes())
    document = json.loads(text)
    document["buffers"][0]["uri"] = "num%20bers.bin" if outside else "data:;base64," + b64encode(body).decode()
    (tmp_path / "num bers.bin").write_bytes(body)
    (tmp_path / "b.gltf").write_text(json.dumps(document))
    assert same(load(tmp_path / "b.gltf"), asset)
    document["buffers"][0]["uri"] = "../secret.bin"
    (tmp_path / "c.gltf").write_text(json.dumps(document))
    with pytest.raises(FileProblem, match="outside its folder"):
        load(tmp_path / "c.gltf")


def test_an_unpacked_sog_is_read_like_the_bundle_and_from_no_other_folder(tmp_path, random_gaussians):
    save(random_gaussians(300, 2), tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        archive.extractall(tmp_path / "folder")
    assert same(load(tmp_path / "folder"), load(tmp_path / "a.sog"))
    assert same(load(tmp_path / "folder" / "meta.json"), load(tmp_path / "a.sog"))
    meta = json.loads((tmp_path / "folder" / "meta.json").read_text())
    shutil.copy(tmp_path / "folder" / "quats.webp", tmp_path / "quats.webp")
    meta["quats"]["files"] = ["../quats.webp"]
    (tmp_path / "folder" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(FileProblem, match="not the name of a file beside it"):
        load(tmp_path / "folder")


def test_a_sog_of_version_1_holds_numbers_between_bounds(tmp_path, random_gaussians):
    gaussians = random_gaussians(300)
    save(gaussians, tmp_path / "a.sog")
    expected = load(tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(entries["meta.json"])
    del meta["version"], meta["count"]
    meta["means"]["shape"] = [300, 3]
    for section in ("scales", "sh0"):  # Codebooks of evenly spaced codes say the same as bounds.
        codes = meta[section].pop("codebook")
        meta[section] |= {"mins": [codes[0]] * 3, "maxs": [codes[-1]] * 3}
    with zipfile.ZipFile(tmp_path / "b.sog", "w") as archive:
        for name, content in (entries | {"meta.json": json.dumps(meta).encode()}).items():
            archive.writestr(name, content)
    loaded = load(tmp_path / "b.sog")
    assert torch.equal(loaded.means, expected.means) and torch.equal(loaded.quats, expected.quats)
    assert torch.equal(loaded.opacities, expected.opacities)
    assert float(loaded.scales.min()) == pytest.approx(float(expected.scales.min()), rel=1e-4)
    assert float(loaded.sh.max()) == pytest.approx(float(expected.sh.max()), rel=1e-4)


def test_a_point_cloud_becomes_small_balls_of_its_colours(tmp_path):
    generator = torch.Generator().manual_seed(0)
    xyz, rgb = torch.rand(50, 3, generator=generator), torch.rand(50, 3, generator=generator)
    columns = {name: xyz[:, i].numpy() for i, name in enumerate("xyz")}
    columns |= {name: rgb[:, i].numpy() for i, name in enumerate(("r", "g", "b"))}
    loaded = load(write_ply(tmp_path / "a.ply", columns))
    assert torch.allclose(loaded.means, xyz) and torch.allclose(loaded.sh[:, 0], rgb_to_sh(rgb), atol=1e-5)
    assert bool((loaded.opacities > 0.9).all())


def test_a_cloud_without_colours_is_grey_and_says_so(tmp_path, caplog):
    load(write_ply(tmp_path / "a.ply", {name: np.random.default_rng(0).random(30) for name in "xyz"}))
    assert "it has no colours: all of it is grey" in caplog.text


# --- oddities ---------------------------------------------------------------------------------------------------------


def test_scales_and_opacities_that_are_no_logarithms_and_logits_are_said(tmp_path, asset, caplog):
    columns = vertices(asset)
    for name in SCALES:
        columns[name] = np.exp(columns[name])
    load(write_ply(tmp_path / "a.ply", columns))
    assert "its scale_* look like lengths" in caplog.text
    caplog.clear()
    load(write_ply(tmp_path / "b.ply", vertices(asset) | {"opacity": asset.opacities.numpy()}))
    assert "its opacities look like 0 to 1" in caplog.text


@pytest.mark.parametrize("top", [1, 255])
def test_colours_in_place_of_harmonics_are_said_and_not_changed(tmp_path, asset, top, caplog):
    columns = vertices(asset)
    for channel in range(3):
        columns[f"f_dc_{channel}"] = top * np.linspace(0, 1, len(asset))
    loaded = load(write_ply(tmp_path / "a.ply", columns))
    assert [f"reach from 0 to {top} like colours" in message for message in caplog.messages] == [True]
    assert float(loaded.sh.max()) == top
    caplog.clear()
    load(write_ply(tmp_path / "c.ply", vertices(asset)))
    assert caplog.messages == []


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(power=st.integers(0, 9), sign=st.sampled_from([-1.0, 1.0]))
def test_doubles_far_from_the_origin_keep_their_detail_until_they_are_moved(tmp_path, asset, power, sign):
    offset = sign * 10.0**power
    columns = vertices(asset)
    columns["y"] = columns["y"] + offset
    exact = read(write_ply(tmp_path / "a.ply", columns, dict.fromkeys("xyz", "f8")))
    back = moved(exact, (0.0, -offset, 0.0))
    assert torch.allclose(back.means.float(), asset.means, atol=1e-6)


def test_a_glb_is_turned_upright(tmp_path, asset):
    save(asset, tmp_path / "a.glb")
    raw = gltf.Glb.open(tmp_path / "a.glb").accessor(0, 3)
    assert torch.allclose(torch.from_numpy(raw), rotated(asset, Z_UP_TO_Y_UP).means, atol=1e-6)


def test_a_large_sog_whose_meta_json_comes_last_is_known_whatever_its_name(tmp_path, random_gaussians):
    save(random_gaussians(50), tmp_path / "a.sog")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "b.bin", "w") as archive:
        archive.writestr("filler", bytes(3 << 20))
        for name in sorted(parts, key=lambda name: name == "meta.json"):
            archive.writestr(name, parts[name])
    assert kind_of(tmp_path / "b.bin") == SOG


def test_gaussians_in_a_gltf_whose_buffers_come_first_are_known(tmp_path):
    filler = '"buffers": [{"uri": "data:,' + "A" * (3 << 20) + '"}]'
    text = '{"asset": {"version": "2.0"}, ' + filler + ', "extensionsUsed": ["KHR_gaussian_splatting"]}'
    (tmp_path / "a.gltf").write_text(text)
    assert kind_of(tmp_path / "a.gltf") == GLB


def test_scales_stored_as_lengths_are_pointed_out(tmp_path, random_gaussians, caplog):
    """Gaussians of 0.03 in an object of size 2 are read as ones of 1.03."""
    wrong = random_gaussians(200)
    save(dataclasses.replace(wrong, scales=torch.full_like(wrong.scales, 1.03)), tmp_path / "a.ply")
    load(tmp_path / "a.ply")
    assert "scale_* look like lengths" in caplog.text


def test_strays_far_away_do_not_make_the_object_far_away(tmp_path, random_gaussians, caplog):
    many = random_gaussians(2000)
    means = many.means.clone()
    means[7] = 1e6
    save(dataclasses.replace(many, means=means), tmp_path / "a.ply")
    load(tmp_path / "a.ply")
    assert "detail" not in caplog.text
