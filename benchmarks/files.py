"""How fast are files of Gaussians written and read, and how large are they?

    python benchmarks/files.py                                    # every format, a million Gaussians
    python benchmarks/files.py --suffixes .ply .spz --count 100000
    python benchmarks/files.py --folder /dev/shm                  # without the disk
    python benchmarks/files.py --assets a.ply b.ply               # size and quality of these instead of times

Times are those of the public `save` and `load`, so they hold everything a user waits for; shown is the fastest of
several rounds. Beside them stands how long the bytes of the file take by themselves, written and read as they are:
what no format can beat on this disk.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from provenance import provenance
from render import Case, scene

from dreamsplat.assets.pruning import picture_psnr
from dreamsplat.errors import DreamsplatError, FileProblem
from dreamsplat.formats import FORMATS, load, save


@dataclass(frozen=True)
class FilesBenchmark:
    """Time the file formats."""

    suffixes: tuple[str, ...] = tuple(suffix for suffix in FORMATS if FORMATS[suffix].read)
    """Which formats."""
    count: int = 1_000_000
    """Gaussians in the file."""
    sh_degrees: tuple[int, ...] = (0, 3)
    """Degrees of the harmonics. Formats without harmonics leave higher ones away."""
    rounds: int = 5
    """How often each is timed."""
    assets: tuple[Path, ...] = ()
    """Files to write in each format, and to compare with what is read back, instead of the random scene."""
    folder: Path | None = None
    """Where the files are made and removed again; the system's folder for temporary files by default."""


def seconds(function: Callable[[], object], rounds: int) -> float:
    """Time of the fastest of several calls."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def time_formats(args: FilesBenchmark, folder: Path) -> Iterator[str]:
    """The table: a row per format and degree."""
    columns = ("file", "SH", "MB", "bytes per Gaussian", "save, s", "load, s", "plain write, s", "plain read, s")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for degree in args.sh_degrees:
        gaussians = scene(Case(args.count, 64, sh_degree=degree))[0]
        for suffix in args.suffixes:
            path, plain = folder / f"asset{suffix}", folder / "plain"
            writing = seconds(lambda g=gaussians, p=path: save(g, p), args.rounds)
            reading = seconds(lambda p=path: load(p), args.rounds)
            content = path.read_bytes()
            least = [seconds(lambda p=plain, c=content: p.write_bytes(c), args.rounds)]
            least += [seconds(plain.read_bytes, args.rounds)]
            numbers = " | ".join(f"{value:.2f}" for value in (writing, reading, *least))
            size = f"{len(content) / 1e6:.1f} | {len(content) / args.count:.1f}"
            yield f"| {suffix} | {degree} | {size} | {numbers} |"
            path.unlink()


def measure_assets(args: FilesBenchmark, folder: Path) -> Iterator[str]:
    """The table: a row per asset and format."""
    columns = ("asset", "Gaussians", "SH", "file", "bytes per Gaussian", "of the .ply", "PSNR of the pictures, dB")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for asset in args.assets:
        gaussians = load(asset)
        save(gaussians, folder / "whole.ply")
        for suffix in args.suffixes:
            path = folder / f"asset{suffix}"
            save(gaussians, path)
            size, whole = path.stat().st_size, (folder / "whole.ply").stat().st_size
            name, count, psnr_db = asset.parent.name or asset.stem, len(gaussians), picture_psnr(gaussians, load(path))
            share = f"{size / count:.1f} | 1/{whole / size:.1f} | {psnr_db:.1f}"
            yield f"| {name} | {count:,} | {gaussians.sh_degree} | {suffix} | {share} |"


def main(arguments: list[str]) -> int:
    """Run the benchmark and return the exit code."""
    args = tyro.cli(FilesBenchmark, args=arguments, description=__doc__)
    try:
        if unknown := set(args.suffixes) - set(FORMATS):
            raise FileProblem(f"suffixes: {', '.join(sorted(unknown))}; known are {', '.join(FORMATS)}.")
        told = provenance(f"python benchmarks/files.py {shlex.join(arguments)}".strip())
        print(f"{told['machine']}, commit {told['commit']}, {told['date']}: `{told['command']}`")
        scene_told = "given assets" if args.assets else f"{args.count:,} Gaussians"
        print(f"{scene_told}, {torch.get_num_threads()} threads\n")
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            lines = measure_assets if args.assets else time_formats
            for line in lines(args, Path(folder)):
                print(line, flush=True)
    except DreamsplatError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
