"""What the name of a model stands for: something on this machine, or a repository of the Hugging Face hub."""

import os
import re
from pathlib import Path
from typing import Any

NAMES_A_MODEL: dict[str, Any] = {"names": "model"}
"""Metadata of a setting that holds such a name, so that a relative path in it can be made absolute."""
PICKLES = {".bin", ".ckpt", ".pt", ".pth"}
"""Suffixes of pickled weights, which can run code when they are read."""
NOT_A_MODEL = 'no such folder, and not a hub id "owner/name" or an existing file either. Give one of the three.'
"""The reason for refusing a name that cannot be a model."""

_HUB_ID = re.compile(r"(?=.{1,96}$)\w[\w.-]*(/\w[\w.-]*)?")
"""The hub's own rules, so that a wrong name is refused before the hub is asked."""
_SUFFIXES = {*PICKLES, ".safetensors", ".gguf", ".onnx", ".json", ".yaml"}


def path_of(model: str) -> Path | None:
    """The existing file or folder of that name, or None. What exists here is never looked for on the hub."""
    path = os.path.expanduser(model)
    return Path(path) if os.path.exists(path) else None


def is_hub_id(model: str) -> bool:
    """Whether a name that is not on this machine can be a repository; one that ends like a file's cannot."""
    return _HUB_ID.fullmatch(model) is not None and Path(model).suffix.lower() not in _SUFFIXES
