""".splat: what viewers read, what a round trip may change, and that damaged files are refused in one line."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import repeatable
from hypothesis import given
from hypothesis import strategies as st
from peers import needs_peers, node, splat_transform

from dreamsplat.errors import FileProblem
from dreamsplat.formats import load, ply, splat
from dreamsplat.maths.harmonics import DC, rgb_to_sh, sh_to_rgb
from dreamsplat.maths.rotations import covariances, rotation_from_quats
from dreamsplat.types import Gaussians

RECORD = np.dtype([("xyz", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("wxyz", "u1", 4)])
BYTE = 0.5 / 255 + 1e-6  # Half a step of a byte, and float32 rounding.
MOST_TURN_DEG = 0.9  # Four components, each off by 1/256: |dq| <= 2/256, and a rotation turns by at most 2 |dq|.


def displayable(gaussians: Gaussians, generator: torch.Generator) -> Gaussians:
    """The same with colours in [0, 1], which is all that .splat can hold."""
    rgb = torch.rand(len(gaussians), 1, 3, generator=generator)
    return dataclasses.replace(gaussians, sh=rgb_to_sh(rgb))


def turn_deg(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The angle [N] between rotations, given as quaternions [N, 4]."""
    relative = rotation_from_quats(a.double()).mT @ rotation_from_quats(b.double())
    return torch.rad2deg(((relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1).acos())


def in_order_of(gaussians: Gaussians, loaded: Gaussians) -> Gaussians:
    """`gaussians` in the order in which `loaded` has them; centres are stored exactly and are all different."""
    place = {tuple(row): i for i, row in enumerate(gaussians.means.tolist())}
    index = torch.tensor([place[tuple(row)] for row in loaded.means.tolist()])
    return Gaussians(**{name: values[index] for name, values in vars(gaussians).items()})


def test_a_round_trip_stays_within_the_stated_bounds(tmp_path, random_gaussians, generator):
    saved = displayable(random_gaussians(2000), generator)
    splat.write(saved, tmp_path / "a.splat")
    loaded = load(tmp_path / "a.splat")
    assert (tmp_path / "a.splat").stat().st_size == 32 * 2000
    saved = in_order_of(saved, loaded)
    assert torch.equal(loaded.scales, saved.scales)
    assert float((loaded.opacities - saved.opacities).abs().max()) <= BYTE
    assert float((sh_to_rgb(loaded.sh) - sh_to_rgb(saved.sh)).abs().max()) <= BYTE
    assert 0.3 < float(turn_deg(loaded.quats, saved.quats).max()) < MOST_TURN_DEG  # Not a bound far above the truth.
    torch.testing.assert_close(loaded.quats.norm(dim=-1), torch.ones(2000))
    assert all(values.dtype == torch.float32 and values.is_contiguous() for values in vars(loaded).values())


def test_a_written_file_follows_the_layout_that_viewers_expect(tmp_path):
    one = Gaussians(
        means=torch.tensor([[1.0, 2, 3]]),
        scales=torch.tensor([[0.1, 0.2, 0.3]]),
        quats=torch.tensor([[0.0, 3, 0, 4]]),
        opacities=torch.tensor([0.4]),
        sh=torch.tensor([[[0.0, 0.5 / DC, -9]]]),
    )
    splat.write(one, tmp_path / "a.splat")
    (record,) = np.frombuffer((tmp_path / "a.splat").read_bytes(), RECORD)
    assert record["xyz"].tolist() == [1, 2, 3]
    assert record["scale"].tolist() == torch.tensor([0.1, 0.2, 0.3]).tolist()
    assert record["rgba"].tolist() == [128, 255, 0, 102]
    # (0, -0.6, 0, -0.8), the same rotation: 128 + 128 q.
    assert record["wxyz"].tolist() == [128, 51, 128, 26]


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("length", [1.0, -1.0, 1e-30, 1e30])
def test_turns_by_whole_axes_survive_exactly_also_where_readers_do_not_normalise(
    tmp_path, random_gaussians, axis, length
):
    quats = length * torch.eye(4)[axis][None]
    splat.write(dataclasses.replace(random_gaussians(1), quats=quats), tmp_path / "a.splat")
    (record,) = np.frombuffer((tmp_path / "a.splat").read_bytes(), RECORD)
    assert np.linalg.norm((record["wxyz"].astype(float) - 128) / 128) == 1
    assert torch.equal(splat.read(tmp_path / "a.splat").quats.abs(), torch.eye(4)[axis][None])


def test_the_largest_and_most_opaque_come_first_and_equals_keep_their_order(tmp_path, random_gaussians):
    gaussians = dataclasses.replace(
        random_gaussians(5),
        scales=torch.tensor([[0.1], [0.2], [0.1], [0.2], [0.1]]).expand(5, 3),
        opacities=torch.tensor([0.5, 0.1, 0.9, 0.9, 0.5]),
    )
    splat.write(gaussians, tmp_path / "a.splat")
    # 0.2^3 x 0.1 is above 0.1^3 x 0.5; the first and the last are equal.
    assert torch.equal(splat.read(tmp_path / "a.splat").means, gaussians.means[[3, 2, 1, 0, 4]])


def test_the_same_gaussians_give_the_same_bytes_whatever_their_dtype(tmp_path, random_gaussians):
    gaussians = random_gaussians(50, 3)
    splat.write(gaussians, tmp_path / "a.splat")
    splat.write(gaussians.to(torch.float64), tmp_path / "b.splat")
    assert (tmp_path / "a.splat").read_bytes() == (tmp_path / "b.splat").read_bytes()


def test_colour_by_direction_is_dropped_with_one_warning(tmp_path, random_gaussians, caplog):
    gaussians = random_gaussians(20, 3)
    with caplog.at_level(logging.WARNING):
        splat.write(gaussians, tmp_path / "a.splat")
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / 'a.splat'}: .splat holds no view-dependent colour; only degree 0 of 3 is "
        "written. Use .ply or .spz to keep it."
    ]
    caplog.clear()
    splat.write(dataclasses.replace(gaussians, sh=gaussians.sh[:, :1]), tmp_path / "b.splat")
    assert (tmp_path / "a.splat").read_bytes() == (tmp_path / "b.splat").read_bytes() and not caplog.records
    assert splat.read(tmp_path / "a.splat").sh_degree == 0


def test_no_gaussians_are_an_empty_file(tmp_path, random_gaussians):
    splat.write(random_gaussians(0), tmp_path / "a.splat")
    assert (tmp_path / "a.splat").read_bytes() == b"" and len(splat.read(tmp_path / "a.splat")) == 0


def test_scales_of_0_by_other_writers_stay_usable(tmp_path):
    assert float(load(written(tmp_path, scale=[0, 1e-45, 1])).scales.min()) > 0


# --- files that cannot be read ----------------------------------------------------------------------------------------


def written(folder: Path, **changes) -> Path:
    """A file of three usable records; the second has some fields changed."""
    table = np.zeros(3, RECORD)
    table["scale"], table["rgba"], table["wxyz"] = 0.1, 200, [255, 128, 128, 128]
    for name, value in changes.items():
        table[name][1] = value
    (folder / "a.splat").write_bytes(table.tobytes())
    return folder / "a.splat"


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(FileProblem, match=message) as caught:
        splat.read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xyz": [0, np.nan, 0]}, "NaN or infinite centre"),
        ({"scale": [1, -1, 1]}, "scale below 0"),
        ({"wxyz": 128}, "rotation 0 0 0 0"),
    ],
)
def test_values_that_cannot_be_drawn_are_dropped_by_name(tmp_path, changes, message, caplog):
    assert len(load(written(tmp_path, **changes))) == 2
    assert f"dropped 1 of 3 Gaussians: {message} (1)" in caplog.text


def test_a_file_cut_within_a_record_is_refused(tmp_path):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert_refused(path, "95 bytes, expected a multiple of 32; it is truncated or not a .splat file")


def test_a_missing_file_is_refused(tmp_path):
    assert_refused(tmp_path / "none.splat", "no such file")


@repeatable
@given(data=st.data())
def test_a_corrupted_file_is_read_or_refused_and_nothing_else(tmp_path, data):
    content = bytearray(written(tmp_path).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, len(content) - 1)))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                content[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del content[place : place + data.draw(st.sampled_from([1, 8, 32, 64]))]
            case "insert":
                content[place:place] = data.draw(st.binary(max_size=32) | st.binary(min_size=32, max_size=32))
    (tmp_path / "a.splat").write_bytes(content)
    try:
        loaded = load(tmp_path / "a.splat")
    except FileProblem as error:
        assert str(error).startswith(str(tmp_path / "a.splat")) and "\n" not in str(error)
    else:
        assert all(bool(torch.isfinite(v).all()) for v in vars(loaded).values())
        assert bool((loaded.scales > 0).all())
        torch.testing.assert_close(loaded.quats.norm(dim=-1), torch.ones(len(loaded)))


# --- other programs ---------------------------------------------------------------------------------------------------


@needs_peers
def test_splat_transform_reads_what_is_written(tmp_path, random_gaussians, generator):
    saved = displayable(random_gaussians(500), generator)
    splat.write(saved, tmp_path / "a.splat")
    splat_transform(tmp_path / "a.splat", tmp_path / "a.ply")
    theirs = ply.read(tmp_path / "a.ply")
    saved = in_order_of(saved, theirs)
    torch.testing.assert_close(theirs.scales, saved.scales)  # As logarithms, in the .ply between.
    assert float((theirs.opacities - saved.opacities).abs().max()) <= BYTE
    assert float((sh_to_rgb(theirs.sh) - sh_to_rgb(saved.sh)).abs().max()) <= BYTE
    # It takes a byte b for 2 b / 255 - 1, not (b - 128) / 128: up to 1/128 more for each of four components.
    assert float(turn_deg(theirs.quats, saved.quats).max()) < MOST_TURN_DEG + 1.8


@needs_peers
def test_three_reads_the_centres_covariances_and_colours_that_are_written(tmp_path, random_gaussians, generator):
    splat.write(displayable(random_gaussians(50), generator), tmp_path / "a.splat")
    script = """
        import { readFileSync } from 'node:fs';
        import { SPLATLoader } from 'three/addons/loaders/SPLATLoader.js';
        const geometry = new SPLATLoader().parse(new Uint8Array(readFileSync(process.argv[1])).buffer);
        const values = Object.entries(geometry.attributes).map(([name, { array }]) => [name, Array.from(array)]);
        console.log(JSON.stringify(Object.fromEntries(values)));
    """
    theirs = {name: torch.tensor(values) for name, values in json.loads(node(script, tmp_path / "a.splat")).items()}
    ours = splat.read(tmp_path / "a.splat")
    upper = torch.triu_indices(3, 3)
    torch.testing.assert_close(theirs["position"].reshape(50, 3), ours.means)
    covariance = covariances(ours.scales, ours.quats)[:, upper[0], upper[1]]
    torch.testing.assert_close(theirs["covariance"].reshape(50, 6), covariance, rtol=1e-4, atol=1e-8)
    rgba = torch.cat([sh_to_rgb(ours.sh[:, 0]), ours.opacities[:, None]], dim=1)
    torch.testing.assert_close(theirs["color"].reshape(50, 4) / 255, rgba, rtol=0, atol=1e-6)
