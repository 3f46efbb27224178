"""What a model is made of: the same for the same files, another for other files, and true for what was read."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")
import torch
from huggingface_hub import constants
from PIL import Image
from tiny_diffusion import save_tiny_autoencoder, save_tiny_stable_diffusion
from tiny_shap_e import tiny_image_pipeline, tiny_text_pipeline

from dreamsplat.hub.digests import file_sha256
from dreamsplat.priors2d import BundledImagePrior, PerfectTeacher, StableDiffusion
from dreamsplat.priors2d.stable_diffusion.checkpoint import MODELS
from dreamsplat.priors3d import BundledCloudPrior, FromFile, ShapE
from dreamsplat.world.header import IMAGE_WEIGHTS, VOLUME_WEIGHTS

# diffusers' scheduler makes numpy arrays of tensors in a way that numpy 2 dislikes.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_tiny_stable_diffusion(folder / "sd")
        save_tiny_stable_diffusion(folder / "xl", "xl")
        save_tiny_autoencoder(folder / "taesd")
        tiny_text_pipeline().save_pretrained(folder / "shap-e")
        tiny_image_pipeline().save_pretrained(folder / "shap-e-img2img")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty; offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def put_in_cache(cache: Path, model: str, folder: Path) -> Path:
    """As the hub lays it out: links to files named for their content."""
    repository = cache / f"models--{model.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    (repository / "blobs").mkdir()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            link = repository / "snapshots" / COMMIT / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            name = sha256(path) if path.suffix == ".safetensors" else hashlib.sha1(path.read_bytes()).hexdigest()
            shutil.copy(path, repository / "blobs" / name)
            link.symlink_to(repository / "blobs" / name)
    return repository


def test_a_bundled_model_is_its_weights_file(tmp_path: Path):
    assert BundledImagePrior().sources() == {"image.safetensors": sha256(IMAGE_WEIGHTS)}
    assert BundledCloudPrior().sources() == {"volume.safetensors": sha256(VOLUME_WEIGHTS)}
    (tmp_path / "mine.safetensors").write_bytes(b"weights")
    expected = {"mine.safetensors": hashlib.sha256(b"weights").hexdigest()}
    for kind in (BundledImagePrior, BundledCloudPrior):
        assert kind(weights=tmp_path / "mine.safetensors").sources() == expected
    assert PerfectTeacher().sources() == {}


def test_a_start_from_a_file_is_that_file(tmp_path: Path):
    (tmp_path / "chair.obj").write_text("v 0 0 0")
    assert FromFile(tmp_path / "chair.obj").sources() == {"chair.obj": sha256(tmp_path / "chair.obj")}


def test_a_folder_is_every_file_that_is_read(models: Path):
    folder, tiny = models / "sd", models / "taesd"
    sources = StableDiffusion(model=str(folder), tiny_autoencoder=str(tiny)).sources()
    parts = ["scheduler/scheduler_config.json", "text_encoder/config.json", "text_encoder/model.safetensors"]
    parts += ["tokenizer/merges.txt", "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "unet/config.json"]
    parts += [f"unet/{WEIGHTS}", "vae/config.json", f"vae/{WEIGHTS}"]
    expected = [(f"{folder}/{part}", sha256(folder / part)) for part in parts]
    expected += [(f"{tiny}/{part}", sha256(tiny / part)) for part in ("config.json", WEIGHTS)]
    assert list(sources.items()) == expected
    both = StableDiffusion(model=str(models / "xl")).sources()
    assert {f"{models / 'xl'}/{name}" for name in ("text_encoder_2/model.safetensors", "model_index.json")} <= set(both)


def test_a_hub_model_is_the_mirror_in_use_its_commit_and_its_weights(models: Path, cache: Path):
    put_in_cache(cache, MODELS[1], models / "sd")
    expected = {MODELS[1]: COMMIT} | {
        f"{MODELS[1]}/{part}": sha256(models / "sd" / part)
        for part in ("text_encoder/model.safetensors", f"unet/{WEIGHTS}", f"vae/{WEIGHTS}")
    }
    prior: Any = StableDiffusion(dtype="fp32")
    assert prior.load(torch.device("cpu")).checkpoint.model == MODELS[1]
    assert list(prior.sources().items()) == list(expected.items())


def test_a_file_in_the_cache_that_is_named_for_its_content_is_not_read(models: Path, cache: Path):
    repository = put_in_cache(cache, "owner/name", models / "sd")
    prior = StableDiffusion(model="owner/name")
    before = prior.sources()
    for blob in (repository / "blobs").iterdir():
        if len(blob.name) == 64:
            blob.write_bytes(b"")
    assert prior.sources() == before


def test_half_precision_weights_are_named_where_they_are_the_ones_that_are_read(models: Path, tmp_path: Path):
    folder = Path(shutil.copytree(models / "sd", tmp_path / "sd"))
    shutil.copy(folder / "unet" / WEIGHTS, folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    (folder / "vae" / WEIGHTS).rename(folder / "vae/diffusion_pytorch_model.fp16.safetensors")
    names = {name.removeprefix(f"{folder}/") for name in StableDiffusion(model=str(folder)).sources()}
    assert {name for name in names if name.startswith(("unet/d", "vae/d"))} == {
        f"unet/{WEIGHTS}", "vae/diffusion_pytorch_model.fp16.safetensors",
    }  # fmt: skip


def test_shap_e_is_its_model_its_picture_and_its_fine_tuned_weights(models: Path, tmp_path: Path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    (tmp_path / "tuned.pth").write_bytes(b"tuned")
    words = ShapE(model=str(models / "shap-e"), weights=tmp_path / "tuned.pth").sources()
    picture = ShapE(model=str(models / "shap-e-img2img"), image=tmp_path / "red.png").sources()
    assert words["tuned.pth"] == sha256(tmp_path / "tuned.pth") and picture["red.png"] == sha256(tmp_path / "red.png")
    for name in (f"prior/{WEIGHTS}", f"shap_e_renderer/{WEIGHTS}", "text_encoder/model.safetensors"):
        assert words[f"{models / 'shap-e'}/{name}"] == sha256(models / "shap-e" / name)
    encoder = "image_encoder/model.safetensors"
    assert picture[f"{models / 'shap-e-img2img'}/{encoder}"] == sha256(models / "shap-e-img2img" / encoder)


def test_what_is_not_on_this_machine_is_omitted_and_not_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    fetch = huggingface_hub.snapshot_download

    def refuse_to_fetch(*arguments: Any, local_files_only: bool = False, **settings: Any) -> str:
        assert local_files_only
        return fetch(*arguments, local_files_only=True, **settings)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse_to_fetch)
    for prior in (StableDiffusion(tiny_autoencoder="owner/tiny"), StableDiffusion("owner/name"), ShapE()):
        assert prior.sources() == {}
    gone = Path("gone.png")
    for prior in (ShapE(image=gone), FromFile(gone.with_suffix(".ply")), BundledImagePrior(weights=gone)):
        assert prior.sources() == {}


def test_a_file_that_changes_has_another_hash(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"one")
    first = file_sha256(path)
    path.write_bytes(b"three")
    assert (first, file_sha256(path)) == tuple(hashlib.sha256(text).hexdigest() for text in (b"one", b"three"))
