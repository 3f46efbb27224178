"""One writer per run folder: a lock that the operating system lets go of when its process ends, however it ends."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dreamsplat.errors import FileProblem

NAME = "checkpoints/lock"
"""The file, inside the folder, which says who writes; it is empty when nobody does."""

_log = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises:
        FileProblem: naming the process, if another one holds it.
    """
    path = folder / NAME
    try:
        path.parent.mkdir(exist_ok=True)
        file = path.open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise FileProblem(f"{path}: cannot be written ({error.strerror}). Choose another folder.") from error
    with file:
        file.seek(0)
        before = file.read(1000).strip()
        if not _take(file):
            raise FileProblem(f"{folder}: another run writes there ({_who(before)}). Wait for it, or stop it first.")
        if before:
            _log.warning("%s: taking over from a run that ended without a word (%s).", folder, _who(before))
        _write(file, {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")})
        try:
            yield
        finally:
            _write(file, None)


def holder(folder: Path) -> str | None:
    """Who holds the lock of a folder, in words, or None; asked without disturbing the holder."""
    path = folder / NAME
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", errors="replace") as file:  # Also of a folder that may only be read.
        text = file.read(1000).strip()
        return None if _take(file) else _who(text)


def _take(file: IO[str]) -> bool:
    """Whether the lock was free; it is ours until the file is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            # A byte far behind the text, which must stay readable for the message.
            file.seek(1 << 20)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _write(file: IO[str], owner: dict[str, object] | None) -> None:
    file.seek(0)
    file.truncate()
    file.write("" if owner is None else json.dumps(owner) + "\n")
    file.flush()


def _who(text: str) -> str:
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "it left no name"
