"""What a path that is given as a model is taken for: itself, and never a repository of the hub."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

pytest.importorskip("huggingface_hub")
import huggingface_hub

from dreamsplat.errors import FileProblem
from dreamsplat.hub.fetch import check_available, found_here, local_folder
from dreamsplat.hub.names import is_hub_id, path_of
from dreamsplat.hub.variants import best_variant, missing_shards, variant_of, weights_files
from dreamsplat.hub.weights_file import read_header, why_not_a_checkpoint

FILES = ("unet/config.json", "unet/*.safetensors")
WORD = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,11}", fullmatch=True).filter(lambda word: word.strip(".") == word)
NAMES = st.lists(WORD, min_size=1, max_size=3).map("/".join)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub may not even be asked."""

    def ask(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ask)


@given(name=NAMES, is_file=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_exists_is_never_taken_for_a_hub_id(
    name: str, is_file: bool, tmp_path_factory: pytest.TempPathFactory, no_hub: None
):
    """Whatever its name, hub ids included: `owner/name` beside the working directory is that folder."""
    with contextlib.chdir(tmp_path_factory.mktemp("here")):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if is_file else path.mkdir()
        for spelling in (name, f"./{name}", str(path.absolute())):
            assert path_of(spelling) == Path(spelling) and found_here([spelling], None, FILES) is None
            for ask in (local_folder, check_available):
                with pytest.raises(FileProblem) as caught:
                    ask(spelling, None, FILES)
                assert 'hub id "owner/name"' not in str(caught.value) and "\n" not in str(caught.value)


@given(name=NAMES, suffix=st.sampled_from([".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".CKPT"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_missing_file_is_not_looked_for_on_the_hub(name: str, suffix: str, no_hub: None):
    with pytest.raises(FileProblem, match="no such folder, and not a hub id .* existing file"):
        check_available(name + suffix, None, FILES)


@given(name=NAMES)
def test_a_hub_id_is_one_or_two_words(name: str):
    assert is_hub_id(name) == (name.count("/") < 2 and Path(name).suffix not in (".bin", ".pt", ".json"))
    assert not any(is_hub_id(other) for other in (f"./{name}", f"/{name}", f"~/{name}", f"{name}/", f"C:\\{name}", ""))


# Folders.


def network(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        save_file({"a": torch.zeros(1)}, folder / name)
    return folder


VARIANTS = st.sampled_from(["", "fp16", "bf16", "non_ema"])


@given(
    base=st.sampled_from(["model", "diffusion_pytorch_model"]),
    variant=VARIANTS,
    shards=st.integers(1, 4),
    old=st.booleans(),
)
def test_the_variant_of_a_file_is_told_from_either_way_of_naming_shards(
    base: str, variant: str, shards: int, old: bool
):
    dotted = f".{variant}" if variant else ""
    for number in range(1, shards + 1):
        part = f"-{number:05}-of-{shards:05}" if shards > 1 else ""
        name = f"{base}{part}{dotted}" if old else f"{base}{dotted}{part}"
        assert variant_of(f"{name}.safetensors") == variant
    assert variant_of(f"{base}.safetensors.index{dotted}.json") == variant
    assert variant_of(f"{base}{dotted}.bin") is None and variant_of("config.json") is None


@given(variants=st.sets(VARIANTS, min_size=1), half=st.booleans())
def test_full_precision_is_taken_unless_half_is_wanted_and_anything_rather_than_nothing(variants: set[str], half: bool):
    best = best_variant(variants, half)
    assert best in variants
    wanted = "fp16" if half else ""
    assert (best == wanted) == (wanted in variants)
    if {"", "fp16"} & variants:
        assert best in ("", "fp16")


def test_only_one_variant_of_a_network_is_read_and_its_missing_shards_are_named(tmp_path: Path):
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    folder = network(tmp_path / "unet", [shards[0], "model.fp16.safetensors"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}))
    (folder / "config.json").write_text("{}")
    assert [path.name for path in weights_files(folder)] == shards[:1]
    assert missing_shards(folder) == shards[1:]
    with pytest.raises(FileProblem, match=f"has no unet/{shards[1]}. Expected a complete"):
        local_folder(str(tmp_path), None, FILES)
    (folder / shards[1]).touch()
    assert local_folder(str(tmp_path), None, FILES) == tmp_path
    (folder / "model.safetensors.index.json").write_text("{")
    with pytest.raises(FileProblem, match="index.json: not an index of shards. Fetch it again"):
        local_folder(str(tmp_path), None, FILES)


def test_a_folder_with_a_single_file_and_a_part_of_a_checkpoint_say_what_to_name(tmp_path: Path):
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, tmp_path / "dream.safetensors")
    with pytest.raises(FileProblem, match="holds a checkpoint in one file. Name that: .*dream.safetensors"):
        local_folder(str(tmp_path), None, FILES)
    unet = network(tmp_path / "sd/unet", ["diffusion_pytorch_model.safetensors"])
    (unet / "config.json").write_text("{}")
    with pytest.raises(FileProblem, match=f"is a part of the checkpoint {unet.parent}. Name that folder"):
        local_folder(str(unet), None, FILES)


# Files.

LAYERS = st.lists(
    st.sampled_from(["down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_k", "mid_block.attentions.0.to_q", "x"]),
    min_size=1,
    unique=True,
)
LORAS = {
    "kohya": ["lora_unet_{}.lora_down.weight", "lora_unet_{}.lora_up.weight", "lora_unet_{}.alpha"],
    "kohya text": ["lora_te_text_model_{}.lora_down.weight"],
    "kohya xl": ["lora_te2_text_model_{}.lora_up.weight"],
    "diffusers": ["unet.{}.lora.down.weight", "unet.{}.lora.up.weight"],
    "diffusers old": ["unet.{}.processor.to_q_lora.down.weight"],
    "diffusers 2023": ["{}_lora.up.weight"],
    "peft": ["base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight"],
    "peft named": ["{}.lora_A.default.weight"],
    "lycoris": ["lycoris_{}.lokr_w1", "lycoris_{}.lokr_w2_a"],
    "loha": ["lora_unet_{}.hada_w1_a"],
    "dora": ["unet.{}.lora_A.weight", "unet.{}.lora_magnitude_vector"],
    "oft": ["oft_unet_{}.oft_blocks"],
}


@given(layout=st.sampled_from(sorted(LORAS)), layers=LAYERS, rank=st.integers(1, 4))
def test_every_layout_of_a_lora_is_named_as_one(
    layout: str, layers: list[str], rank: int, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.getbasetemp() / "lora.safetensors"
    save_file({name.format(layer): torch.zeros(rank, 8) for name in LORAS[layout] for layer in layers}, path)
    assert "is a LoRA: it changes a checkpoint" in (why_not_a_checkpoint(read_header(path)) or "")
    with pytest.raises(FileProblem, match="is a LoRA.* fuse_lora.* and name the folder"):
        local_folder(str(path), None, FILES)


@given(
    word=st.sampled_from(["<cat-toy>", "emb_params", "sks", "v1.5 style", "*"]),
    rows=st.integers(0, 12),
    width=st.sampled_from([32, 768, 1024, 1280]),
    xl=st.booleans(),
)
def test_every_layout_of_an_embedding_is_named_as_one(
    word: str, rows: int, width: int, xl: bool, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.getbasetemp() / "embedding.safetensors"
    vectors = torch.zeros(rows, width) if rows else torch.zeros(width)
    save_file({"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(2, 1280)} if xl else {word: vectors}, path)
    assert "is a textual-inversion embedding" in (why_not_a_checkpoint(read_header(path)) or "")


@pytest.mark.parametrize(
    "name, kind",
    [
        ("control_model.input_blocks.0.0.weight", "a ControlNet"),
        ("controlnet_cond_embedding.conv_in.weight", "a ControlNet"),
        ("image_proj.proj.weight", "an IP-Adapter"),
        ("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "a motion module of AnimateDiff"),
    ],
)
def test_other_parts_are_named(name: str, kind: str, tmp_path: Path):
    save_file({name: torch.zeros(2, 2), "other.weight": torch.zeros(2)}, tmp_path / "a.safetensors")
    assert f"is {kind}" in (why_not_a_checkpoint(read_header(tmp_path / "a.safetensors")) or "")


def test_a_lora_or_an_embedding_in_a_folder_is_named_too(tmp_path: Path):
    save_file({"unet.x.lora.down.weight": torch.zeros(2, 2)}, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(FileProblem, match="pytorch_lora_weights.safetensors is a LoRA"):
        local_folder(str(tmp_path), None, FILES)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".pth", ".safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_whatever_its_name_with_a_command_that_converts_it(
    suffix: str, zipped: bool, tmp_path: Path
):
    path = tmp_path / f"my model{suffix}"
    shared = torch.arange(6.0)
    state = {"a": shared, "b": shared[2:], "step": 3}
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FileProblem, match="a pickle, which can run code when it is read. Convert it: ") as caught:
        read_header(path)
    if suffix == ".ckpt":
        command = str(caught.value).split("Convert it: python ")[1]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(f"{sys.executable} {command}", shell=True, check=True, env=environment)
        converted = load_file(path.with_suffix(".safetensors"))
        assert converted.keys() == {"a", "b"} and torch.equal(converted["b"], shared[2:])


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"GGUF\3\0\0\0" + bytes(30), "GGUF, which is not read"),
        (b"\n<!DOCTYPE html><html></html>", "a web page, not a model"),
        (b"PK\5\6" + bytes(18), "not a safetensors file"),
        (b"\2\0\0\0\0\0\0\0{}x", "cut off or corrupt"),
        (b"\x08\0\0\0\0\0\0\0{broken}", "cut off or corrupt"),
        (b'\x0c\0\0\0\0\0\0\0{"a":[1,2]} ', "cut off or corrupt"),
    ],
)
def test_other_files_are_named_in_one_line(content: bytes, reason: str, tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(FileProblem, match=reason) as caught:
        read_header(tmp_path / "model.safetensors")
    assert "\n" not in str(caught.value)


@given(cut=st.integers(1, 400))
def test_a_file_that_is_cut_off_anywhere_is_refused(cut: int, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.getbasetemp() / "cut.safetensors"
    save_file({"a.weight": torch.zeros(64), "b.weight": torch.zeros(64)}, path)
    whole = path.read_bytes()
    assert read_header(path).shapes == {"a.weight": (64,), "b.weight": (64,)}
    path.write_bytes(whole[: -min(cut, len(whole))])
    with pytest.raises(FileProblem, match="cut off or corrupt|not a safetensors file"):
        read_header(path)


def test_a_file_without_tensors_says_so(tmp_path: Path):
    save_file({}, tmp_path / "empty.safetensors")
    assert "holds no tensors" in (why_not_a_checkpoint(read_header(tmp_path / "empty.safetensors")) or "")
