"""Settings of priors: light to import, checked where they are made, and refused before any model is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dreamsplat.config import DreamConfig
from dreamsplat.errors import FileProblem, InvalidInput, UnknownWord
from dreamsplat.priors2d import BundledImagePrior, PerfectTeacher, StableDiffusion
from dreamsplat.priors2d.base import AbstractImagePriorSpec
from dreamsplat.priors3d import BundledCloudPrior, FromFile, ShapE
from dreamsplat.priors3d.base import AbstractCloudPriorSpec
from dreamsplat.world.header import IMAGE_WEIGHTS, VOLUME_WEIGHTS
from dreamsplat.world.language.vocabulary import vocabulary_header

HEAVY = {"torch", "diffusers", "transformers", "huggingface_hub", "PIL", "scipy", "numpy", "dreamsplat.formats"}
RED_MUG = DreamConfig(prompt="a red mug")


def modules_after(imports: str) -> set[str]:
    """Names of all modules that a fresh interpreter holds after an import statement."""
    code = f"import sys, {imports}; print('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_settings_of_priors_import_nothing_heavy():
    assert not HEAVY & modules_after("dreamsplat.priors2d, dreamsplat.priors3d, dreamsplat.hub.digests")


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (BundledImagePrior, "view", "nonsense"),
        (PerfectTeacher, "instances", 0),
        (PerfectTeacher, "resolution", 0),
        (PerfectTeacher, "seed", -1),
        (StableDiffusion, "tiny_until", 1.5),
        (StableDiffusion, "tiny_until", nan),
        (StableDiffusion, "resolution", 4),
        (StableDiffusion, "dtype", "fp8"),
    ],
)
def test_a_2d_prior_refuses_a_setting_out_of_range_by_name(kind: Any, field: str, value: Any):
    with pytest.raises(InvalidInput) as caught:
        kind(**{field: value})
    assert caught.value.setting == f"prior2d.{field}"


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (BundledCloudPrior, "points", 0),
        (BundledCloudPrior, "guidance_scale", -1.0),
        (BundledCloudPrior, "guidance_scale", inf),
        (BundledCloudPrior, "sampling_steps", 0),
        (ShapE, "guidance_scale", nan),
        (ShapE, "sampling_steps", 1001),
        (ShapE, "grid", 1),
        (ShapE, "field_points", 0),
        (ShapE, "points", "cloud"),
        (ShapE, "colour", "srgb"),
        (ShapE, "dtype", "bf16"),
        (FromFile, "count", 0),
        (FromFile, "size", 0.0),
        (FromFile, "size", nan),
        (FromFile, "turn_deg", inf),
        (FromFile, "up", "x"),
        (FromFile, "colour", "red"),
    ],
)
def test_a_3d_prior_refuses_a_setting_out_of_range_by_name(kind: Any, field: str, value: Any):
    with pytest.raises(InvalidInput) as caught:
        kind(**{field: value})
    assert caught.value.setting == f"prior3d.{field}"


# What only the whole run shows.


def refusal(config: DreamConfig, kind: type[Exception] = InvalidInput) -> Any:
    with pytest.raises(kind) as caught:
        config.check()
    assert "--" not in str(caught.value) and "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("prior2d", [BundledImagePrior(), PerfectTeacher()], ids=["bundled", "perfect"])
@pytest.mark.parametrize(
    ("field", "value"), [("background", "white"), ("view_text", "interpolated"), ("render_size", 48)]
)
def test_the_bundled_world_refuses_runs_that_its_pictures_do_not_fit(prior2d: Any, field: str, value: Any):
    replace(RED_MUG, prior2d=prior2d).check()
    assert refusal(replace(RED_MUG, prior2d=prior2d, **{field: value})).setting == field


def test_the_bundled_world_refuses_words_and_cameras_that_it_does_not_know():
    assert refusal(replace(RED_MUG, prompt="a red dragon"), UnknownWord).setting == "prompt"
    words_only = replace(RED_MUG, prompt="a red dragon", prior2d=StableDiffusion())
    assert refusal(words_only, UnknownWord).setting == "prompt"
    wide = replace(RED_MUG, cameras=replace(RED_MUG.cameras, fov_y_deg=(40.0, 70.0)))
    assert refusal(wide).setting == "cameras.fov_y_deg"


def test_the_size_of_renderings_follows_a_weights_file_which_is_not_loaded(tmp_path: Path):
    header = vocabulary_header() | {"config": json.dumps({"resolution": 32})}
    save_file({"nothing": torch.zeros(1)}, tmp_path / "small.safetensors", header)
    small = replace(RED_MUG, prior2d=BundledImagePrior(weights=tmp_path / "small.safetensors"))
    replace(small, render_size=32).check()
    assert refusal(small).setting == "render_size"


def test_weights_that_are_missing_damaged_or_of_the_other_model_are_refused_by_name(tmp_path: Path):
    (tmp_path / "damaged.safetensors").write_bytes(b"damaged")
    for path in (tmp_path / "missing.safetensors", tmp_path / "damaged.safetensors"):
        for part in ({"prior2d": BundledImagePrior(weights=path)}, {"prior3d": BundledCloudPrior(weights=path)}):
            assert str(path) in str(refusal(replace(RED_MUG, **part), FileProblem))
    swapped2d = replace(RED_MUG, prior2d=BundledImagePrior(weights=VOLUME_WEIGHTS))
    swapped3d = replace(RED_MUG, prior3d=BundledCloudPrior(weights=IMAGE_WEIGHTS))
    assert refusal(swapped2d, FileProblem).setting == "prior2d.weights"
    assert refusal(swapped3d, FileProblem).setting == "prior3d.weights"
    for swapped in (swapped2d.prior2d, swapped3d.prior3d):
        with pytest.raises(FileProblem, match="weights of another network"):
            swapped.load(torch.device("cpu"))


def test_a_start_from_a_file_needs_one_of_a_known_kind_that_is_not_empty(tmp_path: Path):
    assert refusal(replace(RED_MUG, prior3d=FromFile())).setting == "prior3d.file"
    (tmp_path / "empty.glb").touch()
    (tmp_path / "chair.fbx").write_text("a chair")
    (tmp_path / "folder.ply").mkdir()
    (tmp_path / "chair").touch()
    for name, why in (
        ("missing.ply", "no such file"), ("empty.glb", "is empty"), ("chair.fbx", "a run cannot start from it"),
        ("folder.ply", "is a folder, expected a file"), ("chair", "is empty"),
    ):  # fmt: skip
        problem = refusal(replace(RED_MUG, prior3d=FromFile(tmp_path / name)), FileProblem)
        assert name in str(problem) and why in str(problem)
    (tmp_path / "chair.obj").write_text("v 0 0 0")
    replace(RED_MUG, prior3d=FromFile(tmp_path / "chair.obj")).check()


def test_shap_e_refuses_pictures_weights_and_precisions_before_it_is_fetched(tmp_path: Path):
    (tmp_path / "text.png").write_text("not a picture")
    for name, why in (("missing.png", "no such file"), ("text.png", "cannot be read as a picture")):
        assert why in str(refusal(replace(RED_MUG, prior3d=ShapE(image=tmp_path / name)), FileProblem))
    assert "no such file" in str(refusal(replace(RED_MUG, prior3d=ShapE(weights=tmp_path / "a.pth")), FileProblem))
    assert refusal(replace(RED_MUG, prior3d=ShapE(dtype="fp16"), device="cpu")).setting == "prior3d.dtype"
    replace(RED_MUG, prior3d=ShapE(dtype="fp16"), device="cuda").check()


@pytest.mark.parametrize("model", ["/no/such/folder", "./model", "a/b/c", "a model"])
def test_names_that_are_neither_a_folder_nor_a_hub_id_are_refused(model: str):
    for part in ({"prior2d": StableDiffusion(model=model)}, {"prior3d": ShapE(model=model)}):
        assert str(refusal(replace(RED_MUG, **part), FileProblem)).startswith(f"{model}: no such folder, and not a hub")
    tiny = replace(RED_MUG, prior2d=StableDiffusion(model="owner/name", tiny_autoencoder=model))
    assert str(refusal(tiny, FileProblem)).startswith(f"{model}: no such folder")


@pytest.mark.parametrize("name", ["n" * 5000, "/" + "n" * 5000, "~nobody-of-that-name/model"])
@pytest.mark.parametrize("offline", [False, True])
def test_a_name_that_no_file_can_have_is_refused_like_any_other(name: str, offline: bool, monkeypatch):
    monkeypatch.setattr(pytest.importorskip("huggingface_hub.constants"), "HF_HUB_OFFLINE", offline)
    for part in (
        {"prior2d": BundledImagePrior(weights=Path(name))},
        {"prior3d": BundledCloudPrior(weights=Path(name))},
        {"prior2d": StableDiffusion(model=name)},
        {"prior2d": StableDiffusion(model="owner/name", tiny_autoencoder=name)},
        {"prior3d": ShapE(model=name)},
        {"prior3d": FromFile(Path(f"{name}.ply"))},
    ):
        refusal(replace(RED_MUG, **part), FileProblem)


def test_a_folder_that_lacks_files_of_a_checkpoint_is_refused(tmp_path: Path):
    assert "has no unet/config.json" in str(
        refusal(replace(RED_MUG, prior2d=StableDiffusion(model=str(tmp_path))), FileProblem)
    )
    assert "has no model_index.json" in str(refusal(replace(RED_MUG, prior3d=ShapE(model=str(tmp_path))), FileProblem))


def test_offline_a_model_that_is_not_cached_is_refused_and_online_it_may_be_fetched(tmp_path: Path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    parts = [{"prior2d": StableDiffusion()}, {"prior2d": StableDiffusion("owner/name")}, {"prior3d": ShapE()}]
    for part in parts:
        replace(RED_MUG, **part).check()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for part in parts:
        assert "HF_HUB_OFFLINE=1 is set" in str(refusal(replace(RED_MUG, **part), FileProblem))


def test_a_check_waits_for_nothing_heavy():
    heavy = HEAVY - {"numpy"}  # which safetensors needs for headers
    assert not heavy & modules_after("dreamsplat.config; dreamsplat.config.DreamConfig(prompt='a red mug').check()")


# Pictures and memory.


def test_only_a_prior_that_can_starts_from_a_picture(tmp_path: Path):
    Image.new("RGBA", (8, 8)).save(tmp_path / "a.png")
    assert ShapE(grid=32).from_picture(tmp_path / "a.png") == ShapE(grid=32, image=tmp_path / "a.png")
    for prior in (BundledCloudPrior(), FromFile()):
        with pytest.raises(InvalidInput, match="does not start from a picture"):
            prior.from_picture(tmp_path / "a.png")


def test_every_prior_is_compared_by_its_settings():
    for kind in (BundledImagePrior, PerfectTeacher, StableDiffusion):
        assert kind() == kind() and isinstance(kind(), AbstractImagePriorSpec)
    for kind in (BundledCloudPrior, ShapE, FromFile):
        assert kind() == kind() and isinstance(kind(), AbstractCloudPriorSpec)
