"""What a model is really made of: the commit of its repository, and the SHA-256 of the files that were read."""

import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from dreamsplat.hub.names import path_of
from dreamsplat.hub.variants import weights_files

SHA256 = re.compile("[0-9a-f]{64}")
"""One in hexadecimal."""


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal; computed again only if its size or time of change is another."""
    file = path.resolve()
    # A large file in the hub's cache is a link to its content, which is named for its SHA-256.
    if SHA256.fullmatch(file.name):
        return file.name
    status = file.stat()
    return _sha256(file, status.st_size, status.st_mtime_ns)


@functools.cache
def _sha256(file: Path, size: int, mtime_ns: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def file_sources(*paths: Path) -> dict[str, str]:
    """Sources of files that settings name, for `AbstractImagePriorSpec.sources`; missing ones are omitted."""
    return {path.name: file_sha256(path) for path in paths if path.is_file()}


def model_sources(model: str, folder: Path, files: Sequence[str]) -> dict[str, str]:
    """Sources of a checkpoint whose `files` were read from `folder`, for `AbstractImagePriorSpec.sources`.

    Of a hub id, the commit says which small files were read.
    """
    found = {path for pattern in files for path in folder.glob(pattern)}
    read = {path for parent in {path.parent for path in found} for path in weights_files(parent)}
    sources = {model: folder.name}  # The hub's cache names the folder of a revision for its commit.
    if path_of(model):
        sources = {}
        read |= {path for path in found if path.suffix != ".safetensors"}
    return sources | {f"{model}/{path.relative_to(folder).as_posix()}": file_sha256(path) for path in sorted(read)}
