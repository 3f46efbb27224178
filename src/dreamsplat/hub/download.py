"""Fetching files into the hub's cache: a stopped download goes on where it ended, and weights are checked.

huggingface_hub discards what it has of a file when it is stopped, which for a file of gigabytes is most of an evening.
Here a file grows under a name of its own, and becomes the cache's once it has the SHA-256 that the hub gives for it.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dreamsplat.errors import FileProblem
from dreamsplat.hub.cache import cache_folder
from dreamsplat.hub.digests import SHA256, file_sha256
from dreamsplat.hub.explain import explained
from dreamsplat.hub.optional import require


def fetch_files(model: str, revision: str | None, files: Sequence[Any]) -> Path:
    """The folder of a repository in the hub's cache, with these files (`DryRunFileInfo`s of huggingface_hub) in it.

    Raises:
        FileProblem: if one cannot be fetched, or came damaged.
    """
    with explained(model, revision):
        hub = require("huggingface_hub", "diffusion")
        for file in files:
            if not file.is_cached:
                _fetch(hub, model, file)
        patterns = [glob.escape(file.filename) for file in files]
        return Path(hub.snapshot_download(model, revision=revision, allow_patterns=patterns))


def _fetch(hub: Any, model: str, file: Any) -> None:
    """Put the content of one file where the cache looks for it."""
    url = hub.hf_hub_url(model, file.filename, revision=file.commit_hash)
    about = hub.get_hf_file_metadata(url)
    cache, repository = cache_folder(), f"models--{model.replace('/', '--')}"
    blob, lock = cache / repository / "blobs" / about.etag, cache / ".locks" / repository / f"{about.etag}.lock"
    partial = blob.with_name(f"{blob.name}.partial")
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    with hub.utils.WeakFileLock(lock):  # that of huggingface_hub for this file
        if blob.exists():
            return
        if partial.exists() and partial.stat().st_size > about.size:
            partial.unlink()
        with partial.open("ab") as content:
            hub.file_download.http_get(
                url,
                content,
                resume_size=content.tell(),
                headers=hub.utils.build_hf_headers(),
                expected_size=about.size,
                displayed_filename=file.filename,
            )
        if SHA256.fullmatch(about.etag):
            digest = file_sha256(partial)
            if digest != about.etag:
                partial.unlink()
                raise FileProblem(
                    f"{model}: {file.filename} came damaged, with the SHA-256 {digest} instead of {about.etag}. "
                    "Fetch it again."
                )
        partial.rename(blob)
