from __future__ import annotations

import dataclasses
import gc
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
from tiny_diffusion import save_tiny_autoencoder, save_tiny_stable_diffusion

from dreamsplat.config import DreamConfig
from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.method.cameras import orbit
from dreamsplat.method.noise_levels import sigma_of_time
from dreamsplat.priors2d.stable_diffusion import StableDiffusion
from dreamsplat.priors2d.stable_diffusion.checkpoint import MODELS, find_checkpoint
from dreamsplat.priors2d.stable_diffusion.network import LatentNetwork, Schedule
from dreamsplat.types import Rendering, Views

CPU = torch.device("cpu")
KINDS = ("epsilon", "v_prediction", "xl")
PROMPTS = ["a corgi, front view", "a corgi, back view"]
SIGMA = torch.tensor([0.3, 5.0])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("stable_diffusion")
    return {kind: save_tiny_stable_diffusion(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def tiny_autoencoder(tmp_path_factory) -> str:
    return str(save_tiny_autoencoder(tmp_path_factory.mktemp("tiny") / "taesd"))


@pytest.fixture
def copied(checkpoints, tmp_path):
    """`copied(kind)`: a checkpoint that may be damaged."""

    def copy(kind: str = "epsilon") -> Path:
        return Path(shutil.copytree(checkpoints[kind], tmp_path / f"broken-{kind}"))

    return copy


def prior_of(folder: Path, **settings):
    return StableDiffusion(**({"model": str(folder), "dtype": "fp32"} | settings)).load(CPU)


def rendering_of(rgb: Tensor) -> Rendering:
    alpha = torch.ones(rgb.shape[:3])
    return Rendering(rgb, alpha, alpha, torch.ones(len(rgb), 1))


def views(count: int = 2) -> Views:
    return orbit(count, size=16)


def noisy(generator, count: int = 2) -> Tensor:
    return 3 * torch.randn(count, 4, 8, 8, generator=generator)


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def modules(kind: str) -> int:
    """How many networks of a class are in memory."""
    gc.collect()
    return sum(type(thing).__name__ == kind for thing in gc.get_objects())


# Noise levels.


def schedule_of(checkpoint: Path) -> Schedule:
    return find_checkpoint(str(checkpoint), None).schedule


def test_timestep_is_the_inverse_of_the_schedule(checkpoints):
    schedule = schedule_of(checkpoints["epsilon"])
    steps = torch.arange(1000)
    sigma = schedule.log_sigmas.exp()
    torch.testing.assert_close(schedule.timestep(sigma), steps.double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(sigma_of_time(steps / 1000), sigma.float(), rtol=2e-3, atol=0)  # abar comes in float32
    between = (schedule.log_sigmas[400] * 0.25 + schedule.log_sigmas[401] * 0.75).exp()
    torch.testing.assert_close(schedule.timestep(between[None]), torch.tensor([400.75], dtype=torch.float64))


def test_levels_beyond_the_schedule_take_its_ends_and_pure_noise_is_left_out():
    schedule = Schedule.of_alphas_cumprod(torch.tensor([0.99, 0.5, 0.01, 0.0]), "epsilon")
    assert schedule.timestep(torch.tensor([1e-6, 1.0, 1e6])).tolist() == [0, 1, 2]


class _Knows(nn.Module):
    """A UNet that returns the exact answer for data that it was told."""

    def __init__(self, answer: Tensor, x: Tensor, timestep: Tensor) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.answer, self.x, self.timestep = answer, x, timestep

    def forward(self, x: Tensor, timestep: Tensor, encoder_hidden_states: Tensor):
        torch.testing.assert_close(x, self.x)
        torch.testing.assert_close(timestep, self.timestep)
        return type("Output", (), {"sample": self.answer})


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_an_exact_network_gives_back_the_clean_data(prediction, checkpoints, generator):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction
    )
    schedule = Schedule.of_alphas_cumprod(scheduler.alphas_cumprod, prediction)
    z, noise = noisy(generator), torch.randn(2, 4, 8, 8, generator=generator)
    steps = torch.tensor([20, 950])
    x = scheduler.add_noise(z, noise, steps)  # in Stable Diffusion's own form
    answer = noise if prediction == "epsilon" else scheduler.get_velocity(z, noise, steps)
    sigma = schedule.log_sigmas[steps].exp().float()
    network = LatentNetwork(_Knows(answer, x, steps.float()), schedule, 16)
    z_noisy = z + sigma[:, None, None, None] * noise
    torch.testing.assert_close(network.denoise(z_noisy, sigma, torch.zeros(2, 3, 5)), z, atol=5e-5, rtol=1e-4)
    torch.testing.assert_close(schedule.target(z, noise, sigma), answer, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_is_that_of_diffusers(kind, checkpoints, generator):
    """The whole way, from prompts on, against the pipelines and the scheduler that the checkpoints were made for."""
    from diffusers import DDIMScheduler

    prior = prior_of(checkpoints[kind])
    scheduler = DDIMScheduler.from_pretrained(str(checkpoints[kind]), subfolder="scheduler")
    scheduler.set_timesteps(1000)
    z, noise = noisy(generator, 1), torch.randn(1, 4, 8, 8, generator=generator)
    text, extra = _pipeline_embeddings(checkpoints[kind], kind, PROMPTS[0])
    for step in (3, 500, 980):
        timestep = torch.tensor([step])
        x = scheduler.add_noise(z, noise, timestep)
        with torch.no_grad():
            answer = prior.network.unet(x, timestep, encoder_hidden_states=text, **extra).sample
        expected = scheduler.step(answer, step, x).pred_original_sample
        sigma = schedule_of(checkpoints[kind]).log_sigmas[timestep].exp().float()
        estimate = prior.denoise(z + sigma * noise, sigma, prior.embed(PROMPTS[:1], views(1)))
        torch.testing.assert_close(estimate, expected, atol=1e-4, rtol=1e-4)


def _pipeline_embeddings(folder: Path, kind: str, prompt: str):
    import diffusers
    import transformers

    def part(cls, name):
        return cls.from_pretrained(str(folder / name))

    parts = {
        "text_encoder": part(transformers.CLIPTextModel, "text_encoder"),
        "tokenizer": part(transformers.CLIPTokenizer, "tokenizer"),
        "unet": part(diffusers.UNet2DConditionModel, "unet"),
        "vae": part(diffusers.AutoencoderKL, "vae"),
        "scheduler": part(diffusers.DDIMScheduler, "scheduler"),
    }
    if kind != "xl":
        pipeline = diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
        return pipeline.encode_prompt(prompt, CPU, 1, False)[0], {}
    second = {
        "text_encoder_2": part(transformers.CLIPTextModelWithProjection, "text_encoder_2"),
        "tokenizer_2": part(transformers.CLIPTokenizer, "tokenizer_2"),
    }
    pipeline = diffusers.StableDiffusionXLPipeline(**parts, **second, add_watermarker=False)
    text, _, pooled, _ = pipeline.encode_prompt(prompt, device=CPU, do_classifier_free_guidance=False)
    time_ids = pipeline._get_add_time_ids((16, 16), (0, 0), (16, 16), torch.float32, pooled.shape[-1])
    return text, {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": time_ids}}


# Encoding.


def test_the_gradient_through_the_encoder_is_that_of_finite_differences(checkpoints, generator):
    prior = prior_of(checkpoints["epsilon"])
    rgb = torch.rand(1, 24, 24, 3, generator=generator) * 1.4 - 0.2  # also outside [0, 1], and resized to 16
    weight = torch.randn(1, 4, 8, 8, generator=generator, dtype=torch.float64)

    def loss(rgb: Tensor) -> Tensor:
        return (prior.encode(rendering_of(rgb)).double() * weight).sum()

    leaf = rgb.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    assert gradient.norm() > 0
    direction = torch.zeros_like(rgb)
    for pixel in [(0, 0, 0, 0), (0, 11, 13, 1), (0, 23, 5, 2)]:
        direction.zero_()[pixel] = 1
        with torch.no_grad():
            difference = (loss(rgb + 2e-2 * direction) - loss(rgb - 2e-2 * direction)) / 4e-2
        # float32 leaves a few digits of a difference; a wrong scale or sign is far beyond 5% of the largest gradient.
        assert abs(difference - gradient[pixel]) < 0.05 * gradient.abs().max()


def test_latents_are_those_of_the_autoencoder_with_its_scale(checkpoints, generator):
    prior = prior_of(checkpoints["epsilon"])
    rgb = torch.rand(2, 16, 16, 3, generator=generator)
    with torch.no_grad():
        posterior = prior.vae.encode(2 * rgb.permute(0, 3, 1, 2) - 1).latent_dist
        z = prior.encode(rendering_of(rgb))
        drawn = prior.encode(rendering_of(rgb), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(z, 0.18215 * posterior.mean)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(drawn, 0.18215 * (posterior.mean + posterior.std * noise))


def test_the_tiny_autoencoder_encodes_first_and_then_the_real_one(checkpoints, tiny_autoencoder, generator):
    plain = prior_of(checkpoints["epsilon"])
    prior = prior_of(checkpoints["epsilon"], tiny_autoencoder=tiny_autoencoder, tiny_until=0.4)
    image = rendering_of(torch.rand(1, 16, 16, 3, generator=generator).requires_grad_())
    early, late = prior.encode(image, progress=0.39), prior.encode(image, progress=0.4)
    # TAESD takes [0, 1]; diffusers' encoder is given [-1, 1] and moves it.
    torch.testing.assert_close(early, prior.tiny.encoder.layers(image.rgb.permute(0, 3, 1, 2)))
    torch.testing.assert_close(late, plain.encode(image))
    assert early.requires_grad and late.requires_grad


def test_renderings_that_are_not_square_are_refused(checkpoints):
    with pytest.raises(InvalidInput, match="render_size: 24 x 16 px, but Stable Diffusion sees squares"):
        prior_of(checkpoints["epsilon"]).encode(rendering_of(torch.zeros(1, 16, 24, 3)))


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "auto"])
def test_other_precisions_answer_in_float32_and_alike(dtype, checkpoints, generator):
    image, x = rendering_of(torch.rand(2, 16, 16, 3, generator=generator).requires_grad_()), noisy(generator)
    answers = []
    for prior in (prior_of(checkpoints["xl"]), prior_of(checkpoints["xl"], dtype=dtype, channels_last=True)):
        z, text = prior.encode(image), prior.embed(PROMPTS, views())
        answers.append((z.detach(), text, prior.denoise(x, SIGMA, text)))
        (gradient,) = torch.autograd.grad(z.sum(), image.rgb)
        assert gradient.isfinite().all()
    for exact, rounded in zip(*answers, strict=True):
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_the_xl_autoencoder_stays_in_float32_unless_it_bears_fp16(checkpoints, copied):
    assert prior_of(checkpoints["xl"], dtype="fp16").vae.dtype == torch.float32
    assert prior_of(checkpoints["xl"], dtype="bf16").vae.dtype == torch.bfloat16
    fixed = copied("xl")
    edit_json(fixed / "vae/config.json", force_upcast=False)
    assert prior_of(fixed, dtype="fp16").vae.dtype == torch.float16
    assert prior_of(checkpoints["epsilon"], dtype="fp16").vae.dtype == torch.float16


def test_attention_in_slices_gives_the_same_answer(checkpoints, generator):
    x = noisy(generator)
    plain, sliced = (prior_of(checkpoints["epsilon"], attention_slicing=on) for on in (False, True))
    text = plain.embed(PROMPTS, views())
    torch.testing.assert_close(sliced.denoise(x, SIGMA, text), plain.denoise(x, SIGMA, text), atol=1e-4, rtol=1e-4)


# Prompts.


@pytest.mark.parametrize("kind", ["epsilon", "xl"])
def test_text_encoders_are_gone_after_prepare(kind, copied):
    folder = copied(kind)
    before = modules("CLIPTextModel")
    prior = prior_of(folder)
    prior.prepare([*PROMPTS, ""])
    assert modules("CLIPTextModel") == before
    shutil.rmtree(folder)  # and are not read again
    embedded = prior.embed([PROMPTS[1], "", PROMPTS[1]], views(3))
    assert embedded.shape == (3, *((78, 64) if kind == "xl" else (77, 32))) and embedded.dtype == torch.float32
    assert torch.equal(embedded[0], embedded[2]) and not torch.equal(embedded[0], embedded[1])


def test_xl_is_told_zeros_when_there_is_no_prompt(checkpoints, copied):
    assert prior_of(checkpoints["xl"]).embed([""], views(1)).abs().max() == 0
    folder = copied("xl")
    edit_json(folder / "model_index.json", force_zeros_for_empty_prompt=False)
    assert prior_of(folder).embed([""], views(1)).abs().max() > 0


@pytest.mark.parametrize("kind", ["epsilon", "xl"])
def test_too_long_prompts_keep_their_view_with_one_warning(kind, checkpoints, caplog):
    prior = prior_of(checkpoints[kind])
    with caplog.at_level(logging.WARNING, "dreamsplat"):
        prior.prepare(["short, front view"])
    assert not caplog.records
    long = "x y" * 60
    with caplog.at_level(logging.WARNING, "dreamsplat"):
        prior.prepare(
            [f"{long}, front view", f"{long} and more, front view", f"{long}, back view", long, "z" * 90 + ","]
        )
    assert [str(checkpoints[kind]) in r.getMessage() and "75 tokens" in r.getMessage() for r in caplog.records] == [
        True
    ]
    front, same, back, bare = (
        prior.conditions[p] for p in (f"{long}, front view", f"{long} and more, front view", f"{long}, back view", long)
    )
    assert torch.equal(front, same) and not torch.equal(front, back) and not torch.equal(front, bare)


# Checkpoints.


def no_weights(folder: Path) -> None:
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()


def no_config(folder: Path) -> None:
    (folder / "unet/config.json").unlink()


def pickled(folder: Path) -> None:
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


def cut_off(folder: Path) -> None:
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def wrong_shape(folder: Path) -> None:
    edit_json(folder / "unet/config.json", block_out_channels=[8, 24])


def wrong_shape_of_text(folder: Path) -> None:
    edit_json(folder / "text_encoder/config.json", intermediate_size=48)


def lacking_tensors(folder: Path) -> None:
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if "mid_block" not in n}, path, metadata={"format": "pt"})


def lacking_text(folder: Path) -> None:
    path = folder / "text_encoder/model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if "layers.1" not in n}, path, metadata={"format": "pt"})


def unknown_prediction(folder: Path) -> None:
    edit_json(folder / "scheduler/scheduler_config.json", prediction_type="sample")


def flow_matching(folder: Path) -> None:
    (folder / "scheduler/scheduler_config.json").write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler"}')


def other_text_width(folder: Path) -> None:
    edit_json(folder / "text_encoder/config.json", hidden_size=48)


def inpainting(folder: Path) -> None:
    edit_json(folder / "unet/config.json", in_channels=9)


def other_unet(folder: Path) -> None:
    edit_json(folder / "unet/config.json", _class_name="MultiViewUNetModel")


def not_json(folder: Path) -> None:
    (folder / "vae/config.json").write_text("{")


def not_an_object(folder: Path) -> None:
    (folder / "vae/config.json").write_text("[1]")


def empty_tokenizer(folder: Path) -> None:
    (folder / "tokenizer/vocab.json").unlink()
    (folder / "tokenizer/merges.txt").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (no_weights, r"has no vae/\*\.safetensors"),
        (no_config, r"has no unet/config\.json"),
        (pickled, r"has diffusion_pytorch_model\.bin instead of unet/\*\.safetensors, and a pickle can run code"),
        (cut_off, "cut off or corrupt"),
        (wrong_shape, "do not fit .*expected shape"),
        (wrong_shape_of_text, "do not fit|lack"),
        (lacking_tensors, "the weights in unet lack mid_block"),
        (lacking_text, "the weights in text_encoder lack .*layers.1"),
        (unknown_prediction, "predicts 'sample'. Expected a model of epsilon or v_prediction"),
        (flow_matching, "FlowMatchEulerDiscreteScheduler, has no betas"),
        (other_text_width, r"its text is 48 wide, but its UNet takes 32 \(cross_attention_dim\)"),
        (inpainting, "its UNet takes 9 channels, but its VAE makes 4"),
        (other_unet, "holds a MultiViewUNetModel where a UNet2DConditionModel should be"),
        (not_json, "config.json is not valid JSON"),
        (not_an_object, "holds a list, expected an object"),
        (empty_tokenizer, "tokenizer knows 2 tokens, but text_encoder knows 194"),
    ],
)
def test_a_malformed_checkpoint_is_refused_with_its_name_and_the_reason(damage, reason, copied):
    folder = copied()
    damage(folder)
    with pytest.raises(FileProblem, match=reason) as caught:
        prior_of(folder).prepare(PROMPTS)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


def test_an_xl_checkpoint_without_its_second_text_encoder_is_refused(copied):
    folder = copied("xl")
    shutil.rmtree(folder / "text_encoder_2")
    with pytest.raises(FileProblem, match=r"has no text_encoder_2/config.json, text_encoder_2/\*.safetensors"):
        prior_of(folder)


def test_the_weights_may_have_the_names_of_older_checkpoints(checkpoints, copied):
    """Those of Stable Diffusion 1.x and 2.x on the hub: attention of the VAE, prefix and position ids of the text."""
    folder = copied()
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(path)
    for new, old in older.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "text_encoder/model.safetensors"
    tensors = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in load_file(path).items()}
    save_file(tensors | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, path, metadata={"format": "pt"})
    old, new = prior_of(folder), prior_of(checkpoints["epsilon"])
    assert torch.equal(old.embed(PROMPTS, views()), new.embed(PROMPTS, views()))
    image = rendering_of(torch.rand(1, 16, 16, 3))
    assert torch.equal(old.encode(image), new.encode(image))


def test_half_precision_files_are_read_where_there_are_no_others(checkpoints, copied, generator):
    folder = copied()
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    text = prior_of(folder).embed(PROMPTS, views())
    assert torch.equal(text, prior_of(checkpoints["epsilon"]).embed(PROMPTS, views()))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"resolution": 17}, "prior2d.resolution: 17 px, expected a multiple of 2"),
    ],
)
def test_settings_that_do_not_fit_the_checkpoint_are_refused(settings, reason, checkpoints):
    with pytest.raises(InvalidInput, match=reason):
        prior_of(checkpoints["epsilon"], **settings)


def test_a_tiny_autoencoder_of_another_model_is_refused(checkpoints, tmp_path):
    from diffusers import AutoencoderTiny

    AutoencoderTiny(
        encoder_block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        num_encoder_blocks=(1,),
        num_decoder_blocks=(1,),
    ).save_pretrained(tmp_path)
    with pytest.raises(FileProblem, match="makes 4 latent channels of 1 px each, but .* wants 4 of 2 px"):
        prior_of(checkpoints["epsilon"], tiny_autoencoder=str(tmp_path))


def test_without_a_name_a_cached_copy_is_taken_before_any_is_fetched(checkpoints, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileProblem) as caught:
        StableDiffusion().load(CPU)
    assert all(model in str(caught.value) for model in MODELS)
    assert str(tmp_path) in str(caught.value) and f"hf download {MODELS[0]}" in str(caught.value)

    repository = tmp_path / f"models--{MODELS[1].replace('/', '--')}"
    shutil.copytree(checkpoints["epsilon"], repository / "snapshots/0123")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0123")
    assert StableDiffusion(dtype="fp32").load(CPU).checkpoint.model == MODELS[1]


# Particles: the LoRA of VSD.


@pytest.fixture(params=KINDS)
def prior(request, checkpoints):
    pytest.importorskip("peft")
    prior = prior_of(checkpoints[request.param])
    prior.prepare(PROMPTS)
    return prior


def test_the_second_network_begins_as_the_prior_and_learning_leaves_it_as_it_was(prior, generator):
    x, text = noisy(generator), prior.embed(PROMPTS, views())
    before = prior.denoise(x, SIGMA, text)
    network = prior.second_network(rank=4, learning_rate=1e-2)
    assert torch.equal(network.denoise(x, SIGMA, text), before)
    for _ in range(3):
        network.learn(x, SIGMA, text, generator)
    assert torch.equal(prior.denoise(x, SIGMA, text), before)
    assert not torch.equal(network.denoise(x, SIGMA, text), before)
    again = prior.second_network(rank=2, learning_rate=1e-2)  # a second run begins anew
    assert torch.equal(again.denoise(x, SIGMA, text), before)


def add_personal_adapter(unet) -> None:
    """A LoRA that changes the answers, on layers that the one of VSD shares and on others; frozen, as a base is."""
    import peft

    config = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v", "conv1"])
    with torch.random.fork_rng():
        torch.manual_seed(7)
        unet.add_adapter(config, "personal")
    unet.requires_grad_(False)


def weights_of(unet, adapter: str) -> list[Tensor]:
    return [weight.detach().clone() for name, weight in unet.named_parameters() if f".{adapter}." in name]


def test_an_adapter_of_the_base_stays_part_of_it_before_during_and_after_learning(prior, generator):
    x, text = noisy(generator), prior.embed(PROMPTS, views())
    bare = prior.denoise(x, SIGMA, text)
    add_personal_adapter(prior.network.unet)
    base, personal = prior.denoise(x, SIGMA, text), weights_of(prior.network.unet, "personal")
    assert (base - bare).norm() > 1e-3 * bare.norm()

    network = prior.second_network(rank=4, learning_rate=1e-2)
    assert torch.equal(prior.denoise(x, SIGMA, text), base)
    assert torch.equal(network.denoise(x, SIGMA, text), base)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        answer = prior.network.output(x + SIGMA[:, None, None, None] * noise, SIGMA, text)
        expected = (answer - prior.network.schedule.target(x, noise, SIGMA)).square().mean()
    loss = network.learn(x, SIGMA, text, torch.Generator().manual_seed(6))
    assert loss == pytest.approx(float(expected), rel=1e-5)  # of the base, since the LoRA was still zero
    network.learn(x, SIGMA, text, generator)

    assert torch.equal(prior.denoise(x, SIGMA, text), base)
    assert not torch.equal(network.denoise(x, SIGMA, text), base)
    for learned in network.weights.values():
        learned.data.zero_()
    assert torch.equal(network.denoise(x, SIGMA, text), base)
    assert all(torch.equal(a, b) for a, b in zip(personal, weights_of(prior.network.unet, "personal"), strict=True))
    assert torch.equal(prior.second_network(rank=2, learning_rate=1e-2).denoise(x, SIGMA, text), base)


def test_an_adapter_of_the_base_that_is_switched_off_stays_off(prior, generator):
    x, text = noisy(generator), prior.embed(PROMPTS, views())
    bare = prior.denoise(x, SIGMA, text)
    add_personal_adapter(prior.network.unet)
    prior.network.unet.disable_adapters()
    network = prior.second_network(rank=4, learning_rate=1e-2)
    assert torch.equal(network.denoise(x, SIGMA, text), bare)
    network.learn(x, SIGMA, text, generator)
    assert not torch.equal(network.denoise(x, SIGMA, text), bare)
    assert torch.equal(prior.denoise(x, SIGMA, text), bare)


def test_later_steps_leave_the_state_of_the_second_network_as_it_was(prior, generator):
    z, text = noisy(generator), prior.embed(PROMPTS, views())
    network = prior.second_network(rank=4, learning_rate=1e-2)
    network.learn(z, SIGMA, text, generator)
    state = network.state_tensors()
    before = {name: tensor.clone() for name, tensor in state.items()}
    assert {name.split(".")[0] for name in state} == {"weight", "step", "exp_avg", "exp_avg_sq"}
    network.learn(z, SIGMA, text, generator)
    assert all(torch.equal(state[name], tensor) and not state[name].requires_grad for name, tensor in before.items())


def test_a_step_that_ran_out_of_memory_leaves_no_gradient_to_the_next(prior, generator, monkeypatch):
    z, text = noisy(generator), prior.embed(PROMPTS, views())
    network = prior.second_network(rank=4, learning_rate=1e-2)
    before = network.state_tensors()

    def after_learning() -> Tensor:
        network.learn(z, SIGMA, text, torch.Generator().manual_seed(6))
        return network.denoise(z, SIGMA, text)

    expected = after_learning()
    network.load_state_tensors(before)
    with monkeypatch.context() as full, pytest.raises(torch.OutOfMemoryError):
        full.setattr(torch, "stack", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
        after_learning()
    network.load_state_tensors(before)
    assert torch.equal(after_learning(), expected)


def test_the_second_network_learns_what_it_is_shown(prior, generator):
    z, text = torch.full((2, 4, 8, 8), 0.7), prior.embed(PROMPTS, views())
    network = prior.second_network(rank=4, learning_rate=2e-2)
    sigma = torch.tensor([1.0, 3.0])
    losses = [network.learn(z, sigma, text, torch.Generator().manual_seed(5)) for _ in range(25)]
    assert losses[-1] < 0.92 * losses[0]
    z_noisy = z + sigma[:, None, None, None] * torch.randn(z.shape, generator=generator)
    learnt, frozen = (model.denoise(z_noisy, sigma, text) for model in (network, prior))
    assert (learnt - z).norm() < (frozen - z).norm()


def test_the_second_network_continues_from_its_state(prior, generator):
    z, text = noisy(generator), prior.embed(PROMPTS, views())

    def learn(network) -> float:
        return network.learn(z, SIGMA, text, torch.Generator().manual_seed(6))

    first = prior.second_network(rank=4, learning_rate=1e-2)
    assert {name.split(".")[0] for name in first.state_tensors()} == {"weight"}
    for _ in range(3):
        learn(first)
    state = first.state_tensors()
    expected = [learn(first) for _ in range(3)]
    second = prior.second_network(rank=4, learning_rate=1e-2)
    second.load_state_tensors(state)
    assert [learn(second) for _ in range(3)] == expected
    with pytest.raises(FileProblem, match="LoRA does not fit"):
        prior.second_network(rank=2, learning_rate=1e-2).load_state_tensors(state)


def test_half_precision_trains_a_lora_in_float32(checkpoints, generator):
    pytest.importorskip("peft")
    prior = prior_of(checkpoints["epsilon"], dtype="fp16")
    network = prior.second_network(rank=4, learning_rate=1e-2)
    z, text = torch.full((2, 4, 8, 8), 0.7), prior.embed(PROMPTS, views())
    losses = [network.learn(z, SIGMA, text, torch.Generator().manual_seed(5)) for _ in range(25)]
    assert losses[-1] < 0.92 * losses[0]
    assert {t.dtype for n, t in network.state_tensors().items() if n.startswith("weight")} == {torch.float32}


def test_a_compiled_network_takes_no_lora(checkpoints):
    prior = prior_of(checkpoints["epsilon"])
    prior.spec = dataclasses.replace(prior.spec, compile=True)  # compiling takes a minute
    with pytest.raises(InvalidInput, match="prior2d.compile: a compiled UNet cannot take the LoRA"):
        prior.second_network(rank=4, learning_rate=1e-4)


def test_nothing_touches_the_global_generator(checkpoints, tiny_autoencoder, generator):
    pytest.importorskip("peft")
    before = torch.random.get_rng_state()
    prior = prior_of(checkpoints["xl"], tiny_autoencoder=tiny_autoencoder)
    text = prior.embed(PROMPTS, views())
    z = prior.encode(rendering_of(torch.zeros(2, 16, 16, 3)), 1.0, generator)
    network = prior.second_network(rank=4, learning_rate=1e-3)
    network.learn(z, SIGMA, text, generator)
    network.denoise(z, SIGMA, text)
    assert torch.equal(torch.random.get_rng_state(), before)


# Ways to lay out the same weights.


def in_shards(folder: Path, variant: str | None) -> None:
    """Write every network again in shards of a few kilobytes."""
    import diffusers
    import transformers

    kinds = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}
    for part, kind in (kinds | {"text_encoder": transformers.CLIPTextModel}).items():
        network = kind.from_pretrained(folder / part)
        for weights in (folder / part).glob("*.safetensors"):
            weights.unlink()
        network.save_pretrained(folder / part, max_shard_size="20KB", variant=variant)
        assert len(list((folder / part).glob("*.safetensors"))) > 1
        assert len(list((folder / part).glob("*.safetensors.index*.json"))) == 1


def in_half(folder: Path, _: str | None = None) -> None:
    for path in list(folder.rglob("*.safetensors")):
        save_file({name: t.half() for name, t in load_file(path).items()}, path.with_suffix(".fp16.safetensors"))
        path.unlink()


@pytest.mark.parametrize(
    "lay_out, variant, error", [(in_shards, None, 0), (in_shards, "fp16", 0), (in_half, "fp16", 2e-2)]
)
def test_shards_and_variants_answer_as_one_file_does(lay_out, variant, error, checkpoints, copied, generator):
    folder = copied()
    lay_out(folder, variant)
    StableDiffusion(str(folder)).check(DreamConfig(prompt="a fox"))
    one, other = (prior_of(place) for place in (checkpoints["epsilon"], folder))
    text, x = one.embed(PROMPTS, views()), noisy(generator)
    expected, found = (prior.denoise(x, SIGMA, prior.embed(PROMPTS, views())) for prior in (one, other))
    assert (found - expected).norm() <= error * expected.norm()
    assert (other.embed(PROMPTS, views()) - text).norm() <= error * text.norm()


def test_a_missing_shard_is_named_before_a_model_is_loaded(copied):
    folder = copied()
    in_shards(folder, None)
    shard = sorted((folder / "unet").glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(FileProblem, match=f"has no unet/{shard.name}"):
        StableDiffusion(str(folder)).check(DreamConfig(prompt="a fox"))
