"""Files of radiance fields: the same back, and one line about what is wrong with others."""

import json

import pytest
import torch
from safetensors.torch import save_file

from dreamsplat.assets.radiance_field import RadianceField
from dreamsplat.errors import FileProblem
from dreamsplat.files.kinds import FIELD, kind_of
from dreamsplat.files.kinds import FIELD_MARK as MARK
from dreamsplat.formats import load, read_asset, save
from dreamsplat.formats.field_file import read_field, write_field
from dreamsplat.types import Gaussians

GOOD = {"version": 1, "extent": 1.0}


@pytest.fixture
def field():
    grid = torch.randn(4, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    grid[0] -= 2
    return RadianceField(grid, 0.75)


def test_a_field_comes_back_bit_for_bit_and_gives_the_same_bytes(tmp_path, field):
    for name in ("a", "b"):
        save(field, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    back = read_asset(tmp_path / "a.safetensors")
    assert isinstance(back, RadianceField) and torch.equal(back.grid, field.grid) and back.extent == 0.75
    assert kind_of(tmp_path / "a.safetensors") == FIELD


def test_what_wants_gaussians_gets_them_fitted(tmp_path, field):
    write_field(field, tmp_path / "a.safetensors")
    assert isinstance(load(tmp_path / "a.safetensors"), Gaussians)


def test_gaussians_are_not_saved_as_a_field(tmp_path, random_gaussians):
    with pytest.raises(FileProblem, match="holds a radiance field, not Gaussians"):
        save(random_gaussians(3), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("grid", "metadata", "message"),
    [
        (torch.zeros(4, 8, 8, 9), {}, r"F32 \[4, 8, 8, 9\]"),
        (torch.zeros(3, 8, 8, 8), {}, r"F32 \[3, 8, 8, 8\]"),
        (torch.zeros(4), {}, r"F32 \[4\]"),
        (torch.zeros(()), {}, r"F32 \[\]"),
        (torch.zeros(4, 8, 8, 8, dtype=torch.float16), {}, "F16"),
        (torch.full((4, 8, 8, 8), torch.nan), {}, "NaN"),
        (torch.zeros(4, 8, 8, 8), {"extent": "none"}, "header is damaged"),
        (torch.zeros(4, 8, 8, 8), {"extent": -1}, "extent -1"),
        (torch.zeros(4, 8, 8, 8), {"extent": float("nan")}, "extent nan"),
        (torch.zeros(4, 8, 8, 8), {"version": 2}, "version 2, expected 1"),
    ],
)
def test_another_grid_is_refused_in_one_line(tmp_path, grid, metadata, message):
    save_file({"grid": grid}, tmp_path / "a.safetensors", {MARK: json.dumps(GOOD | metadata)})
    with pytest.raises(FileProblem, match=message) as caught:
        read_field(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


def test_half_a_file_and_a_header_that_asks_for_terabytes_are_refused(tmp_path, field):
    path = tmp_path / "a.safetensors"
    write_field(field, path)
    content = path.read_bytes()
    header = {
        "__metadata__": {MARK: json.dumps(GOOD)},
        "grid": {"dtype": "F32", "shape": [4, 100_000, 100_000, 100_000], "data_offsets": [0, 16]},
    }
    text = json.dumps(header).encode()
    for damaged in (content[: len(content) // 2], content[:6], b"", len(text).to_bytes(8, "little") + text + bytes(16)):
        path.write_bytes(damaged)
        with pytest.raises(FileProblem, match="cannot be read as a field") as caught:
            read_field(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileProblem, match="cannot be read as a field"):
        read_field(tmp_path / "missing.safetensors")


def test_weights_of_a_model_are_not_a_field(tmp_path):
    save_file({"grid": torch.zeros(4, 8, 8, 8)}, tmp_path / "a.safetensors")
    with pytest.raises(FileProblem, match="not of a field"):
        read_field(tmp_path / "a.safetensors")
    with pytest.raises(FileProblem, match="weights of a model"):
        load(tmp_path / "a.safetensors")
