"""Other people's checkpoints: where they are, and fetching them from the Hugging Face hub.

A model is named by a folder or by a hub id, "owner/name". `local_folder` turns either into a folder that holds every
file asked for; from there on nothing touches the network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dreamsplat.errors import FileProblem
from dreamsplat.hub.cache import as_folder, cached, is_offline, missing_files
from dreamsplat.hub.explain import NOT_A_MODEL, explained, is_unreachable, why_missing
from dreamsplat.hub.optional import require

OTHER_COPIES = ("*.fp16.*", "*.non_ema.*")
"""Further copies of the weights, which repositories often hold beside the ones that are read."""

_HUB_ID = re.compile(r"(?=.{1,96}$)\w[\w.-]*(/\w[\w.-]*)?")
"""The hub's own rules, so that a wrong name is refused before the hub is asked."""


def local_folder(
    model: str, revision: str | None, files: Sequence[str], not_fetched: Sequence[str] = OTHER_COPIES
) -> Path:
    """The folder of a model: itself, or its place in the hub's cache, where what is missing is fetched.

    Args:
        model: A folder, or a hub id "owner/name".
        revision: Branch, tag or commit of the hub id; None takes "main".
        files: Glob patterns, such as "unet/*.safetensors", each of which must match a file.
        not_fetched: Glob patterns of files that stay on the hub although they match `files`.

    Raises:
        FileProblem: if files are missing and cannot be fetched.
    """
    folder = as_folder(model)
    if folder is None:
        found = found_here([model], revision, files)
        if found is not None:
            return found[1]
        with explained(model, revision, files):
            patterns = {"allow_patterns": list(files), "ignore_patterns": list(not_fetched)}
            hub = require("huggingface_hub", "diffusion")
            folder = Path(hub.snapshot_download(model, revision=revision, **patterns))
    missing = missing_files(folder, files)
    if missing:
        raise FileProblem(why_missing(model, revision, folder, missing))
    return folder


def found_here(models: Sequence[str], revision: str | None, files: Sequence[str]) -> tuple[str, Path] | None:
    """The first of several equal models that is on this machine, and its folder; nothing is fetched."""
    for model in models:
        folder = as_folder(model) or cached(model, revision)
        if folder is not None and not missing_files(folder, files):
            return model, folder
    return None


def check_available(model: str, revision: str | None, files: Sequence[str]) -> None:
    """Refuse a model that is certainly not available; nothing is fetched.

    Raises:
        FileProblem: for a folder that lacks files, for what is neither a folder nor a hub id, and, while the network is
            forbidden, for what is not in the cache.
    """
    if as_folder(model) or is_offline():
        local_folder(model, revision, files)
    elif not _HUB_ID.fullmatch(model):
        raise FileProblem(f"{model}: {NOT_A_MODEL}")


def first_available(models: Sequence[str], revision: str | None, files: Sequence[str]) -> tuple[str, Path]:
    """The first available of several equal models, and its folder; cached ones before any is fetched.

    Raises:
        FileProblem: with the reason of each, if none is available.
    """
    found = found_here(models, revision, files)
    if found is not None:
        return found
    problems: list[str] = []
    for model in models:
        try:
            return model, local_folder(model, revision, files)
        except FileProblem as problem:
            problems.append(str(problem))
            if is_unreachable(problem):
                break  # and so would be the others
    raise FileProblem(f"None of {', '.join(models)} is available: {' | '.join(problems)}")
