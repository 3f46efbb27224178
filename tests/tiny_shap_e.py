"""Tiny Shap-E checkpoints in the real format: a random diffusion model, and a renderer that knows a shape."""

from __future__ import annotations

from typing import Any

import torch

TOKENS, WIDTH, HEADS, CONDITION = 32, 16, 2, 24
"""Of the tiny checkpoint: tokens and width of a latent, attention heads, width of the condition."""


def tiny_prior(**changes: Any) -> Any:
    from diffusers import PriorTransformer

    sizes = dict(num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, num_layers=2, embedding_dim=WIDTH)
    sizes |= dict(num_embeddings=TOKENS, time_embed_dim=4 * WIDTH, embedding_proj_dim=CONDITION)
    kinds = dict(time_embed_act_fn="gelu", norm_in_type="layer", encoder_hid_proj_type=None, added_emb_type=None)
    prior = PriorTransformer(**sizes | kinds | dict(additional_embeddings=0, clip_embed_dim=2 * WIDTH) | changes)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return prior.eval()


@torch.no_grad()
def tiny_renderer(level: float = 2.0) -> Any:
    """Its surface is roughly |x| + |y| + |z| = 0.6, a little different for each latent; without one for level < 0."""
    from diffusers.pipelines.shap_e.renderer import ShapERenderer

    renderer = ShapERenderer(param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)), d_latent=WIDTH, d_hidden=8)
    for name, layer in renderer.params_proj.projections.items():
        layer.norm.weight.zero_()
        layer.proj.bias.zero_()
        weight = layer.proj.bias.view(8, -1)
        if name == "nerstf__mlp__0__weight":  # the first three inputs are x, y, z; the other 90 are waves
            layer.norm.weight[:3] = 0.3
            weight[:6, :3] = 4 * torch.cat([torch.eye(3), -torch.eye(3)])
        else:
            weight.copy_(torch.eye(8))
    for layer in renderer.mlp.mlp:
        layer.bias.zero_()
    for layer in renderer.mlp.mlp[4:6]:
        layer.weight.zero_()
        layer.weight[:, :8] = torch.eye(8)
    last = renderer.mlp.mlp[6]
    last.weight[0], last.bias[0] = -1.0, level
    last.weight[3:6] = torch.randn(3, 8)
    return renderer.eval()


def tiny_scheduler() -> Any:
    from diffusers import HeunDiscreteScheduler

    return HeunDiscreteScheduler(
        num_train_timesteps=1024, beta_schedule="exp", prediction_type="sample", clip_sample=True
    )


def tiny_text_pipeline(condition: int = CONDITION, **renderer: float) -> Any:
    from diffusers import ShapEPipeline
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        projection_dim=condition, bos_token_id=len(words) - 2, eos_token_id=len(words) - 1,
    )  # fmt: skip
    return ShapEPipeline(
        tiny_prior(), CLIPTextModelWithProjection(text).eval(), tokenizer, tiny_scheduler(), tiny_renderer(**renderer)
    )


def tiny_image_pipeline() -> Any:
    from diffusers import ShapEImg2ImgPipeline
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    vision = CLIPVisionConfig(
        hidden_size=CONDITION, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=8,
    )  # fmt: skip
    return ShapEImg2ImgPipeline(
        tiny_prior(embedding_proj_norm_type="layer"),
        CLIPVisionModel(vision).eval(),
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tiny_scheduler(),
        tiny_renderer(),
    )
