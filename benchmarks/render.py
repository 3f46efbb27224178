"""How fast is the renderer? Forward, backward and memory on fixed scenes, and how time grows with Gaussians and pixels.

    python benchmarks/render.py                          # everything, with one thread and with all
    python benchmarks/render.py --only cases --threads 2
    python benchmarks/render.py --backend reference --only cases --cases a

Times are medians of calls of the public `render` and of torch's backward, so they hold everything a user waits for,
taken from the quietest of several rounds.
Beside them stands the time of a matrix product measured in the same run on the same threads: results of different days
and machines are compared by their ratio to it. What is measured is written in benchmarks/README.md.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from provenance import provenance
from torch import Tensor

from dreamsplat import Cameras, Gaussians, render
from dreamsplat.errors import DreamsplatError
from dreamsplat.maths.harmonics import rgb_to_sh
from dreamsplat.method.cameras import make_views
from dreamsplat.render.cpu import thread_count


@dataclass(frozen=True)
class Case:
    """A scene: Gaussians in a ball, seen from around it."""

    gaussians: int
    size: int
    """Image height and width, px."""
    cameras: int = 1
    sh_degree: int = 0

    def __str__(self) -> str:
        """For a table."""
        return f"{self.gaussians:,} Gaussians, {self.cameras} x {self.size} px, SH {self.sh_degree}"


CASES = {"a": Case(4_000, 64, 4), "b": Case(20_000, 128), "c": Case(50_000, 256), "d": Case(100_000, 512)}
"""A step of the bundled preset; the same with more of everything; a large scene."""
GROWTH_GAUSSIANS = (1_000, 10_000, 100_000, 1_000_000)
GROWTH_SIZES = (64, 128, 256, 512, 1024)
LARGEST = Case(1_000_000, 1024)
MATRIX = 1024
"""Edge of the matrices whose product is the yardstick."""


@dataclass(frozen=True)
class RenderBenchmark:
    """Time the renderer."""

    only: tuple[Literal["cases", "memory", "growth"], ...] = ("cases", "memory", "growth")
    """Which tables to make."""
    cases: tuple[str, ...] = tuple(CASES)
    """Which of the fixed scenes."""
    threads: tuple[int, ...] = ()
    """Numbers of threads; none: one, and all cores."""
    calls: int = 30
    """Timed calls per number; the median is shown."""
    rounds: int = 5
    """How often each fixed scene is timed, the others in between; shown is the round with the fastest matrix product,
    in which the cores were most free."""
    backend: str = "auto"
    """The renderer."""


def scene(case: Case) -> tuple[Gaussians, Cameras]:
    """N Gaussians uniform in the unit ball, of scale about 0.02, seen from distance 3 with a field of view of 60."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    n = case.gaussians
    sh = 0.1 * normal(n, (case.sh_degree + 1) ** 2, 3)
    sh[:, 0] = rgb_to_sh(uniform(n, 3))
    gaussians = Gaussians(
        means=torch.nn.functional.normalize(normal(n, 3), dim=1) * uniform(n, 1) ** (1 / 3),
        scales=0.02 * (0.3 * normal(n, 3)).exp(),
        quats=normal(n, 4),
        opacities=0.1 + 0.8 * uniform(n),
        sh=sh,
    )
    azimuth_deg = torch.arange(case.cameras) * 360 / case.cameras + 17
    same = torch.ones(case.cameras)
    return gaussians, make_views(azimuth_deg, 15 * same, 3 * same, 60 * same, case.size, case.size).cameras


class Work:
    """What is timed: a rendering with gradients to everything, and the way back from noise on every output."""

    def __init__(self, case: Case, backend: str) -> None:
        """Draw the scene and the noise."""
        gaussians, self.cameras = scene(case)
        self.gaussians = Gaussians(*(tensor.requires_grad_() for tensor in vars(gaussians).values()))
        self.offsets = torch.zeros(case.cameras, case.gaussians, 2, requires_grad=True)
        self.background = torch.full((3,), 0.5)
        self.backend = backend
        generator = torch.Generator().manual_seed(1)
        pixels = (case.cameras, case.size, case.size)
        self.noise = [torch.randn(*pixels, *channels, generator=generator) for channels in ((3,), (), ())]

    def forward(self) -> list[Tensor]:
        """Render; the outputs that `backward` takes."""
        image = render(
            self.gaussians, self.cameras, background=self.background, screen_offsets=self.offsets, backend=self.backend
        )
        return [image.rgb, image.alpha, image.depth]

    def backward(self, outputs: list[Tensor]) -> None:
        """Gradients of all inputs, in fresh memory as after `zero_grad`."""
        for tensor in (*vars(self.gaussians).values(), self.offsets):
            tensor.grad = None
        torch.autograd.backward(outputs, self.noise)


def use_threads(threads: int) -> None:
    """Let the renderer and torch use this many threads."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def median_ms(function: Callable[[], Any], calls: int) -> float:
    """Median time of a call, ms, after three that do not count."""
    times = []
    for _ in range(calls + 3):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times[3:])


def matrix_ms(calls: int) -> float:
    """The yardstick: a float32 matrix product, ms."""
    a = torch.randn(MATRIX, MATRIX, generator=torch.Generator().manual_seed(2))
    return median_ms(lambda: a @ a, calls)


def forward_backward_ms(case: Case, calls: int, backend: str) -> tuple[float, float]:
    """Median times of a rendering and of its backward pass, taken in turns, ms."""
    work = Work(case, backend)
    both = []
    for _ in range(calls + 3):
        began = time.perf_counter()
        outputs = work.forward()
        middle = time.perf_counter()
        work.backward(outputs)
        both.append((middle - began, time.perf_counter() - middle))
    forward, backward = zip(*both[3:], strict=True)
    return 1e3 * statistics.median(forward), 1e3 * statistics.median(backward)


def preview_ms(case: Case, calls: int, backend: str) -> float:
    """Median time of a rendering without gradients, ms."""
    gaussians, cameras = scene(case)
    return median_ms(lambda: render(gaussians, cameras, backend=backend), calls)


def time_cases(args: RenderBenchmark, threads: Iterable[int]) -> Iterator[str]:
    """The table of the fixed scenes."""
    columns = ("case", "threads", "SH", "forward, ms", "backward, ms", "product, ms", "forward / it", "backward / it")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    rows = [(name, count, degree) for name in args.cases for count in threads for degree in (0, 3)]
    rounds = [[time_case(args, *row) for row in rows] for _ in range(args.rounds)]
    for (name, count, degree), times in zip(rows, zip(*rounds, strict=True), strict=True):
        product, forward, backward = min(times)
        yield (
            f"| {name} | {count} | {degree} | {forward:.2f} | {backward:.2f} | {product:.2f} "
            f"| {forward / product:.2f} | {backward / product:.2f} |"
        )


def time_case(args: RenderBenchmark, name: str, threads: int, degree: int) -> tuple[float, float, float]:
    """Times of the matrix product, the rendering and its backward pass, ms."""
    use_threads(threads)
    return matrix_ms(args.calls), *forward_backward_ms(replace(CASES[name], sh_degree=degree), args.calls, args.backend)


def time_growth(args: RenderBenchmark, threads: int) -> Iterator[str]:
    """How time grows with Gaussians, then with pixels, and the largest frame."""
    use_threads(threads)
    yield "| scene | forward, ms | backward, ms |"
    yield "|---|---|---|"
    by_gaussians = [Case(n, 256) for n in GROWTH_GAUSSIANS]
    for case in (*by_gaussians, *(Case(100_000, size) for size in GROWTH_SIZES)):
        forward, backward = forward_backward_ms(case, max(3, args.calls // 4), args.backend)
        yield f"| {case} | {forward:.1f} | {backward:.1f} |"
    yield f"| {LARGEST}, no gradients | {preview_ms(LARGEST, 5, args.backend):.0f} | - |"


def memory_table(args: RenderBenchmark) -> Iterator[str]:
    """Peak memory of one step above what the parameters take, each in a process of its own."""
    yield "| case | SH | peak extra memory, MB |"
    yield "|---|---|---|"
    for name in args.cases:
        for degree in (0, 3):
            case = replace(CASES[name], sh_degree=degree)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                yield f"| {name} | {degree} | {pool.apply(peak_extra_mb, (case, args.backend)):.0f} |"


def peak_extra_mb(case: Case, backend: str) -> float:
    """Growth of this process's resident memory over three steps, gradients of the inputs included, MB. Linux."""
    small = Work(Case(100, 16), backend)
    small.backward(small.forward())
    work = Work(case, backend)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status_mb("VmRSS")
    for _ in range(3):
        work.backward(work.forward())
    return _status_mb("VmHWM") - before


def _status_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def main(arguments: list[str]) -> int:
    """Run the benchmark and return the exit code."""
    args = tyro.cli(RenderBenchmark, args=arguments, description=__doc__)
    threads = args.threads or tuple(sorted({1, thread_count()}))
    try:
        told = provenance(f"python benchmarks/render.py {shlex.join(arguments)}".strip())
        print(f"{told['machine']}, commit {told['commit']}, {told['date']}: `{told['command']}`")
        tables = {
            "cases": lambda: time_cases(args, threads),
            "memory": lambda: memory_table(args),
            "growth": lambda: time_growth(args, max(threads)),
        }
        for name in args.only:
            print()
            for line in tables[name]():
                print(line, flush=True)
    except DreamsplatError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
