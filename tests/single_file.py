"""Checkpoints in the names of the original code, in one safetensors file, from folders in the format of diffusers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_UNET = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def save_single_file(folder: Path, path: Path, open_clip: bool = False, metadata: dict[str, str] | None = None) -> Path:
    """Write a folder's networks as one file; a lone text encoder like CLIP (1.x), or `open_clip` (2.x)."""
    configs = {part: json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae")}
    states = {
        part: load_file(next((folder / part).glob("*.safetensors")))
        for part in ("unet", "vae", "text_encoder", "text_encoder_2")
        if (folder / part).is_dir()
    }
    tensors = original_names(configs["unet"], configs["vae"], states, open_clip)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def original_names(
    unet: Mapping[str, Any], vae: Mapping[str, Any], states: Mapping[str, Mapping[str, Tensor]], open_clip: bool
) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by the names of the original code."""
    layers = unet["layers_per_block"]
    tensors: dict[str, Tensor] = {}
    for name, tensor in states["unet"].items():
        level = name.split(".")[1]
        last = 2 if any(other.startswith(f"up_blocks.{level}.attentions") for other in states["unet"]) else 1
        tensors[f"model.diffusion_model.{_unet_name(name, layers, last)}"] = tensor
    levels = len(vae["block_out_channels"])
    for name, tensor in states["vae"].items():
        is_matrix = ".attentions." in name and "group_norm" not in name and name.endswith("weight")
        tensors[f"first_stage_model.{_vae_name(name, levels)}"] = tensor[..., None, None] if is_matrix else tensor
    if "text_encoder_2" in states:
        tensors |= _clip(states["text_encoder"], "conditioner.embedders.0.transformer.")
        tensors |= _open_clip(states["text_encoder_2"], "conditioner.embedders.1.model.")
    elif open_clip:
        tensors |= _open_clip(states["text_encoder"], "cond_stage_model.model.")
    else:
        tensors |= _clip(states["text_encoder"], "cond_stage_model.transformer.")
    return tensors


def _replaced(name: str, words: Mapping[str, str]) -> str:
    for old, new in words.items():
        name = name.replace(f"{old}.", f"{new}.")
    return name


def _unet_name(name: str, layers: int, upsampler: int) -> str:
    block, *rest = name.split(".", 1)
    if block == "mid_block":
        kind, index, tail = rest[0].split(".", 2)
        place = 1 if kind == "attentions" else 2 * int(index)
        return f"middle_block.{place}.{_replaced(tail, _RESNET) if kind == 'resnets' else tail}"
    if block not in ("down_blocks", "up_blocks"):
        return _replaced(name, _UNET)
    level, kind, index, tail = rest[0].split(".", 3)
    if kind == "downsamplers":
        return f"input_blocks.{(int(level) + 1) * (layers + 1)}.0.{tail.replace('conv', 'op')}"
    if block == "down_blocks":
        start = f"input_blocks.{1 + int(level) * (layers + 1) + int(index)}"
    else:
        start = f"output_blocks.{int(level) * (layers + 1) + (layers if kind == 'upsamplers' else int(index))}"
    if kind == "upsamplers":
        return f"{start}.{upsampler}.{tail}"
    return f"{start}.1.{tail}" if kind == "attentions" else f"{start}.0.{_replaced(tail, _RESNET)}"


def _vae_name(name: str, levels: int) -> str:
    if ".attentions." in name:
        name = _replaced(name, _ATTENTION)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_norm_out", "norm_out")
    for index in (0, 1):
        name = name.replace(f"mid_block.resnets.{index}", f"mid.block_{index + 1}")
    for level in range(levels):
        name = name.replace(f"down_blocks.{level}.", f"down.{level}.")
        name = name.replace(f"up_blocks.{level}.", f"up.{levels - 1 - level}.")
    name = name.replace("resnets", "block").replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
    return name.replace("conv_shortcut", "nin_shortcut")


def _clip(state: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {f"{start}text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in state.items()}


def _open_clip(state: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    state = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    words = {"encoder.layers": "resblocks", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
    words |= {"fc1": "c_fc", "fc2": "c_proj", "self_attn": "attn"}
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name == "text_projection.weight":
            tensors[f"{start}text_projection"] = tensor.T
        elif name in _OPEN_CLIP:
            tensors[start + _OPEN_CLIP[name]] = tensor
        elif ".q_proj." in name:
            joined = torch.cat([state[name.replace("q_proj", f"{x}_proj")] for x in "qkv"])
            target = name.replace("encoder.layers", "resblocks").replace("self_attn.q_proj.", "attn.in_proj_")
            tensors[f"{start}transformer.{target}"] = joined
        elif ".k_proj." not in name and ".v_proj." not in name:
            tensors[f"{start}transformer.{_replaced(name, words)}"] = tensor
    return tensors
