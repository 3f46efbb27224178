"""Colours of vertices are found by any name, in any range, and a range that is unlikely is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plyfile import PlyData, PlyElement

from dreamsplat.errors import FileProblem
from dreamsplat.formats.ply_colours import colour_names, scaled_to_1
from dreamsplat.formats.points import read_points

CHANNELS = st.sampled_from([("red", "green", "blue"), ("r", "g", "b")])
AFFIX = st.sampled_from(
    ["", "diffuse_", "color_", "colour_", "scalar_", "vertex_", "base_color_", "albedo", "c.", "_0", "_f"]
)
CASE = st.sampled_from([str, str.upper, str.title, lambda name: name[:-1] + name[-1].upper()])
OTHERS = ["x", "y", "z", "nx", "ny", "nz", "alpha", "rot_0", "intensity", "radius", "quality", "s", "t"]


@given(CHANNELS, AFFIX, AFFIX, CASE, st.permutations(OTHERS))
def test_three_names_that_differ_in_the_channel_alone_are_colours(channels, before, after, case, others):
    names = [case(before + channel + after) for channel in channels]
    assert colour_names([*others[:6], *names[::-1], *others[6:]]) == names


@given(st.permutations(OTHERS))
def test_other_properties_are_no_colours(others):
    assert colour_names(others) is None


@pytest.mark.parametrize("other", ["ambient_", "specular_", "back_", "scalar_"])
def test_the_colour_that_is_seen_goes_first(other):
    first = "diffuse_" if other != "scalar_" else ""
    names = [prefix + channel for prefix in (other, first) for channel in ("red", "green", "blue")]
    assert colour_names(names) == names[3:]


def said(rgb: object, top: float, caplog: pytest.LogCaptureFixture) -> tuple[np.ndarray, str]:
    caplog.clear()
    return scaled_to_1(Path("a.ply"), torch.tensor(rgb).double(), top).numpy(), caplog.text


@pytest.mark.parametrize(
    ("top", "high", "used", "warning"),
    [
        (1, 1, 1, ""),
        (1, 1.04, 1, ""),
        (1, 1.5, 1, "clamped"),
        (1, 255, 255, "read as 0 to 255"),
        (1, 60_000, 65535, "read as 0 to 65535"),
        (255, 255, 255, ""),
        (255, 1, 255, "nearly black"),
        (255, 40_000, 65535, "read as 0 to 65535"),
        (65535, 65535, 65535, ""),
        (65535, 255, 255, "read as 0 to 255"),
        (65535, 1, 65535, "nearly black"),
    ],
)
def test_the_range_of_colours_is_that_of_their_type_or_what_is_said(top, high, used, warning, caplog):
    rgb = np.linspace(0, high, 60).reshape(20, 3)
    found, text = said(rgb, top, caplog)
    np.testing.assert_allclose(found, np.clip(rgb / used, 0, 1), atol=1e-12)
    assert warning in text and bool(warning) == bool(text)


def test_colours_below_0_are_said(caplog):
    assert "-1 to 1: clamped" in said([[-1.0, 0, 1]] * 10, 1, caplog)[1]


@pytest.mark.parametrize(("top", "high"), [(1, 1e6), (1, 1000), (255, 1000), (255, 1e9)])
def test_colours_of_no_known_range_are_refused(top, high, caplog):
    with pytest.raises(FileProblem, match="its colours reach"):
        said([[0, 0, high]], top, caplog)


def test_a_cloud_without_colours_is_grey_and_what_else_it_has_is_said(tmp_path, caplog):
    table = np.zeros(4, [(name, "f4") for name in ("x", "y", "z", "Intensity", "nx")])
    PlyData([PlyElement.describe(table, "vertex")]).write(str(tmp_path / "a.ply"))
    assert (read_points(tmp_path / "a.ply").rgb == 0.5).all()
    assert "it has no colours, only Intensity nx: all of it is grey" in caplog.text
