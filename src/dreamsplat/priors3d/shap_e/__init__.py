"""Shap-E (Jun & Nichol 2023) through diffusers: the 3D prior of GaussianDreamer, from words or from a picture.

Only safetensors are read. On the hub, openai/shap-e has them in half precision alone, and its current renderer only as
a pickle; its older folder `renderer` holds the same network, so that one is taken. The sampler is diffusers' Heun with
Karras's steps. It differs from the official one in the last digits of the recipe: noise levels from 403 to 0.11 (those
that the network was trained at) instead of 160 to 0.001, and the estimate is clipped after guidance instead of before.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.hub.fetch import cached, explained, local_folder, missing_files, require
from dreamsplat.maths.srgb import srgb_to_linear
from dreamsplat.priors3d.base import AbstractCloudPrior, AbstractCloudPriorSpec
from dreamsplat.priors3d.shap_e.cap3d import read_cap3d
from dreamsplat.priors3d.shap_e.points import latent_field, mesh_vertices, surface_points
from dreamsplat.types import PointCloud

_LOG = logging.getLogger(__name__)
_FILES = ["model_index.json", "scheduler/*.json", "prior/*.json", "prior/*.safetensors"]
_FILES += ["*renderer/*.json", "*renderer/*.safetensors"]
_TEXT_FILES = [*_FILES, "text_encoder/*.json", "text_encoder/*.safetensors", "tokenizer/*"]
_IMAGE_FILES = [*_FILES, "image_encoder/*.json", "image_encoder/*.safetensors", "image_processor/*.json"]
"""All that is read, and fetched from the hub: never a pickle."""
_NOT_IN_SAFETENSORS = {"mesh_decoder.cases", "mesh_decoder.masks"}
"""The table of triangles, which `mesh_vertices` does without."""


@dataclass(frozen=True)
class ShapE(AbstractCloudPriorSpec):
    """Settings of Shap-E. Defaults: the official GaussianDreamer code (method.md 1.1-1.2), but OpenAI's own weights."""

    model: str | None = None
    """Hub id or folder of a diffusers checkpoint; None takes openai/shap-e, or openai/shap-e-img2img for a picture."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None takes its main branch."""
    image: Path | None = None
    """A picture of the object, to use instead of the prompt. Transparent or plain surroundings are cropped away."""
    points: Literal["mesh", "field"] = "mesh"
    """"mesh": the vertices of its marching-cubes mesh, as in the paper; "field": points drawn on its surface."""
    colour: Literal["linear", "display"] = "linear"
    """"linear": linear light used as if it were display colour, as the official code does, which makes the first cloud
    darker; "display": the colours that Shap-E means."""
    guidance_scale: float | None = None
    """Classifier-free guidance scale, applied to the estimate; None takes 15 for words and 3 for a picture."""
    sampling_steps: int = 64
    """Heun steps of the sampler."""
    grid: int = 128
    """Points along an edge of the grid on which the surface is looked for."""
    field_points: int = 32_768
    """Points of the cloud, for points = "field"."""
    weights: Path | None = None
    """Cap3D's fine-tuned text model, a .pth file, put in place of the checkpoint's; the paper uses it."""
    dtype: Literal["auto", "fp16", "fp32"] = "auto"
    """Precision of the diffusion model; auto takes fp16 on a CUDA device and fp32 elsewhere."""

    def from_picture(self, image: Path) -> ShapE:
        """See `AbstractCloudPriorSpec.from_picture`."""
        return dataclasses.replace(self, image=image)

    def load(self, device: torch.device) -> AbstractCloudPrior:
        """The model on a device.

        Raises:
            InvalidInput: for a setting out of range, or settings that exclude each other.
            FileProblem: if the checkpoint, the weights or the picture is missing, or is not what it should be.
            MissingDependency: if diffusers or transformers is not installed.
        """
        _check_settings(self, device)
        require("diffusers", "diffusion")  # before anything is fetched for it
        picture = None if self.image is None else read_picture(self.image)
        model = self.model or ("openai/shap-e" if picture is None else "openai/shap-e-img2img")
        half = self.dtype == "fp16" or (self.dtype == "auto" and device.type == "cuda")
        folder = _folder(model, self.revision, _TEXT_FILES if picture is None else _IMAGE_FILES)
        # Networks are made with random weights before they are filled; the caller's randomness must not notice.
        with torch.random.fork_rng(devices=[]), explained(model, self.revision):
            pipeline = _load_pipeline(folder, picture is not None, torch.float16 if half else torch.float32)
        if self.weights is not None:
            prior = pipeline.prior
            tuned = read_cap3d(self.weights, prior.state_dict(), prior.config.num_attention_heads)
            prior.load_state_dict(tuned, strict=False)
        return _ShapE(self, pipeline.to(device), picture, device)


class _ShapE(AbstractCloudPrior):
    def __init__(self, spec: ShapE, pipeline: Any, picture: Image.Image | None, device: torch.device) -> None:
        self.spec, self.pipeline, self.picture, self.device = spec, pipeline, picture, device
        self._lock = Lock()  # the pipeline's scheduler has a state, and its renderer is lent weights

    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        """See `AbstractCloudPrior.sample`; with a picture the prompt is not looked at."""
        with self._lock, torch.no_grad():
            cloud = self._sample(prompt, generator)
        if len(cloud) == 0:
            what = f"'{prompt}'" if self.picture is None else str(self.spec.image)
            raise InvalidInput(f"prior3d: Shap-E found no surface for {what}. Try another seed.")
        return cloud

    def _sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        spec = self.spec
        scale = spec.guidance_scale
        latent = self.pipeline(
            prompt if self.picture is None else self.picture,
            num_inference_steps=spec.sampling_steps,
            guidance_scale=(15.0 if self.picture is None else 3.0) if scale is None else scale,
            generator=generator,
            output_type="latent",  # "mesh" needs the missing table, and "pil" reseeds torch's global generator
        ).images[0]
        if not bool(latent.isfinite().all()):
            raise InvalidInput("prior3d: Shap-E's numbers overflowed. Use dtype fp32, or a smaller guidance scale.")
        field = latent_field(self.pipeline.shap_e_renderer, latent)
        if spec.points == "mesh":
            cloud = mesh_vertices(field, spec.grid, self.device)
        else:
            cloud = surface_points(field, spec.grid, spec.field_points, generator, self.device)
        return PointCloud(cloud.xyz, srgb_to_linear(cloud.rgb)) if spec.colour == "linear" else cloud


def read_picture(path: Path) -> Image.Image:
    """A square RGB picture with the object in its middle, filling four fifths of it.

    Where the picture has an alpha channel, that says what the object is, and the rest becomes white. Otherwise, if the
    border has one plain colour, all that differs from it is the object, and the colour stays. A picture with other
    surroundings is left as it is.

    Raises:
        FileProblem: if the file is missing or is no picture.
        InvalidInput: if there is nothing but background in it.
    """
    if not path.is_file():
        raise FileProblem(f"{path}: no such file. Check the path of --image.")
    try:
        with Image.open(path) as file:
            rgba = ImageOps.exif_transpose(file).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FileProblem(f"{path}: cannot be read as a picture ({error}). Give a PNG or JPEG file.") from error
    alpha = np.asarray(rgba)[..., 3]
    if alpha.min() < 255:
        background = (255, 255, 255)
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, background), rgba).convert("RGB")
        is_object = alpha > 12
    else:
        rgb = rgba.convert("RGB")
        pixels = np.asarray(rgb).astype(int)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        colour = np.median(border, axis=0)
        if (abs(border - colour).max(axis=1) > 16).mean() > 0.02:
            _LOG.warning("%s: no plain background; Shap-E knows objects in front of nothing. Cut it out.", path)
            return rgb
        background = tuple(int(channel) for channel in colour)
        is_object = abs(pixels - colour).max(axis=2) > 16
    if not is_object.any():
        raise InvalidInput(f"{path}: all background, no object in it. Give a picture of one object.")
    rows, columns = (np.flatnonzero(is_object.any(axis=axis)) for axis in (1, 0))
    cropped = rgb.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    side = round(max(cropped.size) / 0.8)
    square = Image.new("RGB", (side, side), background)
    square.paste(cropped, ((side - cropped.width) // 2, (side - cropped.height) // 2))
    return square


def _check_settings(spec: ShapE, device: torch.device) -> None:
    ranges = {"sampling_steps": (1, 1000), "grid": (2, 512), "field_points": (1, 10**7)}
    for name, (least, most) in ranges.items():
        if not least <= getattr(spec, name) <= most:
            raise InvalidInput(f"prior3d.{name}: {getattr(spec, name)}, expected {least} to {most}.")
    if spec.dtype == "fp16" and device.type != "cuda":
        raise InvalidInput("prior3d.dtype: fp16 needs a CUDA device. Use fp32 or auto.")
    if spec.weights is not None and spec.image is not None:
        raise InvalidInput("prior3d.weights: Cap3D fine-tuned the text model; leave the weights or the image out.")


def _folder(model: str, revision: str | None, files: list[str]) -> Path:
    """Where the checkpoint lies, fetched if need be."""
    if not Path(model).expanduser().is_dir():
        hub = require("huggingface_hub", "diffusion")
        snapshot = cached(model, revision)
        if snapshot is None or missing_files(snapshot, files):
            # `local_folder` leaves half-precision copies on the hub, but openai/shap-e has no others.
            with explained(model, revision, files):
                hub.snapshot_download(model, revision=revision, allow_patterns=files)
    return local_folder(model, revision, files)


def _load_pipeline(folder: Path, from_picture: bool, dtype: torch.dtype) -> Any:
    """A ShapEPipeline or ShapEImg2ImgPipeline; see the module for what is read."""
    diffusers, transformers = require("diffusers", "diffusion"), require("transformers", "diffusion")
    renderer = require("diffusers.pipelines.shap_e.renderer", "diffusion").ShapERenderer
    kind = diffusers.ShapEImg2ImgPipeline if from_picture else diffusers.ShapEPipeline
    found = json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
    if found != kind.__name__:
        raise FileProblem(f"{folder}: holds a {found}, expected a {kind.__name__}. Name another model.")

    scheduler = diffusers.HeunDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    parts: dict[str, Any] = {
        "prior": _network(diffusers.PriorTransformer, folder, ["prior"], dtype),
        # In full precision, since half cannot hold the positions that its sines of 2^14 periods ask for.
        "shap_e_renderer": _network(renderer, folder, ["shap_e_renderer", "renderer"], torch.float32),
        "scheduler": diffusers.HeunDiscreteScheduler.from_config(scheduler.config, use_karras_sigmas=True),
    }
    if from_picture:
        parts["image_encoder"] = _network(transformers.CLIPVisionModel, folder, ["image_encoder"], dtype)
        parts["image_processor"] = transformers.CLIPImageProcessor.from_pretrained(folder, subfolder="image_processor")
    else:
        parts["text_encoder"] = _network(transformers.CLIPTextModelWithProjection, folder, ["text_encoder"], dtype)
        parts["tokenizer"] = transformers.CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    _check_fit(folder, parts)
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _network(kind: Any, folder: Path, names: Sequence[str], dtype: torch.dtype) -> Any:
    """A part of the checkpoint, from the first of its possible folders that has safetensors."""
    files = {name: list((folder / name).glob("*.safetensors")) for name in names}
    name = next(name for name in names if files[name])
    variant = "fp16" if all(".fp16." in path.name for path in files[name]) else None
    network, report = kind.from_pretrained(
        folder, subfolder=name, variant=variant, use_safetensors=True, dtype=dtype, output_loading_info=True
    )
    missing = sorted(set(report["missing_keys"]) - _NOT_IN_SAFETENSORS)
    if missing:
        raise FileProblem(f"{folder / name}: lacks {len(missing)} weights, such as {missing[0]}. Fetch it again.")
    return network


def _check_fit(folder: Path, parts: dict[str, Any]) -> None:
    """Raise FileProblem unless the parts of a checkpoint were made for each other."""
    prior, renderer = parts["prior"], parts["shap_e_renderer"].config
    width, tokens = prior.proj_in.in_features, sum(rows for rows, _ in renderer.param_shapes)
    pairs = {
        "width of the prior's latent and of the renderer's": (width, renderer.d_latent),
        "tokens of the prior's latent and of the renderer's": (prior.config.num_embeddings, tokens),
        "width of the prior's answer and of two latents": (prior.proj_to_clip_embeddings.out_features, 2 * width),
    }
    if "tokenizer" in parts:
        encoder = parts["text_encoder"].config
        condition = encoder.projection_dim
        # Without its files a tokenizer is made all the same, with hardly a word in it.
        pairs["words of the tokenizer and of the encoder"] = (len(parts["tokenizer"]), encoder.vocab_size)
    else:
        condition = parts["image_encoder"].config.hidden_size
    pairs["width of the encoder and of the prior's condition"] = (condition, prior.embedding_proj.in_features)
    for what, (one, other) in pairs.items():
        if one != other:
            raise FileProblem(f"{folder}: its parts do not fit: {what} are {one} and {other}. Name another model.")
