"""Cap3D's fine-tuned Shap-E text model, the weights that GaussianDreamer uses (Luo et al. 2023), for diffusers.

`shapE_finetuned_with_330kdata.pth` of https://huggingface.co/datasets/tiange/Cap3D is a training checkpoint: a pickle
with the network under "model_state_dict" (and its optimiser, which is not read), in the names of openai/shap-e's
`text300M`, all of which begin with "wrapped.". Besides the names (`_NAMES`), two shapes differ from diffusers'
PriorTransformer, of width w: pos_emb [n, w] is positional_embedding [1, n, w] there, and c_qkv [3w, w], with rows in
the order (head, query or key or value, channel), is to_q, to_k and to_v [w, w] with rows in the order (head, channel).
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dreamsplat.errors import FileProblem

_NAMES = {  # diffusers' PriorTransformer -> openai/shap-e
    "time_embedding.linear_1": "time_embed.c_fc",
    "time_embedding.linear_2": "time_embed.c_proj",
    "embedding_proj": "clip_embed",
    "proj_in": "input_proj",
    "proj_to_clip_embeddings": "output_proj",
    "positional_embedding": "pos_emb",
    "norm_in": "ln_pre",
    "norm_out": "ln_post",
}
_NAMES_IN_BLOCK = {  # transformer_blocks.i there -> backbone.resblocks.i here
    "norm1": "ln_1",
    "norm3": "ln_2",
    "attn1.to_q": "attn.c_qkv",
    "attn1.to_k": "attn.c_qkv",
    "attn1.to_v": "attn.c_qkv",
    "attn1.to_out.0": "attn.c_proj",
    "ff.net.0.proj": "mlp.c_fc",
    "ff.net.2": "mlp.c_proj",
}
_UNUSED = {"clip_mean", "clip_std"}  # of PriorTransformer; Shap-E does not have them
_ADVICE = "Give Cap3D's shapE_finetuned_with_330kdata.pth, or omit the weights to use the model's own."


def read_cap3d(
    path: Path,
    prior: Mapping[str, Tensor],  # state of the PriorTransformer that the weights are for
    heads: int,
) -> dict[str, Tensor]:
    """The weights of a fine-tuned checkpoint, under the names and in the shapes of the state `prior`.

    Args:
        path: the .pth file. Only tensors and plain values are read from the pickle; code in it is refused, not run.
        prior: names and shapes to fill; all of them but `clip_mean` and `clip_std` come back.
        heads: attention heads of the network.

    Raises:
        FileProblem: if the file cannot be read, is not such a checkpoint, or is of a network of another size.
    """
    given = _read_state(path)
    wanted = {name: (_source(name), _source_shape(name, tensor)) for name, tensor in prior.items()}
    wanted = {name: source for name, source in wanted.items() if name not in _UNUSED}
    shapes = dict(wanted.values())
    faults = {
        "missing": [name for name in shapes if name not in given],
        "unknown": [name for name in given if name not in shapes],
        "of the wrong shape": [
            f"{name} {list(given[name].shape)} for {list(shape)}"
            for name, shape in shapes.items()
            if name in given and given[name].shape != shape
        ],
    }
    if any(faults.values()):
        found = "; ".join(f"{len(names)} {fault}, such as {names[0]}" for fault, names in faults.items() if names)
        raise FileProblem(f"{path}: not the weights of this Shap-E text model: {found}. {_ADVICE}")
    return {name: _convert(name, given[source], heads) for name, (source, _) in wanted.items()}


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        # Mapped, so that the optimiser's state, two thirds of the file, is never read.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise FileProblem(f"{path}: refused, it holds more than tensors and plain values. {_ADVICE}") from error
    except FileNotFoundError as error:
        raise FileProblem(f"{path}: no such file. {_ADVICE}") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        why = str(error).strip().split("\n")[0][:120] or type(error).__name__
        raise FileProblem(f"{path}: not a PyTorch checkpoint ({why}). {_ADVICE}") from error
    state = checkpoint.get("model_state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise FileProblem(f"{path}: no tensors under 'model_state_dict', where such a checkpoint has them. {_ADVICE}")
    return state


def _source(name: str) -> str:
    """The name in openai/shap-e of a tensor of PriorTransformer."""
    match = re.fullmatch(r"(?:transformer_blocks\.(\d+)\.)?(.+?)(\.weight|\.bias|)", name)
    assert match, f"{name!r} does not name a tensor"
    block, layer, kind = match.groups()
    if block is None:
        return f"wrapped.{_NAMES.get(layer, layer)}{kind}"
    return f"wrapped.backbone.resblocks.{block}.{_NAMES_IN_BLOCK.get(layer, layer)}{kind}"


def _source_shape(name: str, tensor: Tensor) -> torch.Size:
    """The shape that a tensor of PriorTransformer has in openai/shap-e."""
    if name == "positional_embedding":
        return tensor.shape[1:]
    rows, *columns = tensor.shape
    return torch.Size([3 * rows if _third(name) is not None else rows, *columns])


def _convert(name: str, source: Tensor, heads: int) -> Tensor:
    if name == "positional_embedding":
        return source[None]
    third = _third(name)
    return source if third is None else source.unflatten(0, (heads, 3, -1))[:, third].flatten(0, 1)


def _third(name: str) -> int | None:
    """Which of query, key and value a tensor is; None for others."""
    match = re.search(r"\.attn1\.to_([qkv])\.", name)
    return "qkv".index(match[1]) if match else None
