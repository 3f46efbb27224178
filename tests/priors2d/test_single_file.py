"""Checkpoints in one file are the checkpoints in folders, and need nothing but what comes with the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

pytest.importorskip("diffusers")
from single_file import original_names, save_single_file
from tiny_diffusion import Kind, save_tiny_stable_diffusion

from dreamsplat.config import DreamConfig
from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.hub.digests import file_sha256
from dreamsplat.method.cameras import orbit
from dreamsplat.priors2d import StableDiffusion
from dreamsplat.priors2d.stable_diffusion.checkpoint import find_checkpoint
from dreamsplat.priors2d.stable_diffusion.single_file import CONFIGS, clip_tokenizer
from dreamsplat.types import Rendering

CPU = torch.device("cpu")
CONFIG = DreamConfig(prompt="a red mushroom")
KINDS: dict[str, tuple[Kind, bool]] = {
    "1.x": ("epsilon", False), "2.x": ("epsilon", True), "2.x with v": ("v_prediction", True), "XL": ("xl", True),
}  # fmt: skip
PROMPTS = ["a corgi, front view", ""]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    return {name: save_tiny_stable_diffusion(root / name, kind) for name, (kind, _) in KINDS.items()}


def only_configs(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors")))


def answers(prior: Any) -> list[Tensor]:
    """What a prior makes of a picture and of prompts."""
    rgb = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    z = prior.encode(Rendering(rgb, torch.ones(2, 16, 16), torch.ones(2, 16, 16), torch.ones(2, 1)))
    condition = prior.embed(PROMPTS, orbit(2, size=16))
    return [z, condition, prior.denoise(3 * z, torch.tensor([0.3, 5.0]), condition)]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_answers_as_its_folder(kind: str, dtype: Any, folders: dict[str, Path], tmp_path: Path):
    file = save_single_file(folders[kind], tmp_path / "model.safetensors", KINDS[kind][1])
    configs = only_configs(folders[kind], tmp_path / "configs")
    spec = StableDiffusion(model=str(file), config=str(configs), dtype=dtype)
    spec.check(CONFIG)
    assert same(answers(spec.load(CPU)), answers(StableDiffusion(str(folders[kind]), dtype=dtype).load(CPU)))


def test_names_without_a_level_of_the_text_encoder_are_read_too(folders: dict[str, Path], tmp_path: Path):
    folder = folders["1.x"]
    tensors = load_file(save_single_file(folder, tmp_path / "model.safetensors"))
    save_file({name.replace("text_model.", ""): t for name, t in tensors.items()}, tmp_path / "old.safetensors")
    priors = [
        StableDiffusion(str(tmp_path / name), config=str(folder), dtype="fp32").load(CPU)
        for name in ("model.safetensors", "old.safetensors")
    ]
    assert same(*map(answers, priors))


def test_tensors_that_diffusers_has_named_are_taken_unchanged(folders: dict[str, Path], tmp_path: Path):
    starts = {"unet": "model.diffusion_model.", "vae": "first_stage_model.",
              "text_encoder": "cond_stage_model.transformer."}  # fmt: skip
    tensors = {
        start + name: tensor
        for part, start in starts.items()
        for name, tensor in load_file(next((folders["1.x"] / part).glob("*.safetensors"))).items()
    }
    save_file(tensors, tmp_path / "single.safetensors")
    spec = StableDiffusion(str(tmp_path / "single.safetensors"), config=str(folders["1.x"]), dtype="fp32")
    assert same(answers(spec.load(CPU)), answers(StableDiffusion(str(folders["1.x"]), dtype="fp32").load(CPU)))


def test_a_file_is_recorded_by_its_hash(folders: dict[str, Path], tmp_path: Path):
    file = save_single_file(folders["1.x"], tmp_path / "model.safetensors")
    configs = only_configs(folders["1.x"], tmp_path / "configs")
    sources = StableDiffusion(str(file), config=str(configs)).sources()
    assert sources[str(file)] == file_sha256(file) and f"{configs}/unet/config.json" in sources


# Real sizes, without their numbers.


def real_header(architecture: str, tmp_path: Path, metadata: dict[str, str] | None = None, **extra: list[int]) -> Path:
    """A file of the real names and shapes that takes no space: its numbers are a hole."""
    shapes = {name: list(tensor.shape) for name, tensor in real_tensors(architecture).items()} | extra
    fields: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        fields[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(fields).encode()
    path = tmp_path / f"{architecture}.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def real_tensors(architecture: str) -> dict[str, Tensor]:
    networks = real_networks(CONFIGS / architecture)
    configs = [json.loads((CONFIGS / architecture / part / "config.json").read_text()) for part in ("unet", "vae")]
    states = {part: network.state_dict() for part, network in networks.items()}
    return original_names(configs[0], configs[1], states, open_clip=architecture != "v1")


def real_networks(folder: Path) -> dict[str, Any]:
    import diffusers
    import transformers

    kinds = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}
    texts = {"text_encoder": transformers.CLIPTextModel, "text_encoder_2": transformers.CLIPTextModelWithProjection}
    with torch.device("meta"):
        networks = {part: kind.from_config(kind.load_config(folder / part)) for part, kind in kinds.items()}
        for part, text in texts.items():
            if (folder / part).is_dir():
                networks[part] = text(transformers.CLIPTextConfig.from_pretrained(folder / part))
    return networks


@pytest.mark.parametrize(
    "architecture, published",
    [
        ("v1", {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}),
        ("v2", {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840}),
        (
            "xl",
            {
                "unet": 2_567_463_684,
                "vae": 83_653_863,
                "text_encoder": 123_060_480,
                "text_encoder_2": 694_659_840,
            },
        ),
    ],
)
def test_the_bundled_configs_make_the_published_networks(architecture: str, published: dict[str, int]):
    networks = real_networks(CONFIGS / architecture)
    assert {part: sum(p.numel() for p in net.parameters()) for part, net in networks.items()} == published


@pytest.mark.parametrize("architecture, theirs", [("v1", "v1"), ("v2", "v2"), ("xl", "xl_base")])
def test_the_bundled_configs_fit_the_files_that_diffusers_knows_by_that_name(architecture: str, theirs: str):
    from diffusers.loaders import single_file_utils as utils

    tensors = real_tensors(architecture)
    assert utils.infer_diffusers_model_type(tensors) == theirs
    networks = real_networks(CONFIGS / architecture)
    for part, convert in (("unet", utils.convert_ldm_unet_checkpoint), ("vae", utils.convert_ldm_vae_checkpoint)):
        converted = convert(tensors, config=dict(networks[part].config))
        expected = networks[part].state_dict()
        assert {name: t.shape for name, t in converted.items()} == {name: t.shape for name, t in expected.items()}


@pytest.mark.parametrize("architecture, resolution", [("v1", 512), ("v2", 512), ("xl", 1024)])
def test_a_real_file_is_known_by_its_header_and_needs_no_network(
    architecture: str, resolution: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    file = real_header(architecture, tmp_path)
    spec = StableDiffusion(str(file), prediction="epsilon")
    spec.check(CONFIG)
    checkpoint = find_checkpoint(str(file), None, prediction="epsilon")
    assert checkpoint.unet["sample_size"] * checkpoint.pixels_per_latent == resolution
    assert checkpoint.is_xl == (architecture == "xl") and len(checkpoint.schedule.log_sigmas) == 1000
    for index in range(len(checkpoint.text_encoders)):
        tokenizer = checkpoint.tokenizer(f"tokenizer{'_2' if index else ''}")
        assert len(tokenizer) == checkpoint.text_encoders[index]["vocab_size"]


def test_what_stable_diffusion_2_predicts_is_asked_for_unless_the_file_says_it(tmp_path: Path):
    def schedule(file: Path, **settings: Any) -> tuple[str, int]:
        checkpoint = find_checkpoint(str(file), None, **settings)
        return checkpoint.schedule.prediction, checkpoint.unet["sample_size"]

    silent = real_header("v2", tmp_path)
    for ask in (StableDiffusion(str(silent)).check, lambda _: find_checkpoint(str(silent), None)):
        with pytest.raises(FileProblem, match="does not say whether it predicts noise .* `prior2d.prediction`"):
            ask(CONFIG)
    assert schedule(silent, prediction="epsilon") == ("epsilon", 64)
    assert schedule(silent, prediction="v_prediction") == ("v_prediction", 96)
    for said, expected in {"epsilon": ("epsilon", 64), "v": ("v_prediction", 96)}.items():
        assert schedule(real_header("v2", tmp_path, {"modelspec.prediction_type": said})) == expected
    assert schedule(real_header("v1", tmp_path)) == ("epsilon", 64)
    assert schedule(real_header("v1", tmp_path, {"modelspec.prediction_type": "v"})) == ("v_prediction", 64)


def test_an_xl_file_that_was_trained_on_pure_noise_says_so_by_two_tensors(tmp_path: Path):
    plain = find_checkpoint(str(real_header("xl", tmp_path)), None).schedule
    other = find_checkpoint(str(real_header("xl", tmp_path, v_pred=[], ztsnr=[])), None).schedule
    assert (plain.prediction, other.prediction) == ("epsilon", "v_prediction")
    assert len(other.log_sigmas) == 999 and other.log_sigmas[-1] > 1 + plain.log_sigmas[-1]
    with pytest.raises(FileProblem, match="noise levels of EDM"):
        find_checkpoint(str(real_header("xl", tmp_path, edm_mean=[4])), None)


def test_the_bundled_tokenizer_is_clips():
    tokenizer = clip_tokenizer(CONFIGS / "v1/tokenizer")
    # As in the documentation of CLIP.
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("A  Photo of a CAT").input_ids == tokenizer("a photo of a cat").input_ids
    assert (len(tokenizer), tokenizer.pad_token_id) == (49408, 49407)
    assert clip_tokenizer(CONFIGS / "v2/tokenizer").pad_token_id == 0


# What is not such a file.


@pytest.fixture
def single(folders: dict[str, Path], tmp_path: Path) -> dict[str, Tensor]:
    return load_file(save_single_file(folders["1.x"], tmp_path / "whole.safetensors"))


def refusal(tensors: dict[str, Tensor], tmp_path: Path, **settings: Any) -> str:
    """The line that `check` refuses a file with; `load` refuses it alike."""
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    messages = []
    spec = StableDiffusion(str(path), **settings)
    for refuse in (lambda: spec.check(CONFIG), lambda: spec.load(CPU)):
        with pytest.raises(FileProblem) as caught:
            refuse()
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and messages[0].startswith(f"{path}: ") and "\n" not in messages[0]
    return messages[0]


def test_a_file_of_other_sizes_needs_configs(single: dict[str, Tensor], tmp_path: Path):
    message = refusal(single, tmp_path)
    assert "takes text of width 32, expected 768 (Stable Diffusion 1.x), 1024 (2.x) or 2048 (XL)." in message
    assert "Set `prior2d.config` to a folder" in message


@pytest.mark.parametrize(
    "start, reason",
    [
        ("first_stage_model.", "has no vae. Name a file that holds the whole checkpoint"),
        ("cond_stage_model.", "has no text_encoder. Name a file"),
        ("model.diffusion_model.", "are not a whole checkpoint. Expected Stable Diffusion"),
    ],
)
def test_a_file_without_a_network_says_which(start: str, reason: str, single: dict[str, Tensor], tmp_path: Path):
    assert reason in refusal({name: t for name, t in single.items() if not name.startswith(start)}, tmp_path)


def test_a_file_for_inpainting_and_one_of_another_architecture_are_refused(single: dict[str, Tensor], tmp_path: Path):
    first = "model.diffusion_model.input_blocks.0.0.weight"
    wide = single | {first: torch.zeros(8, 9, 3, 3)}
    assert "its UNet takes 9 channels instead of 4, for inpainting" in refusal(wide, tmp_path)
    flux = {"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)}
    assert "double_blocks.0.img_attn.qkv.weight, is not a UNet" in refusal(flux, tmp_path)


@pytest.mark.parametrize("part", ["model.diffusion_model.out.2.bias", "first_stage_model.encoder.conv_out.bias"])
def test_a_network_that_lacks_a_tensor_is_refused_and_not_filled_with_noise(
    part: str, single: dict[str, Tensor], folders: dict[str, Path], tmp_path: Path
):
    path = tmp_path / "model.safetensors"
    save_file({name: tensor for name, tensor in single.items() if name != part}, path)
    with pytest.raises(FileProblem, match=r"its (unet|vae) lacks .*conv_out.bias \(1 tensors in all\)"):
        StableDiffusion(str(path), config=str(folders["1.x"]), dtype="fp32").load(CPU)


def test_a_text_encoder_that_lacks_a_tensor_is_refused_alike(
    single: dict[str, Tensor], folders: dict[str, Path], tmp_path: Path
):
    left_out = "cond_stage_model.transformer.text_model.final_layer_norm.bias"
    path = tmp_path / "model.safetensors"
    save_file({name: tensor for name, tensor in single.items() if name != left_out}, path)
    prior = StableDiffusion(str(path), config=str(folders["1.x"]), dtype="fp32").load(CPU)
    with pytest.raises(FileProblem, match=r"its text_encoder lacks final_layer_norm.bias \(1 tensors in all\)"):
        prior.prepare(PROMPTS)


def test_a_network_of_another_size_than_its_configs_is_refused_in_one_line(
    single: dict[str, Tensor], folders: dict[str, Path], tmp_path: Path
):
    configs = only_configs(folders["1.x"], tmp_path / "configs")
    text = json.loads((configs / "unet/config.json").read_text()) | {"block_out_channels": [8, 32]}
    (configs / "unet/config.json").write_text(json.dumps(text))
    with pytest.raises(FileProblem, match="whole.safetensors: its weights and its config do not fit") as caught:
        StableDiffusion(str(tmp_path / "whole.safetensors"), config=str(configs), dtype="fp32").load(CPU)
    assert "\n" not in str(caught.value)


def test_configs_without_a_file_are_refused(folders: dict[str, Path]):
    with pytest.raises(InvalidInput, match="prior2d.config: .* is a folder, which has its own"):
        StableDiffusion(str(folders["1.x"]), config=str(folders["1.x"])).check(CONFIG)


def test_what_a_network_predicts_can_be_set_for_a_folder(folders: dict[str, Path]):
    assert find_checkpoint(str(folders["1.x"]), None, prediction="v_prediction").schedule.prediction == "v_prediction"
