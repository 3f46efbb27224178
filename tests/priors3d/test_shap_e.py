from __future__ import annotations

import json
import pickle
import shutil
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from tiny_shap_e import (
    CONDITION,
    HEADS,
    TOKENS,
    WIDTH,
    tiny_image_pipeline,
    tiny_prior,
    tiny_renderer,
    tiny_text_pipeline,
)
from torch import Tensor
from torch.nn import functional as F

from dreamsplat.errors import FileProblem, InvalidInput, MissingDependency
from dreamsplat.maths.srgb import srgb_to_linear
from dreamsplat.priors3d.shap_e import ShapE
from dreamsplat.priors3d.shap_e import model as shap_e_model
from dreamsplat.priors3d.shap_e import points as shap_e_points
from dreamsplat.priors3d.shap_e.cap3d import read_cap3d
from dreamsplat.priors3d.shap_e.picture import read_picture
from dreamsplat.priors3d.shap_e.points import grid_points, latent_field, mesh_vertices, surface_points
from dreamsplat.types import PointCloud

# diffusers' scheduler makes numpy arrays of tensors in a way that numpy 2 dislikes.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

CPU = torch.device("cpu")
RUN = {"sampling_steps": 3, "grid": 14, "field_points": 300}
"""Settings that take a moment."""


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """The networks are made with torch's global generator, which is put back."""
    import diffusers
    import transformers

    loggers = diffusers.utils.logging, transformers.utils.logging
    levels = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
        logger.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.set_verbosity(level)
        logger.enable_progress_bar()


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shap-e")
    tiny_text_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shap-e-img2img")
    tiny_image_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def copy_of_text_model(text_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(text_model, tmp_path / "model"))


def sample(settings: ShapE, prompt: str = "a red mushroom", seed: int = 0) -> PointCloud:
    return settings.load(CPU).sample(prompt, torch.Generator().manual_seed(seed))


def equal(one: PointCloud, other: PointCloud) -> bool:
    return torch.equal(one.xyz, other.xyz) and torch.equal(one.rgb, other.rgb)


# --- What is sampled ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", ["mesh", "field"])
def test_clouds_are_finite_coloured_points_in_the_box(text_model: Path, points: Any):
    cloud = sample(ShapE(model=str(text_model), points=points, **RUN))
    assert len(cloud) == 300 if points == "field" else len(cloud) > 50
    assert bool(cloud.xyz.isfinite().all()) and float(cloud.xyz.abs().max()) <= 1
    assert float(cloud.rgb.min()) >= 0 and float(cloud.rgb.max()) <= 1 and float(cloud.rgb.std()) > 0.01
    assert cloud.xyz.dtype == cloud.rgb.dtype == torch.float32


@pytest.mark.parametrize("points", ["mesh", "field"])
def test_the_generator_decides_everything_and_nothing_else_is_changed(text_model: Path, points: Any):
    before = torch.get_rng_state()
    prior: Any = ShapE(model=str(text_model), points=points, **RUN).load(CPU)
    modules = [part for part in prior.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    weights = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for module in modules]

    first, again, other = (prior.sample("a cat", torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert equal(first, again) and not equal(first, other)
    assert not equal(first, prior.sample("a dog", torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), before)
    for module, tensors in zip(modules, weights, strict=True):
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in module.state_dict().items())


def test_loading_draws_nothing_from_the_global_generator(text_model: Path, monkeypatch: pytest.MonkeyPatch):
    load = shap_e_model._load_pipeline

    def load_with_random_weights_first(*arguments: Any) -> Any:
        torch.rand(1)
        return load(*arguments)

    monkeypatch.setattr(shap_e_model, "_load_pipeline", load_with_random_weights_first)
    before = torch.get_rng_state()
    ShapE(model=str(text_model)).load(CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_levels_of_diffusers_are_karras_whatever_the_checkpoint_says(text_model: Path):
    prior: Any = ShapE(model=str(text_model), sampler="diffusers", **RUN | {"sampling_steps": 5}).load(CPU)
    prior.sample("a cat", torch.Generator().manual_seed(0))
    roots = prior.pipeline.scheduler.sigmas.unique()[1:] ** (1 / 7)  # without the last, 0
    assert len(roots) == 5
    torch.testing.assert_close(roots.diff(), roots.diff()[:1].expand(4))


def test_guidance_leads_from_the_empty_condition_to_the_prompt(text_model: Path):
    def cloud(scale: float, prompt: str, name: Any = "official") -> PointCloud:
        return sample(ShapE(model=str(text_model), sampler=name, guidance_scale=scale, **RUN), prompt)

    assert equal(cloud(0, "a cat"), cloud(0, "a dog"))
    assert not equal(cloud(1, "a cat"), cloud(1, "a dog"))
    assert not equal(cloud(1, "a cat"), cloud(1, "a cat", "diffusers"))


def test_threads_that_share_a_model_do_not_disturb_each_other(text_model: Path):
    prior = ShapE(model=str(text_model), **RUN).load(CPU)

    def draw(seed: int) -> PointCloud:
        return prior.sample("a cat", torch.Generator().manual_seed(seed))

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(draw, range(8)))
    assert all(equal(cloud, draw(seed)) for seed, cloud in enumerate(together))


def test_a_latent_without_a_surface_asks_for_another_seed(tmp_path: Path):
    tiny_text_pipeline(level=-9.0).save_pretrained(tmp_path)
    for points in ("mesh", "field"):
        with pytest.raises(InvalidInput, match="seed: Shap-E found no surface for 'a red mushroom'. Use another"):
            sample(ShapE(model=str(tmp_path), points=points, **RUN))


def test_linear_colours_are_the_official_darker_ones(text_model: Path):
    meant, official = (sample(ShapE(model=str(text_model), colour=colour, **RUN)) for colour in ("display", "linear"))
    torch.testing.assert_close(official.rgb, srgb_to_linear(meant.rgb))
    assert bool((official.rgb <= meant.rgb).all())
    torch.testing.assert_close(srgb_to_linear(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([0.0, 0.21404, 1.0]))


def test_guidance_moves_away_from_the_empty_prompt(text_model: Path):
    unguided, default, official = (
        sample(ShapE(model=str(text_model), guidance_scale=scale, **RUN)) for scale in (1.0, None, 15.0)
    )
    assert equal(default, official) and not equal(default, unguided)


# --- From the field to points ---------------------------------------------------------------------------------------


def sphere(xyz: Tensor) -> tuple[Tensor, Tensor]:
    """Radius 0.7; the colour says where it is."""
    return 0.7 - xyz.norm(dim=-1), (xyz + 1) / 2


def test_surface_points_lie_on_the_surface_all_round_with_its_colours(generator: torch.Generator):
    cloud = surface_points(sphere, 24, 4000, generator, CPU)
    assert float((cloud.xyz.norm(dim=-1) - 0.7).abs().max()) < 2e-5
    torch.testing.assert_close(cloud.rgb, (cloud.xyz + 1) / 2)
    octants = ((cloud.xyz > 0).long() * torch.tensor([4, 2, 1])).sum(dim=1).bincount(minlength=8)
    assert int(octants.min()) > 400
    assert len(cloud.xyz.unique(dim=0)) == 4000


def test_mesh_vertices_are_those_of_diffusers_decoder(generator: torch.Generator):
    from diffusers.pipelines.shap_e.renderer import MeshDecoder

    grid = 12
    lumpy = 0.7 - grid_points(grid, CPU).norm(dim=-1) + 0.6 * torch.rand(grid**3, generator=generator)
    lumpy[::97] = 0.0  # exactly on the surface counts as outside

    def field(xyz: Tensor) -> tuple[Tensor, Tensor]:
        return (lumpy if len(xyz) == grid**3 else sphere(xyz)[0]), sphere(xyz)[1]

    ours = mesh_vertices(field, grid, CPU)
    decoder = MeshDecoder()
    fill_table(decoder)
    padded = F.pad(lumpy.reshape(grid, grid, grid), (1,) * 6, value=-1.0)
    theirs = decoder(padded, torch.full((3,), -1.0), torch.full((3,), 2.0))
    assert torch.equal(ours.xyz, theirs.verts) and len(ours) > 500
    torch.testing.assert_close(ours.rgb, (ours.xyz + 1) / 2)


def fill_table(decoder: Any) -> None:
    """A table with, for each case, the edges that the surface crosses, in threes: all of a case's vertices.

    Corners are numbered x + 2 y + 4 z; edges along x come first, then y, then z, each in the order of their low corner.
    """
    axes = [[(low, low | bit) for low in range(8) if not low & bit] for bit in (1, 2, 4)]
    edges = [edge for axis in axes for edge in axis]
    for case in range(256):
        crossed = [i for i, (low, high) in enumerate(edges) if (case >> low & 1) != (case >> high & 1)]
        slots = (crossed + crossed[:1] * 15)[:15] if crossed else [0] * 15
        decoder.cases[case] = torch.tensor(slots).reshape(5, 3)
        decoder.masks[case] = bool(crossed)


def test_a_latent_gives_the_field_that_diffusers_decodes(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator):
    renderer, latent = tiny_renderer(), torch.randn(TOKENS, WIDTH, generator=generator).clamp(-1, 1)
    fill_table(renderer.mesh_decoder)
    monkeypatch.setattr(shap_e_points, "_BLOCK", 100)
    ours = mesh_vertices(latent_field(renderer, latent), 10, CPU)
    theirs = renderer.decode_to_mesh(latent[None], CPU, grid_size=10)
    torch.testing.assert_close(ours.xyz, theirs.verts)
    colours = torch.stack([theirs.vertex_channels[channel] for channel in "RGB"], dim=1)
    torch.testing.assert_close(srgb_to_linear(ours.rgb), colours)
    whole, halved = (latent_field(renderer, tokens)(ours.xyz)[0] for tokens in (latent, latent.half()))
    torch.testing.assert_close(halved, whole, atol=1e-2, rtol=0)


# --- From a picture -------------------------------------------------------------------------------------------------


def picture(path: Path, colour: str, background: tuple[int, ...], mode: str = "RGBA") -> Path:
    image = Image.new(mode, (60, 40), background)
    ImageDraw.Draw(image).ellipse((5, 5, 24, 34), fill=colour)
    image.save(path)
    return path


def test_pictures_decide_the_cloud_and_the_prompt_does_not(image_model: Path, tmp_path: Path):
    def cloud(path: Path, prompt: str = "") -> PointCloud:
        return sample(ShapE(model=str(image_model), image=path, **RUN), prompt)

    red = picture(tmp_path / "red.png", "red", (0, 0, 0, 0))
    assert equal(cloud(red), cloud(red, "a blue cube"))
    assert not equal(cloud(red), cloud(picture(tmp_path / "blue.png", "blue", (0, 0, 0, 0))))
    # Whatever colour hides where nothing is to be seen does not matter.
    assert equal(cloud(red), cloud(picture(tmp_path / "hidden.png", "red", (90, 200, 30, 0))))


@pytest.mark.parametrize(
    ("mode", "background", "surroundings"), [("RGBA", (0, 0, 0, 0), (255,) * 3), ("RGB", (9, 80, 90), (9, 80, 90))]
)
def test_objects_are_centred_on_their_background(tmp_path: Path, mode: str, background: Any, surroundings: Any):
    square = read_picture(picture(tmp_path / "object.png", "red", background, mode))
    assert square.size == (38, 38)  # the object is 20 x 30 px, and fills four fifths
    assert square.getpixel((19, 19)) == (255, 0, 0)
    assert square.getpixel((0, 0)) == square.getpixel((37, 37)) == surroundings
    red = [square.getpixel((x, 19)) == (255, 0, 0) for x in range(38)]
    assert red[9:29] == [True] * 20 and sum(red) == 20


def test_a_photograph_is_left_as_it_is_and_an_empty_picture_refused(tmp_path: Path):
    noise = Image.effect_noise((20, 30), 80).convert("RGB")
    noise.save(tmp_path / "photo.png")
    assert read_picture(tmp_path / "photo.png").tobytes() == noise.tobytes()
    for name, mode, colour in (("clear", "RGBA", (1, 2, 3, 0)), ("plain", "RGB", (1, 2, 3))):
        Image.new(mode, (20, 20), colour).save(tmp_path / f"{name}.png")
        with pytest.raises(InvalidInput, match=f"{name}.png: all background"):
            read_picture(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, why in (("text.png", "cannot be read as a picture"), ("missing.png", "no such file")):
        with pytest.raises(FileProblem, match=f"{name}: {why}"):
            ShapE(image=tmp_path / name).load(CPU)


# --- Checkpoints ----------------------------------------------------------------------------------------------------


def hub_layout(model: Path, folder: Path) -> Path:
    """The checkpoint as openai/shap-e is on the hub: halves, one renderer as a pickle and one without its table."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    for path in list(folder.rglob("*.safetensors")):
        half = {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()}
        save_file({k: v for k, v in half.items() if "mesh_decoder" not in k}, path.with_suffix(".fp16.safetensors"))
        path.unlink()
    (folder / "shap_e_renderer").rename(folder / "renderer")
    (folder / "shap_e_renderer").mkdir()
    shutil.copy(folder / "renderer/config.json", folder / "shap_e_renderer")
    (folder / "shap_e_renderer/diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    return folder


def test_the_layout_of_the_hub_loads_from_the_cache_without_a_network(
    text_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--openai--shap-e"
    hub_layout(text_model, repository / "snapshots/0123")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0123")
    loaded: Any = ShapE(**RUN).load(CPU)
    assert not any(tensor.is_meta for tensor in loaded.pipeline.shap_e_renderer.state_dict().values())
    halved, whole = sample(ShapE(**RUN)), sample(ShapE(model=str(text_model), **RUN))
    assert abs(len(halved) - len(whole)) < 0.1 * len(whole)
    torch.testing.assert_close(halved.xyz.mean(dim=0), whole.xyz.mean(dim=0), atol=0.05, rtol=0)


def test_a_hub_id_that_is_not_cached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileProblem, match="^openai/shap-e: ") as caught:
        ShapE().load(CPU)
    assert "\n" not in str(caught.value)


def test_without_diffusers_the_install_command_is_given(text_model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingDependency, match=r'pip install "dreamsplat\[diffusion\]"'):
        ShapE(model=str(text_model)).load(CPU)


def _pickled(model: Path) -> None:
    path = model / "prior/diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))


def _cut(model: Path) -> None:
    path = model / "prior/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def _wrong_shape(model: Path) -> None:
    change_config(model / "prior", num_embeddings=TOKENS + 1)


def _one_layer_more(model: Path) -> None:
    change_config(model / "prior", num_layers=3)


def _wrong_encoder(model: Path) -> None:
    tiny_text_pipeline(condition=CONDITION + 1).text_encoder.save_pretrained(model / "text_encoder")


def _other_pipeline(model: Path) -> None:
    change_config(model, "model_index.json", _class_name="StableDiffusionPipeline")


def _no_index(model: Path) -> None:
    (model / "model_index.json").unlink()


def _no_vocabulary(model: Path) -> None:
    (model / "tokenizer/tokenizer.json").unlink()


def change_config(folder: Path, name: str = "config.json", **changes: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_pickled, "has diffusion_pytorch_model.bin instead of prior/*.safetensors, and a pickle can run code"),
        (_cut, "cut off or corrupt"),
        (_wrong_shape, "positional_embedding"),
        (_one_layer_more, "the weights in prior lack transformer_blocks.2"),
        (_wrong_encoder, "width of the encoder and of the prior's condition are 25 and 24"),
        (_other_pipeline, "holds a StableDiffusionPipeline, expected a ShapEPipeline"),
        (_no_index, "has no model_index.json"),
        (_no_vocabulary, "words of the tokenizer and of the encoder are"),
    ],
)
def test_a_malformed_checkpoint_is_refused_with_its_name_and_the_reason(copy_of_text_model: Path, damage, reason):
    damage(copy_of_text_model)
    with warnings.catch_warnings(), pytest.raises(FileProblem) as caught:
        warnings.simplefilter("ignore")
        ShapE(model=str(copy_of_text_model)).load(CPU)
    message = str(caught.value)
    assert str(copy_of_text_model) in message and reason in message and "\n" not in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "fp16"}, "fp16 needs a CUDA device"),
        ({"grid": 1}, "prior3d.grid: 1, expected at least 2 and at most 512"),
        ({"sampling_steps": 0}, "prior3d.sampling_steps: 0"),
        ({"weights": Path("a.pth"), "image": Path("a.png")}, "Omit `prior3d.weights` or `prior3d.image`"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_loaded(settings: dict[str, Any], message: str):
    with pytest.raises(InvalidInput, match=message):
        ShapE(model="/nowhere", **settings).load(CPU)


# --- Cap3D's weights ------------------------------------------------------------------------------------------------


def original_state(layers: int = 2) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of openai/shap-e's text model."""

    def linear(name: str, rows: int, columns: int) -> dict[str, Tensor]:
        return {f"{name}.weight": 0.3 * torch.randn(rows, columns), f"{name}.bias": 0.3 * torch.randn(rows)}

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + 0.3 * torch.randn(WIDTH), f"{name}.bias": 0.3 * torch.randn(WIDTH)}

    def mlp(name: str) -> dict[str, Tensor]:
        return linear(f"{name}.c_fc", 4 * WIDTH, WIDTH) | linear(f"{name}.c_proj", WIDTH, 4 * WIDTH)

    state = {"pos_emb": torch.randn(TOKENS, WIDTH)} | mlp("time_embed") | norm("ln_pre") | norm("ln_post")
    state |= linear("clip_embed", WIDTH, CONDITION) | linear("input_proj", WIDTH, WIDTH)
    state |= linear("output_proj", 2 * WIDTH, WIDTH)
    for i in range(layers):
        block = f"backbone.resblocks.{i}"
        state |= linear(f"{block}.attn.c_qkv", 3 * WIDTH, WIDTH) | linear(f"{block}.attn.c_proj", WIDTH, WIDTH)
        state |= mlp(f"{block}.mlp") | norm(f"{block}.ln_1") | norm(f"{block}.ln_2")
    return {f"wrapped.{name}": tensor for name, tensor in state.items()}


def original_forward(state: dict[str, Tensor], latent: Tensor, time: float, condition: Tensor) -> Tensor:
    """The network that openai/shap-e makes of such weights: latent [T, D], condition [E] -> [T, 2 D]."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"wrapped.{name}.weight"], state[f"wrapped.{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), state[f"wrapped.{name}.weight"], state[f"wrapped.{name}.bias"])

    def mlp(name: str, x: Tensor) -> Tensor:
        return linear(f"{name}.c_proj", F.gelu(linear(f"{name}.c_fc", x)))

    def attention(name: str, x: Tensor) -> Tensor:
        q, k, v = linear(f"{name}.c_qkv", x).reshape(len(x), HEADS, -1).chunk(3, dim=-1)  # each [T, h, c]
        weights = (torch.einsum("thc,shc->hts", q, k) / q.shape[-1] ** 0.5).softmax(dim=-1)
        return linear(f"{name}.c_proj", torch.einsum("hts,shc->thc", weights, v).flatten(1))

    frequencies = 10_000 ** -(torch.arange(WIDTH // 2) / (WIDTH // 2))
    waves = torch.cat([(time * frequencies).cos(), (time * frequencies).sin()])
    tokens = linear("input_proj", latent) + state["wrapped.pos_emb"]
    x = torch.cat([linear("clip_embed", condition)[None], mlp("time_embed", waves)[None], tokens])
    x = norm("ln_pre", x)
    for i in range(2):
        block = f"backbone.resblocks.{i}"
        x = x + attention(f"{block}.attn", norm(f"{block}.ln_1", x))
        x = x + mlp(f"{block}.mlp", norm(f"{block}.ln_2", x))
    return linear("output_proj", norm("ln_post", x)[2:])


def save_checkpoint(path: Path, state: Any) -> Path:
    torch.save({"model_state_dict": state, "optimizer_state_dict": {"param_groups": [{"lr": 1e-5}]}}, path)
    return path


@torch.no_grad()
def test_converted_weights_make_the_original_network(tmp_path: Path):
    state, prior = original_state(), tiny_prior()
    tuned = read_cap3d(save_checkpoint(tmp_path / "tuned.pth", state), prior.state_dict(), HEADS)
    assert set(prior.state_dict()) - set(tuned) == {"clip_mean", "clip_std"}
    prior.load_state_dict(tuned, strict=False)
    latent, condition = torch.randn(TOKENS, WIDTH), torch.randn(CONDITION)
    ours = prior(latent[None], torch.tensor(37.0), condition[None]).predicted_image_embedding[0]
    torch.testing.assert_close(ours, original_forward(state, latent, 37.0, condition), rtol=1e-4, atol=1e-4)


def test_fine_tuned_weights_change_the_cloud(text_model: Path, tmp_path: Path):
    tuned = save_checkpoint(tmp_path / "tuned.pth", original_state())
    settings = {"model": str(text_model), **RUN}
    assert not equal(sample(ShapE(**settings)), sample(ShapE(**settings, weights=tuned)))


class _Code:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was-run"),))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = save_checkpoint(tmp_path / "evil.pth", _Code())
    with pytest.raises(FileProblem, match="evil.pth: refused, it holds more than tensors"):
        read_cap3d(path, tiny_prior().state_dict(), HEADS)
    assert not (tmp_path / "was-run").exists()


def test_weights_of_another_network_are_refused_with_what_is_wrong(tmp_path: Path):
    good, prior = original_state(), tiny_prior().state_dict()
    lacking = {name: tensor for name, tensor in good.items() if name != "wrapped.ln_pre.weight"}
    wrong = good | {"wrapped.pos_emb": torch.zeros(TOKENS, WIDTH + 1)}
    cases = {
        "1 missing, such as wrapped.ln_pre.weight": lacking,
        "12 unknown, such as wrapped.backbone.resblocks.2.attn.c_qkv.weight": original_state(layers=3),
        r"wrong shape, such as wrapped.pos_emb \[32, 17\] for \[32, 16\]": wrong,
        "no tensors under 'model_state_dict'": "words",
    }
    for message, state in cases.items():
        with pytest.raises(FileProblem, match=message) as caught:
            read_cap3d(save_checkpoint(tmp_path / "other.pth", state), prior, HEADS)
        assert "\n" not in str(caught.value) and "other.pth" in str(caught.value)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path):
    (tmp_path / "text.pth").write_text("no checkpoint")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"model_state_dict": {}}))
    save_checkpoint(tmp_path / "cut.pth", original_state())
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:9000])
    for name in ("text.pth", "old.pth", "cut.pth", "missing.pth"):
        with pytest.raises(FileProblem, match=f"{name}: ") as caught:
            read_cap3d(tmp_path / name, tiny_prior().state_dict(), HEADS)
        assert "\n" not in str(caught.value)
