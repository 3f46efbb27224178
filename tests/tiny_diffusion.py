"""Stable Diffusion checkpoints of a few kilobytes, in the real format: random weights, but every file and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch

Kind = Literal["epsilon", "v_prediction", "xl"]
WIDTH = 32
"""Of a text encoder's hidden states."""
_BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}


def save_tiny_stable_diffusion(folder: Path, kind: Kind = "epsilon", seed: int = 0) -> Path:
    """Write a checkpoint of 16 px pictures and 8 px latents, like Stable Diffusion 1.x (kind "epsilon"), 2.1 or XL."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    is_xl = kind == "xl"
    extra = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": WIDTH + 6 * 8,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        UNet2DConditionModel(
            **_BLOCKS, sample_size=8, cross_attention_dim=2 * WIDTH if is_xl else WIDTH, attention_head_dim=2,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **(extra if is_xl else {}),
        ).save_pretrained(folder / "unet")  # fmt: skip
        AutoencoderKL(
            **_BLOCKS, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4, sample_size=16, scaling_factor=0.18215, force_upcast=is_xl,
        ).save_pretrained(folder / "vae")  # fmt: skip
        _save_text(folder, "", with_projection=False)
        if is_xl:
            _save_text(folder, "_2", with_projection=True)
    prediction = "v_prediction" if kind == "v_prediction" else "epsilon"
    DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction,
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    index = {"_class_name": "StableDiffusionPipeline"}
    if is_xl:
        index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def save_tiny_autoencoder(folder: Path, seed: int = 1) -> Path:
    """Write an AutoencoderTiny that makes latents of the same shape."""
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        channels = (8, 8)
        AutoencoderTiny(
            encoder_block_out_channels=channels, decoder_block_out_channels=channels, latent_channels=4,
            num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
        ).save_pretrained(folder)  # fmt: skip
    return folder


def _save_text(folder: Path, suffix: str, with_projection: bool) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vocabulary = _vocabulary()
    config = CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=WIDTH, intermediate_size=64, projection_dim=WIDTH, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=77, bos_token_id=len(vocabulary) - 2,
        eos_token_id=len(vocabulary) - 1, pad_token_id=len(vocabulary) - 1,
    )  # fmt: skip
    kind = CLIPTextModelWithProjection if with_projection else CLIPTextModel
    kind(config).save_pretrained(folder / f"text_encoder{suffix}")
    tokenizer = folder / f"tokenizer{suffix}"
    tokenizer.mkdir(parents=True)
    (tokenizer / "vocab.json").write_text(json.dumps(vocabulary))
    (tokenizer / "merges.txt").write_text("#version: 0.2\nt h\nv i\ne w</w>\nvi ew</w>\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    pad = {"pad_token": "!" if with_projection else "<|endoftext|>"}
    (tokenizer / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77} | special | pad)
    )


def _vocabulary() -> dict[str, int]:
    """Byte-level BPE: the printable characters, alone and ending a word, a few merges, and CLIP's two marks."""
    characters = [chr(code) for code in range(33, 127)]
    merged = ["th", "vi", "ew</w>", "view</w>"]
    words = [*characters, *(f"{c}</w>" for c in characters), *merged, "<|startoftext|>", "<|endoftext|>"]
    return {word: index for index, word in enumerate(words)}
