"""The weights files of the bundled models: what they hold, and which files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dreamsplat.errors import FileProblem
from dreamsplat.world.bundle import (
    IMAGE_WEIGHTS,
    VOLUME_WEIGHTS,
    WEIGHTS,
    read_image_model,
    read_volume_model,
    training_record,
    weight_hashes,
    write_image_model,
)  # fmt: skip
from dreamsplat.world.language.vocabulary import VOCABULARY
from dreamsplat.world.nets.picture_denoiser import ImageDenoiser, ImageDenoiserSizes

TINY = ImageDenoiserSizes(resolution=32, channels=(64, 64), blocks=1, embedding=32, layout=4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of a tiny 2D model."""
    path = tmp_path / "image.safetensors"
    weights = {name: value.half() for name, value in ImageDenoiser(TINY).state_dict().items()}
    write_image_model(path, TINY, weights, {"samples": 7})
    return path


def test_weights_come_back_from_their_file_frozen(path: Path) -> None:
    model = read_image_model(path)
    assert model.config == TINY and training_record(path) == {"samples": 7}
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert torch.equal(model.exit.bias.half(), load_file(path)["exit.bias"])


def test_missing_and_broken_files_are_named(path: Path) -> None:
    with pytest.raises(FileProblem, match="nowhere.safetensors: no such weights file"):
        read_image_model(path.with_name("nowhere.safetensors"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FileProblem, match="image.safetensors: not a dreamsplat weights file"):
        read_image_model(path)


def _with_header(path: Path, **changes: object) -> None:
    """Write a file again with entries of its header changed; None leaves one out."""
    with safe_open(path, "pt") as file:
        header = file.metadata() | {key: json.dumps(value) for key, value in changes.items()}
    save_file(load_file(path), path, {key: value for key, value in header.items() if value != "null"})


@pytest.mark.parametrize(
    ("kind", "words", "difference"),
    [
        ("colours", ("orange", "red", *VOCABULARY["colours"][2:]), "1 of its colours is 'orange', expected 'red'"),
        ("categories", VOCABULARY["categories"][:-1], "12 of its categories is missing, expected 'teapot'"),
        ("views", (*VOCABULARY["views"], "below"), "5 of its views is 'below', expected missing"),
    ],
)
def test_weights_trained_on_other_words_are_refused_by_the_first_that_differs(
    path: Path, kind: str, words: tuple[str, ...], difference: str
) -> None:
    _with_header(path, vocabulary=VOCABULARY | {kind: words})
    with pytest.raises(FileProblem, match=rf"trained on other words: number {difference}\. Train the model again"):
        read_image_model(path)


@pytest.mark.parametrize("vocabulary", ["red mug", ["red"], {"colours": 5}])
def test_a_vocabulary_that_is_none_is_refused(path: Path, vocabulary: object) -> None:
    _with_header(path, vocabulary=vocabulary)
    with pytest.raises(FileProblem, match="the vocabulary in its header cannot be read"):
        read_image_model(path)


def test_weights_that_do_not_name_their_words_are_refused(path: Path) -> None:
    _with_header(path, vocabulary=None)
    with pytest.raises(FileProblem, match="does not say which words .* Train the model again"):
        read_image_model(path)


def test_the_shipped_weights_are_there_small_and_of_this_vocabulary() -> None:
    assert set(weight_hashes()) == {"image.safetensors", "volume.safetensors"}
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= 40e6
    read_image_model(IMAGE_WEIGHTS)
    read_volume_model(VOLUME_WEIGHTS)
