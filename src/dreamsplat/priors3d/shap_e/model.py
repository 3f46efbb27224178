"""Shap-E at work, through diffusers: the 3D prior of GaussianDreamer.

Only safetensors are read. On the hub, openai/shap-e has them in half precision alone, and its current renderer only as
a pickle; its older folder `renderer` holds the same network, so that one is taken.
"""

from __future__ import annotations

import json
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.hub.explain import explained
from dreamsplat.hub.networks import read_network
from dreamsplat.hub.optional import require
from dreamsplat.maths.srgb import srgb_to_linear
from dreamsplat.priors3d.base import AbstractCloudPrior
from dreamsplat.priors3d.shap_e import ShapE, sampler
from dreamsplat.priors3d.shap_e.cap3d import read_cap3d
from dreamsplat.priors3d.shap_e.checkpoint import ShapEModel, find_checkpoint
from dreamsplat.priors3d.shap_e.picture import read_picture
from dreamsplat.priors3d.shap_e.points import latent_field, mesh_vertices, surface_points
from dreamsplat.types import PointCloud

if TYPE_CHECKING:
    from PIL.Image import Image

_NOT_IN_SAFETENSORS = {"mesh_decoder.cases", "mesh_decoder.masks"}
"""The table of triangles, which `mesh_vertices` does without."""


def load_shap_e(spec: ShapE, device: torch.device) -> AbstractCloudPrior:
    """See `ShapE.load`."""
    require("diffusers", "diffusion")  # before anything is fetched for it
    picture = None if spec.image is None else read_picture(spec.image)
    checkpoint = find_checkpoint(spec.model, spec.revision, picture is not None)
    half = spec.dtype == "fp16" or (spec.dtype == "auto" and device.type == "cuda")
    dtype = torch.float16 if half else torch.float32
    # Networks are made with random weights before they are filled; the caller's randomness must not notice.
    with torch.random.fork_rng(devices=[]), explained(checkpoint.model, spec.revision):
        pipeline = _load_pipeline(checkpoint, picture is not None, dtype, device)
    if spec.weights is not None:
        prior = pipeline.prior
        tuned = read_cap3d(spec.weights, prior.state_dict(), prior.config.num_attention_heads)
        prior.load_state_dict(tuned, strict=False)
    return _ShapE(spec, pipeline, picture, device)


class _ShapE(AbstractCloudPrior):
    def __init__(self, spec: ShapE, pipeline: Any, picture: Image | None, device: torch.device) -> None:
        self.spec, self.pipeline, self.picture, self.device = spec, pipeline, picture, device
        self._lock = Lock()  # the pipeline's scheduler has a state, and its renderer is lent weights

    def sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        """See `AbstractCloudPrior.sample`; with a picture the prompt is ignored."""
        with self._lock, torch.no_grad():
            cloud = self._sample(prompt, generator)
        if len(cloud) == 0:
            what = f"'{prompt}'" if self.picture is None else str(self.spec.image)
            raise InvalidInput(f"Shap-E found no surface for {what}.", setting="seed", advice="Use another.")
        return cloud

    def _sample(self, prompt: str, generator: torch.Generator) -> PointCloud:
        spec = self.spec
        latent = (self._officially if spec.sampler == "official" else self._by_diffusers)(prompt, generator)
        if not bool(latent.isfinite().all()):
            raise InvalidInput(
                "Shap-E's numbers overflowed.",
                setting="prior3d.dtype", advice="Use fp32, or lower `prior3d.guidance_scale`.",
            )  # fmt: skip
        field = latent_field(self.pipeline.shap_e_renderer, latent)
        if spec.points == "mesh":
            cloud = mesh_vertices(field, spec.grid, self.device)
        else:
            cloud = surface_points(field, spec.grid, spec.field_points, generator, self.device)
        return PointCloud(cloud.xyz, srgb_to_linear(cloud.rgb)) if spec.colour == "linear" else cloud

    @property
    def _guidance_scale(self) -> float:
        scale = self.spec.guidance_scale
        return (15.0 if self.picture is None else 3.0) if scale is None else scale

    def _officially(self, prompt: str, generator: torch.Generator) -> Tensor:
        """A latent by the official sampler, [tokens, width]."""
        prior = self.pipeline.prior
        conditions = self._conditions(prompt)

        def estimates(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
            both = x.to(prior.dtype).expand(2, -1, -1)
            answer = prior(both, timestep=t, proj_embedding=conditions).predicted_image_embedding
            without, given = answer[..., : x.shape[-1]].float().chunk(2)  # the rest are variances
            return without, given

        tokens, width = prior.config.num_embeddings, prior.config.embedding_dim
        noise = torch.randn(1, tokens, width, generator=generator).to(self.device)
        levels = self.pipeline.scheduler.alphas_cumprod
        return sampler.sample(estimates, noise, levels, self._guidance_scale, self.spec.sampling_steps)[0]

    def _conditions(self, prompt: str) -> Tensor:
        """Embeddings [2, ...] of no condition, and of the prompt or picture."""
        if self.picture is None:
            return self.pipeline._encode_prompt(prompt, self.device, 1, True)
        return self.pipeline._encode_image(self.picture, self.device, 1, True)

    def _by_diffusers(self, prompt: str, generator: torch.Generator) -> Tensor:
        """A latent by diffusers' own sampler, [tokens, width]."""
        return self.pipeline(
            prompt if self.picture is None else self.picture,
            num_inference_steps=self.spec.sampling_steps,
            guidance_scale=self._guidance_scale,
            generator=generator,
            output_type="latent",  # "mesh" needs the missing table, and "pil" reseeds torch's global generator
        ).images[0]


def _load_pipeline(checkpoint: ShapEModel, from_picture: bool, dtype: torch.dtype, device: torch.device) -> Any:
    """A ShapEPipeline or ShapEImg2ImgPipeline; see the module for what is read."""
    folder = checkpoint.folder

    def network(kind: Any, part: str, dtype: torch.dtype = dtype) -> Any:
        return read_network(kind, checkpoint.model, folder / part, dtype, device, _NOT_IN_SAFETENSORS)

    diffusers, transformers = require("diffusers", "diffusion"), require("transformers", "diffusion")
    renderer = require("diffusers.pipelines.shap_e.renderer", "diffusion").ShapERenderer
    kind = diffusers.ShapEImg2ImgPipeline if from_picture else diffusers.ShapEPipeline
    found = json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
    if found != kind.__name__:
        raise FileProblem(f"{folder}: holds a {found}, expected a {kind.__name__}. Name another model.")

    scheduler = diffusers.HeunDiscreteScheduler.from_pretrained(folder, subfolder="scheduler")
    parts: dict[str, Any] = {
        "prior": network(diffusers.PriorTransformer, "prior"),
        # In full precision, since half cannot hold the positions that its sines of 2^14 periods ask for.
        "shap_e_renderer": network(renderer, checkpoint.renderer, torch.float32),
        "scheduler": diffusers.HeunDiscreteScheduler.from_config(scheduler.config, use_karras_sigmas=True),
    }
    if from_picture:
        parts["image_encoder"] = network(transformers.CLIPVisionModel, "image_encoder")
        parts["image_processor"] = transformers.CLIPImageProcessor.from_pretrained(folder, subfolder="image_processor")
    else:
        parts["text_encoder"] = network(transformers.CLIPTextModelWithProjection, "text_encoder")
        parts["tokenizer"] = transformers.CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    _check_fit(folder, parts)
    pipeline = kind(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


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
