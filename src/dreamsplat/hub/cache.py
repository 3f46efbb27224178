"""What the Hugging Face hub's cache holds on this machine."""

from collections.abc import Sequence
from pathlib import Path

from dreamsplat.errors import MissingDependency
from dreamsplat.hub.optional import require
from dreamsplat.hub.variants import missing_shards


def cached(model: str, revision: str | None = None) -> Path | None:
    """The folder of a hub id in the hub's cache, or None; it may hold only some of the repository's files."""
    hub = require("huggingface_hub", "diffusion")
    try:
        # No pattern, so that a folder which holds only some files is found too.
        return Path(hub.snapshot_download(model, revision=revision, allow_patterns=[], local_files_only=True))
    except (hub.errors.LocalEntryNotFoundError, hub.errors.HFValidationError):
        return None


def missing_files(folder: Path, files: Sequence[str]) -> list[str]:
    """What a folder lacks of `files`: the patterns that match nothing, and shards of weights that an index lists."""
    missing = [pattern for pattern in files if not any(folder.glob(pattern))]
    for pattern in files:
        if pattern.endswith("*.safetensors"):
            part = (folder / pattern).parent
            missing += [(part / name).relative_to(folder).as_posix() for name in missing_shards(part)]
    return missing


def cache_folder() -> Path:
    """Where the cache is."""
    return Path(require("huggingface_hub.constants", "diffusion").HF_HUB_CACHE)


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE=1 forbids the network; False if the package that would use it is not installed."""
    try:
        return require("huggingface_hub.constants", "diffusion").HF_HUB_OFFLINE
    except MissingDependency:
        return False
