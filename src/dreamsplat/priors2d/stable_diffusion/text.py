"""Prompts to embeddings, as the pipelines of Stable Diffusion 1.x, 2.x and XL make them.

A condition is [L, width]: one row per token. XL has two text encoders, whose rows are joined, and one more row with the
pooled embedding of the second, padded with zeros to the width, so that a condition stays a single tensor.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dreamsplat.errors import FileProblem
from dreamsplat.priors2d.stable_diffusion.checkpoint import SdModel

_log = logging.getLogger(__name__)


@torch.no_grad()
def encode_prompts(
    prompts: Sequence[str], checkpoint: SdModel, dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """Conditions [L, width] float32 of prompts. The text encoders are loaded for this call only.

    A prompt of more tokens than the model takes loses the end of its text, but not what follows the last comma: the
    view.

    Raises:
        FileProblem: if a text encoder or its tokenizer cannot be read.
    """
    texts = [_Text.load(checkpoint, index, dtype, device) for index in range(len(checkpoint.text_encoders))]
    tokens = [text.tokens(list(prompts)) for text in texts]
    if any(any(shortened) for _, shortened in tokens):
        reads = texts[0].limit - 2
        _log.warning("prompt: too long for %s, which reads %d tokens. Its end is cut off.", checkpoint.model, reads)
    if not checkpoint.is_xl:
        return list(texts[0].encoder(tokens[0][0].to(device)).last_hidden_state.float())
    return _encode_xl(prompts, texts, [ids.to(device) for ids, _ in tokens], checkpoint.zero_for_empty_prompt)


def _encode_xl(prompts: Sequence[str], texts: list[_Text], ids: list[Tensor], zero_for_empty: bool) -> list[Tensor]:
    outputs = [text.encoder(i, output_hidden_states=True) for text, i in zip(texts, ids, strict=True)]
    # The last layer but one, without the final norm (Podell et al. 2023, section 2.1).
    rows = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    pooled = outputs[-1].text_embeds
    pooled = nn.functional.pad(pooled, (0, rows.shape[-1] - pooled.shape[-1]))
    conditions = torch.cat([rows, pooled[:, None]], dim=1).float()
    # XL was trained without a prompt on zeros, not on the embedding of an empty text.
    return [c.zero_() if zero_for_empty and not p else c for p, c in zip(prompts, conditions, strict=True)]


@dataclass(frozen=True)
class _Text:
    """One text encoder with its tokenizer."""

    encoder: nn.Module
    tokenizer: Any
    limit: int

    @classmethod
    def load(cls, checkpoint: SdModel, index: int, dtype: torch.dtype, device: torch.device) -> _Text:
        suffix = "" if index == 0 else f"_{index + 1}"
        kind = "CLIPTextModel" if index == 0 else "CLIPTextModelWithProjection"
        encoder = checkpoint.network(kind, f"text_encoder{suffix}", dtype, device)
        tokenizer = checkpoint.tokenizer(f"tokenizer{suffix}")
        config = checkpoint.text_encoders[index]
        # A tokenizer without its files still loads, and knows two tokens.
        if not config["vocab_size"] // 2 < len(tokenizer) <= config["vocab_size"]:
            raise FileProblem(
                f"{checkpoint.model}: tokenizer{suffix} knows {len(tokenizer)} tokens, but text_encoder{suffix} "
                f"knows {config['vocab_size']}. Expected a tokenizer.json, or vocab.json and merges.txt, of this model."
            )
        return cls(encoder, tokenizer, config["max_position_embeddings"])

    def tokens(self, prompts: list[str]) -> tuple[Tensor, list[bool]]:
        """Padded tokens [P, L] of prompts, and whether each was shortened."""
        bos, eos, pad = (getattr(self.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad"))
        rows, shortened = [], []
        for prompt in prompts:
            ids = self._words(prompt)
            room = self.limit - 2
            shortened.append(len(ids) > room)
            if len(ids) > room:
                text, comma, view = prompt.rpartition(",")
                end = self._words(comma + view)[: room if comma else 0]
                ids = self._words(text or prompt)[: room - len(end)] + end
            rows.append([bos, *ids, eos] + [pad] * (room - len(ids)))
        return torch.tensor(rows), shortened

    def _words(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
