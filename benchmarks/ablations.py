"""What is each choice of the method worth? Change one at a time, and have the judge of quality.py score the assets.

    python benchmarks/ablations.py --out runs/ablations                     # every row; stop it, start it again at will
    python benchmarks/ablations.py --rows baseline "guidance 20" --limit 2  # some of them, on fewer prompts
    python benchmarks/ablations.py --out runs/ablations --report            # only table and sheet, of what is done
    python benchmarks/ablations.py --out runs/ablations --times             # measure what a step of each row costs

Each row is a run of benchmarks/quality.py with the same prompts and seeds, in a folder of its own. table.md has the
means, their spread over the seeds, and in bold what differs from the baseline by more than the baseline's own seeds do;
sheet.png shows every row's assets from the front and from behind. docs/findings.md says what follows.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any

import quality
import torch
import tyro
from report import COLUMNS, RUN, Result, read_results

from dreamsplat.assets.draw import draw
from dreamsplat.assets.sheet import contact_sheet
from dreamsplat.config import DreamConfig
from dreamsplat.dream import dream_steps
from dreamsplat.errors import DreamsplatError, InvalidInput
from dreamsplat.files.atomic import replacing
from dreamsplat.formats import load
from dreamsplat.formats.png import write_png
from dreamsplat.guidance import CSD, ISM, SDS, SJC
from dreamsplat.method.cameras import orbit
from dreamsplat.method.schedule import AnnealedTimes, Times
from dreamsplat.presets import PRESETS
from dreamsplat.priors2d import BundledImagePrior
from dreamsplat.priors3d import GreyBall
from dreamsplat.representations import QUICK_SPLATS

BASE = PRESETS["bundled"]
BASELINE, OTHER_SEEDS = "baseline", "baseline, other seeds"
TIMES = "times.json"
GUIDANCE = 2.0
"""The guidance scale of the preset, which other losses get too."""


def splats(part: str, **changes: Any) -> DreamConfig:
    """The preset with changes in one part of the settings of its Gaussians."""
    changed = replace(getattr(QUICK_SPLATS, part), **changes)
    return replace(BASE, representation=replace(QUICK_SPLATS, **{part: changed}))


FULL, LATE = (0.02, 0.98), (0.02, 0.4)
WORDS = BundledImagePrior(view="words")
BALL = replace(BASE, prior3d=GreyBall(radius=0.6))

ROWS: dict[str, DreamConfig] = {
    BASELINE: BASE,
    OTHER_SEEDS: BASE,
    "from a grey ball": BALL,
    "from a ball, view: word only": replace(BALL, prior2d=WORDS),
    "no 2D prior: the first Gaussians": replace(BASE, steps=0),
    "100 steps": replace(BASE, steps=100),
    "no points grown": splats("lift", candidates=0),
    "no colour perturbation": splats("lift", colour_jitter=0.0),
    "nothing added or removed": splats("densify", stop=0),
    "1 view a step": replace(BASE, views=1),
    "guidance 1": replace(BASE, loss=SDS(1.0)),
    "guidance 20": replace(BASE, loss=SDS(20.0)),
    "SJC": replace(BASE, loss=SJC(GUIDANCE)),
    "CSD": replace(BASE, loss=CSD(GUIDANCE)),
    "view: word only": replace(BASE, prior2d=WORDS),
    "view: not at all": replace(BASE, prior2d=BundledImagePrior(view="neither")),
    "positions frozen": splats("rates", means=0.0, means_final=0.0),
    "covariances frozen": splats("rates", scales=0.0, quats=0.0),
    "opacities frozen": splats("rates", opacities=0.0),
    "colours frozen": splats("rates", sh_dc=0.0),
    "SH degree 3": splats("lift", sh_degree=3),
    "times: low ones only": replace(BASE, times=Times(early=LATE, late=LATE)),
    "2 views a step": replace(BASE, views=2),
    "times: all, to the end": replace(BASE, times=Times(early=FULL, late=FULL)),
    "times: annealed": replace(BASE, times=AnnealedTimes()),
    "guidance 5": replace(BASE, loss=SDS(5.0)),
    "view: camera only": replace(BASE, prior2d=BundledImagePrior(view="camera")),
    "SH degree 1": splats("lift", sh_degree=1),
    "SH degree 2": splats("lift", sh_degree=2),
    "guidance 100": replace(BASE, loss=SDS(100.0)),
    "8 views a step": replace(BASE, views=8),
    "ISM": replace(BASE, loss=ISM(GUIDANCE)),
}
"""What is compared, the most telling rows first."""


@dataclass(frozen=True)
class Ablations:
    """Change one choice of the method at a time and score what it makes."""

    out: Path = Path("runs/ablations")
    """Folder of all rows. Results that it holds already are kept."""
    rows: tuple[str, ...] = ()
    """Only these rows, by name; all of them by default."""
    limit: int = 4
    """The first so many prompts of the benchmark's mixed order."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of each prompt; the second baseline takes the next as many."""
    report: bool = False
    """Generate nothing; write the table and the sheet of the rows that are done."""
    times: bool = False
    """Measure the processor time of a step of each row, for the table, instead of generating assets."""


def main(arguments: list[str]) -> int:
    """Run the benchmark and return the exit code."""
    args = tyro.cli(Ablations, args=arguments, config=(tyro.conf.FlagCreatePairsOff,), description=__doc__)
    try:
        if args.times:
            measure(args.out)
        elif not args.report:
            run(args, f"python benchmarks/ablations.py {shlex.join(arguments)}".strip())
        report(args.out)
    except DreamsplatError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command to continue.", file=sys.stderr)
        return 130
    return 0


def run(args: Ablations, command: str) -> None:
    """Generate and score what the folder does not hold yet, row by row."""
    for name in args.rows or ROWS:
        if name not in ROWS:
            raise InvalidInput(f"{name}: no such row.", setting="rows", advice=f"Known: {', '.join(ROWS)}.")
        print(f"== {name}", flush=True)
        shift = max(args.seeds) + 1 if name == OTHER_SEEDS else 0
        seeds = tuple(seed + shift for seed in args.seeds)
        asked = quality.Quality(folder(args.out, name), limit=args.limit, seeds=seeds, config=ROWS[name])
        quality.run(asked, command)


def measure(out: Path) -> None:
    """Write the processor time of a step of each row, over that of the baseline's just before it, to times.json."""
    shares = {}
    for name, config in ROWS.items():
        base, changed = step_seconds(BASE), step_seconds(config)
        shares[name] = round(changed / base, 2)
        print(f"{name}: {changed:.3f} s, {shares[name]:.2f} of the baseline", flush=True)
    with replacing(out / TIMES) as partial:
        partial.write_text(json.dumps(shares, indent=2) + "\n", encoding="utf-8")


def step_seconds(config: DreamConfig) -> float:
    """The processor time of a step: the median of ten, after two that are not counted."""
    steps = dream_steps(replace(config, prompt="a red mushroom", steps=400))
    seconds = []
    for _ in range(13):
        began = time.process_time()
        next(steps)
        seconds.append(time.process_time() - began)
    return median(seconds[3:])


def folder(out: Path, name: str) -> Path:
    """Where the results of a row are."""
    return out / name.replace(":", "").replace(",", "").replace(" ", "-")


def report(out: Path) -> None:
    """Write and print the table, and draw the sheet."""
    found = {name: read_results(folder(out, name)) for name in ROWS}
    whole = len(found[BASELINE])
    if whole == 0:
        raise InvalidInput(f"{out}: no baseline.", setting="rows", advice="Run the row `baseline` first.")
    found = {name: results for name, results in found.items() if len(results) == whole}
    times = json.loads((out / TIMES).read_text(encoding="utf-8")) if (out / TIMES).exists() else {}
    origins = {tuple(origin(folder(out, name)).items()) for name in found}
    text = "\n".join([*table(found, times), "", *(f"- {', '.join(dict(o).values())}" for o in sorted(origins)), ""])
    with replacing(out / "table.md") as partial:
        partial.write_text(text, encoding="utf-8")
    write_sheet(out, found)
    print(text, out / "sheet.png", sep="\n")


def origin(row: Path) -> dict[str, str]:
    """Machine, commit, date and command of a row."""
    told = json.loads((row / RUN).read_text(encoding="utf-8"))
    return {key: told[key] for key in ("machine", "date", "commit", "command")}


QUALITIES = {
    name: COLUMNS[name] for name in ("R-precision", "single views", "colour error", "view agreement", "Chamfer")
}


@dataclass(frozen=True)
class Cell:
    """One number of a row."""

    mean: float
    """Over prompts and seeds."""
    by_seed: tuple[float, ...]
    """The mean over prompts, for each seed."""


def cells(results: list[Result], subject: str = "method") -> dict[str, Cell]:
    """The numbers of a row, by column."""
    found = {}
    for name, number in QUALITIES.items():
        values: dict[int, list[float]] = {}
        for result in results:
            value = number(result, result[subject])
            if value is not None:
                values.setdefault(result["seed"], []).append(value)
        by_seed = tuple(fmean(values[seed]) for seed in sorted(values))
        found[name] = Cell(fmean(by_seed), by_seed)
    return found


def table(found: dict[str, list[Result]], times: dict[str, float]) -> list[str]:
    """The lines of the table: mean, +- standard deviation over seeds; bold beyond the baseline's noise; relative times.

    The noise of a column is the distance between the best and the worst seed of the baseline, of both its rows.
    """
    base = cells(found[BASELINE])
    both = [cells(found[name]) for name in (BASELINE, OTHER_SEEDS) if name in found]
    noise = {column: _range([v for row in both for v in row[column].by_seed]) for column in QUALITIES}

    def row(name: str, numbers: dict[str, Cell], time: str) -> str:
        shown = [_show(cell, c, abs(cell.mean - base[c].mean) > noise[c] + 1e-9) for c, cell in numbers.items()]
        return f"| {' | '.join([name, *shown, time])} |"

    lines = [f"| {' | '.join(['', *QUALITIES, 'time of a step'])} |", "|---" * (len(QUALITIES) + 2) + "|"]
    lines.append(row("3D prior alone", cells(found[BASELINE], "prior"), "-"))
    lines += [
        row(name, cells(results), f"{times[name]:.2f}" if name in times else "-") for name, results in found.items()
    ]
    floor = [f"{value:.3f}" for value in noise.values()]
    return [*lines, f"| {' | '.join(['*noise: range over the seeds of both baselines*', *floor, ''])} |"]


def _range(values: list[float]) -> float:
    return max(values) - min(values)


def _show(cell: Cell, column: str, bold: bool) -> str:
    digits = 3 if column == "colour error" else 2
    spread = f"{pstdev(cell.by_seed):.{digits}f}"
    text = f"{cell.mean:.{digits}f}" + (f" ± {spread}" if float(spread) else "")
    return f"**{text}**" if bold else text


def write_sheet(out: Path, found: dict[str, list[Result]]) -> None:
    """One sheet of all rows: the first seed's assets, from the front and from behind."""
    first = min(result["seed"] for result in found[BASELINE])
    prompts = [result["prompt"] for result in found[BASELINE] if result["seed"] == first]
    views = orbit(8, size=96).cameras.rows(torch.tensor([1, 5]))
    drawn = []
    for name, results in found.items():
        seed = min(result["seed"] for result in results)
        assets = {result["prompt"]: result["asset"] for result in results if result["seed"] == seed}
        pictures = [draw(load(folder(out, name) / assets[prompt]), views) for prompt in prompts]
        drawn.append((name, torch.cat(pictures)))
    columns = [label for prompt in prompts for label in (prompt, "from behind")]
    write_png(contact_sheet(drawn, columns), out / "sheet.png")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
