"""One writer per run folder: a lock that the system releases when its process ends, and a file that names the holder.

To ask who writes is to read that file. Taking the lock to see whether it is free would make a run that starts in that
moment fail.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dreamsplat.errors import FileProblem
from dreamsplat.files.atomic import replacing

LOCK = "checkpoints/lock"
"""What is locked, inside the run's folder."""
OWNER = "checkpoints/owner.json"
"""Who holds the lock; removed when a run ends, left behind by one that is killed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """The process that writes, or wrote, to a folder."""

    pid: int
    """Its number, which later processes may be given again."""
    started: str
    """When it started, in its system's own unit: together with the number it identifies one process."""
    host: str
    """The machine it runs on."""
    since: str
    """Local time at which it took the lock."""

    @classmethod
    def this_process(cls) -> Owner:
        """The one that asks."""
        pid = os.getpid()
        return cls(pid, _start_of(pid) or "", socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"))

    def is_alive(self) -> bool:
        """Whether the process still runs; on another machine nobody can tell, so it counts as running."""
        return self.host != socket.gethostname() or _start_of(self.pid) == self.started

    def __str__(self) -> str:
        """In words."""
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder.

    Raises:
        FileProblem: naming the process, if another one, or another thread, holds it.
    """
    from filelock import FileLock, Timeout  # Here and not above: to ask who writes does not need it.

    # Not bound to a thread: a generator that holds the lock may be closed by another one.
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        (folder / LOCK).parent.mkdir(exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise FileProblem(
            f"{folder}: another run writes there ({_read_owner(folder) or 'it left no name'}).",
            advice="Wait for it, or stop it first.",
        ) from None
    except OSError as error:
        raise FileProblem(
            f"{folder / LOCK}: cannot be written ({error.strerror}).", advice="Choose another folder."
        ) from error
    try:
        if (folder / OWNER).exists():
            _log.warning("%s: the last run there was killed (%s).", folder, _read_owner(folder) or "it left no name")
        with replacing(folder / OWNER) as temporary:
            temporary.write_text(json.dumps(asdict(Owner.this_process())) + "\n", encoding="utf-8")
        yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def holder(folder: Path) -> Owner | None:
    """Who writes to a folder, or None; asked by reading alone, so that no run notices."""
    owner = _read_owner(folder)
    return owner if owner is not None and owner.is_alive() else None


def _read_owner(folder: Path) -> Owner | None:
    """Who last said that it holds the lock; None if nobody did, or the file is damaged."""
    try:
        owner = Owner(**json.loads((folder / OWNER).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return owner if type(owner.pid) is int else None


def _start_of(pid: int) -> str | None:
    """When a process started, as text that tells it from any other of that number; None if it does not run."""
    if not Path("/proc/self/stat").exists():  # as on macOS
        return _start_told_by_ps(pid)
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else others[18]  # A zombie has ended, though its parent has not noticed yet.


def _start_told_by_ps(pid: int) -> str | None:
    done = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
