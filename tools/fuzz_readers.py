"""Throw damaged files at every reader: each must be read or refused in one line, quickly and in little memory.

    python tools/fuzz_readers.py --minutes 1                            # every reader, a minute each
    python tools/fuzz_readers.py --readers .ply points --inputs 100000  # up to this many inputs each, in all runs
    python tools/fuzz_readers.py --readers .ply --replay 1234           # one input again, in this process

Inputs are files of our own writers with a few changes (`fuzz_inputs.py`); input i of a reader depends on the seed and i
alone. A child process reads them under a limit of address space and an alarm; it may die, and the next one goes on
behind the input that killed it. The results grow from run to run in --out: `results-SEED.json`, `table-SEED.md`, and
one input of every kind of failure, with what happened.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from fuzz_inputs import mutated, whole_files

from dreamsplat.errors import FileProblem
from dreamsplat.formats import FORMATS
from dreamsplat.priors3d.cloud_file import read_shape
from dreamsplat.types import Gaussians

ALARM_S = 2.0
"""Time for one input."""
MEMORY = 200 << 20
"""Bytes of address space that reading one input may take, above what the process takes anyway."""


@dataclass(frozen=True)
class Fuzz:
    """Fuzz the readers."""

    readers: tuple[str, ...] = (*(end for end in FORMATS if FORMATS[end].read), "points")
    """Suffixes of formats, and `points` for the reader of clouds and meshes."""
    minutes: float = 1.0
    """Time for each reader."""
    inputs: int = 10**12
    """Stop a reader at so many inputs, those of earlier runs included."""
    seed: int = 0
    """Other seeds make other inputs. Results of different seeds are kept apart."""
    out: Path = Path("build/fuzz")
    """Folder of the results."""
    replay: int | None = None
    """Read this one input with the first reader, in this process, and show what happens."""


@dataclass
class Counts:
    """What became of the inputs of one reader."""

    inputs: int = 0
    read: int = 0
    refused: int = 0
    crashes: int = 0
    """Any other error, a wrong value let through, a message that is not one line, or the death of the child."""
    hangs: int = 0
    out_of_memory: int = 0
    seconds: float = 0.0
    peak_mb: float = 0.0
    """Growth of the child's resident memory."""

    @property
    def failures(self) -> int:
        """Inputs after which something must be mended."""
        return self.crashes + self.hangs + self.out_of_memory


class Board:
    """Numbers that a child leaves to its parent even if it is killed: the index of its input, and the counts."""

    _NAMES = ("index", "read", "refused", "crashes", "out_of_memory", "peak_bytes")

    def __init__(self) -> None:
        """Memory shared with children that are forked from now on."""
        self._memory = mmap.mmap(-1, 8 * len(self._NAMES))

    def __getitem__(self, name: str) -> int:
        """A number."""
        return struct.unpack_from("<Q", self._memory, 8 * self._NAMES.index(name))[0]

    def __setitem__(self, name: str, value: int) -> None:
        """Change a number."""
        struct.pack_into("<Q", self._memory, 8 * self._NAMES.index(name), value)


class Reader:
    """One reader and its inputs."""

    def __init__(self, name: str, args: Fuzz, folder: Path) -> None:
        """Make the whole files."""
        self.name, self.args = name, args
        suffix = ".ply" if name == "points" else name
        self.read: Callable[[Path], Any] = read_shape if name == "points" else FORMATS[name].read
        self.files = whole_files(name, folder)
        self.path = folder / f"input{suffix}"

    def input(self, index: int) -> bytes:
        """A damaged file."""
        chance = random.Random(f"{self.args.seed} {self.name} {index}")
        return mutated(chance.choice(self.files), self.files, chance)

    def try_input(self, content: bytes) -> str:
        """Read it; "read" or "refused". Any other outcome is an exception."""
        self.path.write_bytes(content)
        try:
            result = self.read(self.path)
        except FileProblem as problem:
            told = str(problem)
            assert told.startswith(f"{self.path}: ") and len(told) < 500, f"message: {told!r}"
            assert told.count("\n") == 0, f"more than one line: {told!r}"
            assert told.isprintable(), f"could reach the terminal as a command: {told!r}"
            return "refused"
        if isinstance(result, Gaussians):
            assert all(value.dtype == torch.float32 and value.isfinite().all() for value in vars(result).values())
            assert (result.scales > 0).all(), "a scale is not above 0"
            assert ((result.opacities >= 0) & (result.opacities <= 1)).all(), "an opacity is outside [0, 1]"
            assert ((result.quats.norm(dim=-1) - 1).abs() < 1e-4).all(), "a quaternion is not of length 1"
        return "read"

    def keep(self, content: bytes, sign: str, text: str) -> None:
        """Keep the input of a failure, unless one of the same kind is there."""
        name = f"{self.name.strip('.')}-{sign}"
        if not (self.args.out / f"{name}.txt").exists():
            (self.args.out / f"{name}.input").write_bytes(content)
            (self.args.out / f"{name}.txt").write_text(text)


def work(reader: Reader, board: Board, last: int, deadline: float) -> None:
    """In a child: read one input after another until the last, the deadline, or one that takes too much memory."""
    for content in reader.files:  # What is made once is no input's fault.
        reader.try_input(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while board["index"] < last and time.monotonic() < deadline:
        content = reader.input(board["index"])
        signal.setitimer(signal.ITIMER_REAL, ALARM_S)  # Kills, since nothing handles it.
        try:
            outcome = reader.try_input(content)
        except Exception as error:
            signal.setitimer(signal.ITIMER_REAL, 0)
            out_of_memory = isinstance(error, MemoryError) or "allocate memory" in str(error)
            outcome = "out_of_memory" if out_of_memory else "crashes"
            frame = traceback.extract_tb(error.__traceback__)[-1]
            sign = f"{type(error).__name__}-{Path(frame.filename).stem}-{frame.lineno}"
            reader.keep(content, sign, f"input {board['index']}, seed {reader.args.seed}\n{traceback.format_exc()}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        board[outcome] += 1
        board["index"] += 1
        board["peak_bytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if outcome == "out_of_memory":
            return


def fuzz(reader: Reader, counts: Counts) -> None:
    """Go on from `counts` for the time given, and add to them."""
    began = time.monotonic()
    deadline = began + 60 * reader.args.minutes
    while time.monotonic() < deadline and counts.inputs < reader.args.inputs:
        board = Board()
        board["index"] = counts.inputs
        child = os.fork()
        if child == 0:
            try:
                work(reader, board, reader.args.inputs, deadline)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        counts.inputs = board["index"]
        for name in ("read", "refused", "crashes", "out_of_memory"):
            setattr(counts, name, getattr(counts, name) + board[name])
        counts.peak_mb = max(counts.peak_mb, round(board["peak_bytes"] / 1e6, 1))
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            outcome = "hangs" if number == signal.SIGALRM else "crashes"
            setattr(counts, outcome, getattr(counts, outcome) + 1)
            told = f"input {counts.inputs}, seed {reader.args.seed}: {signal.Signals(number).name}\n"
            reader.keep(reader.input(counts.inputs), f"{outcome}-{counts.inputs}", told)
            counts.inputs += 1
        elif os.WEXITSTATUS(status):
            raise SystemExit(f"{reader.name}: the child failed outside of any input.")
    counts.seconds = round(counts.seconds + time.monotonic() - began, 1)


def table(results: dict[str, Counts]) -> str:
    """The results for people."""
    lines = ["| reader | inputs | read | refused | crashes | hangs | out of memory | inputs/s | memory, MB |"]
    lines.append("|---" * 9 + "|")
    for name, counts in results.items():
        numbers = (counts.inputs, counts.read, counts.refused, counts.crashes, counts.hangs, counts.out_of_memory)
        speed = counts.inputs / counts.seconds if counts.seconds else 0
        cells = " | ".join(f"{number:,}" for number in numbers)
        lines.append(f"| {name} | {cells} | {speed:,.0f} | {counts.peak_mb:.0f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Fuzz, and return the exit code: 1 if something must be mended."""
    args = tyro.cli(Fuzz, args=arguments, description=__doc__)
    torch.set_num_threads(1)  # A forked child has no other threads.
    warnings.simplefilter("error")
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"results-{args.seed}.json"
    results = {name: Counts(**c) for name, c in json.loads(file.read_text()).items()} if file.exists() else {}
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        for name in args.readers:
            reader = Reader(name, args, Path(folder))
            if args.replay is not None:
                print(reader.try_input(reader.input(args.replay)))
                return 0
            fuzz(reader, results.setdefault(name, Counts()))
            file.write_text(json.dumps({name: asdict(counts) for name, counts in results.items()}, indent=2) + "\n")
            file.with_name(f"table-{args.seed}.md").write_text(table(results))
    print(table(results), end="")
    failed = sum(results[name].failures for name in args.readers)
    print(f"{failed} failures; see {args.out}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
