"""Files that are written completely or not at all, even if the program is stopped halfway."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from safetensors import SafetensorError

from dreamsplat.errors import FileProblem

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp(\.\w+)?")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; if the block succeeds, that file replaces `path`.

    The temporary name keeps the suffix, because writers such as ffmpeg choose the format by it. If the block raises,
    the temporary file is removed and `path` is left unchanged.

    Raises:
        FileProblem: if the folder does not exist or cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # Some writers create files that only their owner may read.
        os.replace(temporary, path)
    except FileProblem:
        raise
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        advice = "Choose a folder that exists and is writable."
        if any(os.strerror(code) in why for code in (errno.ENOSPC, errno.EDQUOT)):
            advice = "Free some space, or choose another disk."
        elif path.is_dir():
            advice = "A folder has that name: move it, or choose another name."
        raise FileProblem(f"{path}: cannot be written ({why}).", advice=advice) from error
    finally:
        with suppress(OSError):  # Usually it is gone, because it was renamed above.
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed writers left in a folder; nothing else may be writing there."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def read_bytes(path: Path) -> bytes:
    """The whole content of a file.

    Raises:
        FileProblem: if it does not exist, is a folder, or may not be read.
    """
    return read_start(path, -1)


def read_start(path: Path, count: int = 1 << 16) -> bytes:
    """The first `count` bytes of a file, or fewer if it is shorter; -1 for all.

    Raises:
        FileProblem: if it does not exist, is a folder, a pipe or a device, or may not be read.
    """
    try:
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # Reading a pipe or device may never end.
            raise FileProblem(
                f"{path}: is a pipe or a device, expected a file.", advice="Copy its data to a file first."
            )
        with path.open("rb") as file:
            return file.read(count)
    except FileProblem:
        raise
    except FileNotFoundError as error:
        raise FileProblem(f"{path}: no such file.", advice="Check the path.") from error
    except OSError as error:
        raise FileProblem(f"{path}: cannot be read ({error.strerror}).", advice="Check the path.") from error
    except ValueError as error:  # such as a path with a zero byte
        raise FileProblem(f"{path}: cannot be read ({error}).", advice="Check the path.") from error


def refuse(path: Path, reason: str, advice: str = "") -> NoReturn:
    """Raise the FileProblem "path: reason. advice"."""
    raise FileProblem(f"{path}: {reason}.", advice=advice)


def _umask() -> int:
    """The permissions that this process withholds from new files; reading it means setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
