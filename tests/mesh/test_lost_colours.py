"""Colours of .obj, .off and .stl files are read or their loss is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dreamsplat.mesh import read_mesh
from dreamsplat.mesh.sample import Patch

pytest.importorskip("trimesh", reason="trimesh is not installed")


def patch_of(path: Path, content: str | bytes) -> Patch:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    surface = read_mesh(path)
    assert isinstance(surface, tuple) and len(surface) == 1
    return surface[0]


RGB = np.array([[1, 0, 0], [0, 1, 0], [0.2, 0.4, 1]])
CORNERS = ["0 0 0", "1 0 0", "0 1 0"]


@pytest.mark.parametrize(("top", "text"), [(1, "{:.3f}"), (255, "{:.0f}"), (255, "{:.1f}")])
@pytest.mark.parametrize("lead", ["v ", "v  ", "v\t"])
def test_an_obj_may_count_colours_to_1_or_255(tmp_path, caplog, top, text, lead):
    rows = [f"{lead}{at} " + " ".join(text.format(v * top) for v in rgb) for at, rgb in zip(CORNERS, RGB, strict=True)]
    patch = patch_of(tmp_path / "a.obj", "\n".join(["# by hand", *rows, "f 1 2 3", ""]))
    np.testing.assert_allclose(patch.rgb[0], RGB, atol=0.003)
    assert [f"read as 0 to {top}" in message for message in caplog.messages] == [True] * (top == 255)


@pytest.mark.parametrize("text", ["{:.3f}", "{:.0f}"])
def test_a_coff_has_colours_at_its_vertices(tmp_path, caplog, text):
    top = 255 if text == "{:.0f}" else 1
    rows = [f"{at} " + " ".join(text.format(v * top) for v in rgb) + " 1" for at, rgb in zip(CORNERS, RGB, strict=True)]
    patch = patch_of(tmp_path / "a.off", "\n".join(["COFF # coloured", "", "3 1 0", *rows, "3 0 1 2", ""]))
    np.testing.assert_allclose(patch.rgb[0], RGB, atol=0.003)
    assert caplog.messages == []


def test_colours_of_faces_in_an_off_are_lost_and_said(tmp_path, caplog):
    patch = patch_of(tmp_path / "a.off", "\n".join(["OFF", "3 1 0", *CORNERS, "3 0 1 2 255 0 0", ""]))
    assert (patch.rgb == 0.5).all()
    assert "the colours of its faces cannot be read from .off" in caplog.text


def stl(bits: list[int], header: bytes = b"") -> bytes:
    faces = np.zeros(len(bits), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("bits", "<u2")])
    faces["corners"] = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    faces["bits"] = bits
    return header.ljust(80, b"\0") + np.uint32(len(bits)).tobytes() + faces.tobytes()


@pytest.mark.parametrize(
    ("header", "bits", "rgb"),
    [
        (b"", [0x8000 | 31 << 10, 0x8000 | 31, 31], [[1, 0, 0], [0, 0, 1], [0.5, 0.5, 0.5]]),
        (b"COLOR=\xff\x80\x00\xff", [31, 31 << 10, 0x8000], [[1, 0, 0], [0, 0, 1], [1, 0.502, 0]]),
    ],
)
def test_an_stl_has_the_colours_of_either_program(tmp_path, caplog, header, bits, rgb):
    patch = patch_of(tmp_path / "a.stl", stl(bits, header))
    torch.testing.assert_close(patch.rgb[:, 0].double(), torch.tensor(rgb).double(), atol=0.01, rtol=0)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"),
        ("a.stl", stl([0, 0])),
    ],
)
def test_a_mesh_without_colours_is_grey_and_said(tmp_path, caplog, name, content):
    assert (patch_of(tmp_path / name, content).rgb == 0.5).all()
    assert caplog.messages == [f"{tmp_path / name}: it has no colours: all of it is grey."]
