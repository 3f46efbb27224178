"""Gaussians beside a voxel field, each from a 3D prior and from a grey ball: the same loop, prompts, seeds and judge.

    python benchmarks/representations.py --out runs/representations            # all rows; stop it, start it again
    python benchmarks/representations.py --rows "field, 3D prior" --seeds 0    # some of them
    python benchmarks/representations.py --out runs/representations --report   # table and sheets of what is there

Each row is a run of benchmarks/quality.py in a folder of its own, at equal steps (400) or at equal seconds: then the
Gaussians, whose steps are faster, take as many as fit into the time of the field's 400. How many that is, and how much
memory a run takes, is measured first, in processes of their own that take turns. docs/representations.md says what
follows.
"""

import json
import multiprocessing
import resource
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import quality
import tyro
from provenance import provenance
from report import COLUMNS, RUN, Result, read_results, write_sheets

from dreamsplat.config import DreamConfig
from dreamsplat.dream import dream_steps
from dreamsplat.errors import DreamsplatError, InvalidInput
from dreamsplat.files.atomic import replacing
from dreamsplat.guidance import SJC
from dreamsplat.presets import PRESETS
from dreamsplat.priors3d import GreyBall
from dreamsplat.representations import VoxelField

GAUSSIANS = PRESETS["bundled"]
FIELD = replace(GAUSSIANS, representation=VoxelField())
COSTS = "costs.json"
MEASURED_STEPS, ROUNDS = 60, 3
SHOWN = ("R-precision", "single views", "colour error", "view agreement", "Chamfer")


@dataclass(frozen=True)
class Representations:
    """Optimise Gaussians and fields from two starts, and score them by the judge."""

    out: Path = Path("runs/representations")
    """Folder of all rows. Results that it holds already are kept."""
    rows: tuple[str, ...] = ()
    """Only these rows, by name; all of them by default."""
    limit: int | None = None
    """The first so many of twelve prompts."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of each prompt."""
    report: bool = False
    """Generate nothing; write the table and the sheets of what the folder holds."""


def rows(steps: Callable[[], int]) -> dict[str, Callable[[], DreamConfig]]:
    """What is compared; `steps()` is how many the Gaussians take in the time of the field."""

    def from_ball(config: DreamConfig) -> DreamConfig:
        return replace(config, prior3d=GreyBall())

    return {
        "Gaussians, 3D prior": lambda: GAUSSIANS,
        "field, 3D prior": lambda: FIELD,
        "Gaussians, ball": lambda: from_ball(GAUSSIANS),
        "field, ball": lambda: from_ball(FIELD),
        "field, ball, SJC": lambda: from_ball(replace(FIELD, loss=SJC(guidance_scale=2.0))),
        "Gaussians, 3D prior, equal seconds": lambda: replace(GAUSSIANS, steps=steps()),
        "Gaussians, ball, equal seconds": lambda: from_ball(replace(GAUSSIANS, steps=steps())),
    }


def main(arguments: list[str]) -> int:
    """Run the benchmark and return the exit code."""
    args = tyro.cli(Representations, args=arguments, config=(tyro.conf.FlagCreatePairsOff,), description=__doc__)
    try:
        if not args.report:
            run(args, f"python benchmarks/representations.py {shlex.join(arguments)}".strip())
        report(args.out)
    except DreamsplatError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command to continue.", file=sys.stderr)
        return 130
    return 0


def run(args: Representations, command: str) -> None:
    """Generate and score what the folder does not hold yet, row by row."""
    known = rows(lambda: steps_in_the_time_of_the_field(args.out))
    for name in args.rows or known:
        if name not in known:
            raise InvalidInput(f"{name}: no such row.", setting="rows", advice=f"Known: {'; '.join(known)}.")
        print(f"== {name}", flush=True)
        asked = quality.Quality(
            folder(args.out, name), which="few", limit=args.limit, seeds=args.seeds, config=known[name]()
        )
        quality.run(asked, command)


def folder(out: Path, name: str) -> Path:
    """Where the results of a row are."""
    return out / name.replace(",", "").replace(" ", "-")


def steps_in_the_time_of_the_field(out: Path) -> int:
    """As many steps of Gaussians as take the CPU seconds of the field's run."""
    cost = costs(out)
    return round(FIELD.steps * cost["field"]["cpu_ms_per_step"] / cost["Gaussians"]["cpu_ms_per_step"])


def costs(out: Path) -> dict[str, dict[str, float]]:
    """CPU time of a step, ms, and peak memory, MB, of both: the best of several turns, kept in a file."""
    path = out / COSTS
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        turns: dict[str, list[tuple[float, float]]] = {"Gaussians": [], "field": []}
        for _ in range(ROUNDS):
            for name, config in (("Gaussians", GAUSSIANS), ("field", FIELD)):
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    turns[name].append(process.apply(cost_of, (config,)))
        found = {
            name: {"cpu_ms_per_step": min(ms for ms, _ in turn), "peak_mb": min(mb for _, mb in turn)}
            for name, turn in turns.items()
        }
        with replacing(path) as partial:
            partial.write_text(json.dumps(provenance("cost_of") | found, indent=2) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def cost_of(config: DreamConfig) -> tuple[float, float]:
    """CPU time of a step, ms, and the peak memory of this process, MB."""
    steps = dream_steps(replace(config, prompt="a red mushroom", steps=MEASURED_STEPS))
    next(steps)
    began = time.process_time()
    for _ in steps:
        pass
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return 1000 * (time.process_time() - began) / MEASURED_STEPS, peak_mb


def report(out: Path) -> None:
    """Write and print the table, and draw the sheets."""
    found = {name: read_results(folder(out, name)) for name in rows(lambda: 0)}
    found = {name: results for name, results in found.items() if results}
    if not found:
        raise InvalidInput(f"{out}: no results.", setting="out", advice="Run it without --report first.")
    lines = [f"| {' | '.join(['', 'steps', *SHOWN, 'seconds', 'assets'])} |", "|---" * (len(SHOWN) + 4) + "|"]
    if (prior := found.get("Gaussians, 3D prior")) is not None:
        lines.append(row("3D prior alone", "-", prior, "prior"))
    for name, results in found.items():
        settings = json.loads((folder(out, name) / RUN).read_text(encoding="utf-8"))
        lines.append(row(name, settings["config"]["steps"], results))
    if (out / COSTS).exists():
        cost = costs(out)
        lines += ["", *(
            f"- A step of {name}: {cost[name]['cpu_ms_per_step']:.0f} ms of CPU time; a run takes"
            f" {cost[name]['peak_mb']:.0f} MB." for name in ("Gaussians", "field")
        )]  # fmt: skip
    text = "\n".join([*lines, ""])
    with replacing(out / "table.md") as partial:
        partial.write_text(text, encoding="utf-8")
    print(text, *(sheet for name in found for sheet in write_sheets(folder(out, name))), sep="\n")


def row(label: str, steps: int | str, results: list[Result], subject: str = "method") -> str:
    """One line of the table: means over assets."""
    cells = [label, str(steps)]
    for name in SHOWN:
        values = [COLUMNS[name](result, result[subject]) for result in results]
        cells.append(f"{fmean(value for value in values if value is not None):.3f}")
    seconds = "-" if subject == "prior" else f"{fmean(result['seconds'] for result in results):.0f}"
    return f"| {' | '.join([*cells, seconds, str(len(results))])} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
