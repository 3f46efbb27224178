"""PLY of any layout, compared with plyfile, which was written by others."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from dreamsplat.errors import FileProblem
from dreamsplat.formats.any_ply import Ply
from dreamsplat.priors3d.cloud_file import read_shape

ORDERS = [(True, "="), (False, "<"), (False, ">")]
NAMES = ("shade", "corners", "weight", "numbers")
HEADER = (
    b"ply\nformat binary_little_endian 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
)
VERTICES = np.eye(4, 3, dtype="<f4").tobytes()


def faces(lengths: list[tuple[int, int]]) -> np.ndarray:
    """Records with two lists of these lengths, and a byte before, between and behind them: plyfile 1.1 does not turn
    the bytes of larger numbers there."""
    generator = np.random.default_rng(0)
    kinds = [("shade", "u1"), ("corners", "O"), ("weight", "u1"), ("numbers", "O"), ("last", "u1")]
    table = np.empty(len(lengths), kinds)
    for i, (corners, numbers) in enumerate(lengths):
        table[i] = (
            i % 256, generator.integers(-9, 9, corners).astype("i4"), 3 * i, generator.normal(size=numbers), 7,
        )  # fmt: skip
    return table


@pytest.mark.parametrize(("text", "order"), ORDERS)
@pytest.mark.parametrize("lengths", [[(3, 2)] * 5, [(3, 0), (4, 1), (0, 5), (7, 0), (1, 1)], [(0, 0)] * 3, []])
@pytest.mark.parametrize("wanted", [NAMES, ("corners",), ("weight", "numbers")])
def test_every_property_is_found_in_any_order_whatever_the_lengths_of_lists(tmp_path, text, order, lengths, wanted):
    after = PlyElement.describe(np.array([(0,), (1,), (2,)], [("x", "f8")]), "after")
    kinds = {"len_types": {"corners": "u1", "numbers": "u2"}, "val_types": {"corners": "i4", "numbers": "f8"}}
    face = PlyElement.describe(faces(lengths), "face", **kinds)
    PlyData([face, after], text=text, byte_order=order).write(tmp_path / "a.ply")
    columns = Ply.open(tmp_path / "a.ply").columns({"face": wanted, "after": ("x",), "none": ("y",)})
    assert columns["after"]["x"].values.tolist() == [0, 1, 2]
    assert list(columns["face"]) == list(wanted)
    for name in wanted:
        expected = [np.atleast_1d(value) for value in faces(lengths)[name]]
        assert columns["face"][name].lengths.tolist() == [len(value) for value in expected]
        values = np.concatenate([np.empty(0), *expected])
        np.testing.assert_allclose(columns["face"][name].values.astype(float), values, rtol=1e-6)


def refusal(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(FileProblem) as caught:
        read_shape(path)
    return str(caught.value)


def test_a_polygon_of_few_bytes_does_not_become_many_triangles(tmp_path):
    header = HEADER + b"element face 1\nproperty list uint uchar vertex_indices\nend_header\n"
    told = refusal(tmp_path / "a.ply", header + VERTICES + struct.pack("<I", 1_000_000) + bytes(1_000_000))
    assert "999998 triangles in too few bytes" in told


def test_records_that_are_promised_and_not_there_are_not_looked_for(tmp_path):
    header = HEADER + b"element face 999999999999999\nproperty list uchar uchar vertex_indices\nend_header\n"
    assert "ends before the last of 999999999999999" in refusal(tmp_path / "a.ply", header + VERTICES + b"\0\0\1\1")
    text = header.replace(b"binary_little_endian", b"ascii") + b"0 0 0 " * 4 + b"1 0 " * 1000
    assert "truncated: its header promises" in refusal(tmp_path / "a.ply", text)


@pytest.mark.parametrize("length", ["-1", "2.5", "nan", "inf", "1e300"])
def test_lengths_of_lists_that_cannot_be_are_refused(tmp_path, length):
    header = HEADER.replace(b"binary_little_endian", b"ascii").replace(b"vertex 4", b"vertex 1")
    header += b"element face 2\nproperty list float int vertex_indices\nend_header\n"
    assert "a list 'vertex_indices' of length" in refusal(
        tmp_path / "a.ply", header + f"0 0 0\n3 0 0 0\n{length} 0 0".encode()
    )
