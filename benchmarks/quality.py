"""How good is what the method makes? Generate assets for prompts x seeds, and have an independent judge score them.

    python benchmarks/quality.py --set few --out runs/quality          # twelve prompts, one per category
    python benchmarks/quality.py --set all --seeds 0 1                  # everything; can be stopped and continued
    python benchmarks/quality.py --guidance-scale 5 --out runs/scale-5  # one point of a sweep; any --config... flag too
    python benchmarks/quality.py --table runs/quality runs/scale-5      # compare runs
    python benchmarks/quality.py --rescore --out runs/quality           # score the kept assets again
    python benchmarks/quality.py --train-judge                         # train the judge again: minutes

A run's folder holds results.jsonl (one line per asset), the assets, run.json (settings, machine, commit), table.md and
contact sheets. What is measured is written in benchmarks/README.md.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
import time
from collections import deque
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from metrics import is_held_out, prompts_of, score
from provenance import provenance
from report import RESULTS, RUN, Result, read_results, table, write_sheets

from dreamsplat.commands.choices import CHOICES
from dreamsplat.config import DreamConfig
from dreamsplat.dream import dream_steps
from dreamsplat.errors import DreamsplatError, InvalidInput
from dreamsplat.evaluate.judge import (
    TEST_SEED,
    Judge,
    JudgeTraining,
    measure_judge,
    read_judge,
    train_judge,
    write_judge,
)
from dreamsplat.files.atomic import replacing
from dreamsplat.formats import read_asset, save
from dreamsplat.method.lift import to_gaussians
from dreamsplat.presets import PRESETS
from dreamsplat.priors2d import BundledImagePrior, PerfectTeacher
from dreamsplat.priors2d.bundled import ViewConditioning
from dreamsplat.types import AbstractAsset, Gaussians
from dreamsplat.world.language.captions import parse_caption
from dreamsplat.world.objects.draw_object import draw_object

JUDGE = Path(__file__).parent / "judge.safetensors"


@dataclass(frozen=True)
class Quality:
    """Generate assets for prompts x seeds and score them by the judge."""

    out: Path = Path("runs/quality")
    """Folder of the run. Results that it holds already are kept, so a run can be stopped and continued."""
    which: Annotated[Literal["trained", "held-out", "all", "few"], tyro.conf.arg(name="set")] = "all"
    """Which (colour, category) pairs; few is the first twelve of all, one per category."""
    limit: int | None = None
    """At most this many prompts, in a fixed mixed order that covers all categories and colours early."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of each prompt."""
    subject: Literal["method", "real"] = "method"
    """What is scored; real: procedural objects in place of generated ones, an upper bound for any method."""
    teacher: Literal["bundled", "perfect"] = "bundled"
    """The 2D prior: the trained network, or the perfect teacher of the same world."""
    steps: int | None = None
    """Short for --config.steps."""
    guidance_scale: float | None = None
    """Short for --config.loss.guidance-scale."""
    view: ViewConditioning | None = None
    """How the view reaches the bundled 2D model; short for --config.prior2d.view."""
    config: DreamConfig = PRESETS["bundled"]
    """Every setting of the method; prompt and seed are those of the benchmark."""
    rescore: bool = False
    """Score the assets in the folder again; generate nothing."""
    table: tuple[Path, ...] = ()
    """Only print the table of these runs."""
    train_judge: bool = False
    """Only train the judge, measure it and write benchmarks/judge.safetensors."""

    def method(self) -> DreamConfig:
        """The configuration that all assets share."""
        config = self.config
        if self.steps is not None:
            config = dataclasses.replace(config, steps=self.steps)
        if self.guidance_scale is not None:
            loss = dataclasses.replace(config.loss, guidance_scale=self.guidance_scale)
            config = dataclasses.replace(config, loss=loss)
        if self.teacher == "perfect":
            config = dataclasses.replace(config, prior2d=PerfectTeacher())
        if self.view is not None:
            if not isinstance(config.prior2d, BundledImagePrior):
                raise InvalidInput(
                    "only the bundled 2D model takes the view in several ways.", setting="view", advice="Omit it."
                )
            config = dataclasses.replace(config, prior2d=dataclasses.replace(config.prior2d, view=self.view))
        return config


def main(arguments: list[str]) -> int:
    """Run the benchmark and return the exit code."""
    flags = (tyro.conf.CascadeSubcommandArgs, tyro.conf.FlagCreatePairsOff)
    args = tyro.cli(Quality, args=arguments, config=flags, registry=CHOICES, description=__doc__)
    try:
        if args.train_judge:
            make_judge(JUDGE)
        elif args.table:
            print(table(args.table))
        else:
            if args.rescore:
                rescore(args.out)
            else:
                run(args, f"python benchmarks/quality.py {shlex.join(arguments)}".strip())
            report(args.out)
    except DreamsplatError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command to continue.", file=sys.stderr)
        return 130
    return 0


def run(args: Quality, command: str) -> None:
    """Generate and score what the folder does not hold yet."""
    judge, config = read_judge(JUDGE), args.method()
    prompts = prompts_of("all", 12) if args.which == "few" else prompts_of(args.which)
    if args.subject == "method":
        dataclasses.replace(config, prompt=prompts[0]).check()
    open_folder(args.out, args.subject, config, command)
    wanted = [(prompt, seed) for prompt in prompts[: args.limit] for seed in args.seeds]
    done = {(result["prompt"], result["seed"]) for result in read_results(args.out)}
    for number, (prompt, seed) in enumerate(wanted, start=1):
        if (prompt, seed) in done:
            continue
        began = time.monotonic()
        asset, prior = draw_real(prompt, seed) if args.subject == "real" else generate(config, prompt, seed)
        seconds = round(time.monotonic() - began, 1)
        result = keep(args.out, prompt, seed, asset, prior) | {"seconds": seconds}
        result |= scores(args.out, result, judge)
        with (args.out / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        tell(number, len(wanted), result)


def generate(config: DreamConfig, prompt: str, seed: int) -> tuple[AbstractAsset, Gaussians]:
    """The method's asset, and the 3D prior's cloud alone as opaque Gaussians; on the CPU."""
    steps = dream_steps(dataclasses.replace(config, prompt=prompt, seed=seed))
    first = next(steps)
    last = deque(chain([first], steps), maxlen=1).pop()
    assert first.cloud is not None, "the first step holds the 3D prior's cloud"
    return last.asset.to("cpu"), to_gaussians(first.cloud, opacity=0.95).to("cpu")


def draw_real(prompt: str, seed: int) -> tuple[Gaussians, None]:
    """A procedural object that nothing was trained on and nothing is compared with."""
    return draw_object(parse_caption(prompt), torch.Generator().manual_seed(TEST_SEED + 1000 + seed)), None


def keep(folder: Path, prompt: str, seed: int, asset: AbstractAsset, prior: Gaussians | None) -> Result:
    """Write an asset's files and return what a result says besides its scores."""
    stem = f"{prompt.replace(' ', '-')}-{seed}"
    name = f"{stem}{asset.own_ending or '.ply'}"
    files: dict[str, str | None] = {"asset": name, "prior_asset": f"{stem}-prior.ply" if prior else None}
    save(asset, folder / name)
    if prior is not None:
        save(prior, folder / f"{stem}-prior.ply")
    facts = {"prompt": prompt, "seed": seed, "held_out": is_held_out(prompt), "size": asset.size}
    return facts | files


def scores(folder: Path, result: Result, judge: Judge) -> dict[str, Any]:
    """The scores of a result's files: "method", and "prior" where it was kept."""

    def of(name: str | None) -> dict[str, Any] | None:
        return dataclasses.asdict(score(read_asset(folder / name), result["prompt"], judge)) if name else None

    return {"method": of(result["asset"]), "prior": of(result["prior_asset"])}


def rescore(folder: Path) -> None:
    """Score every kept asset again and replace the results."""
    judge = read_judge(JUDGE)
    results = [result | scores(folder, result, judge) for result in read_results(folder)]
    with replacing(folder / RESULTS) as partial:
        partial.write_text("".join(json.dumps(result) + "\n" for result in results), encoding="utf-8")


def open_folder(folder: Path, subject: str, config: DreamConfig, command: str) -> None:
    """Make the folder, or make sure that its results come from the same settings and weights.

    Raises:
        InvalidInput: if they do not; results of different settings must not meet in one table row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"subject": subject}
    if subject == "method":
        plain = {name: value for name, value in config.to_json().items() if name not in ("prompt", "seed")}
        # Through JSON and back, as what is in the file.
        settings |= {"config": json.loads(json.dumps(plain)), "weights": weights(config)}
    path = folder / RUN
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if any(before.get(key) != value for key, value in settings.items()):
            raise InvalidInput(f"{folder}: holds results of other settings or weights.", advice="Choose another --out.")
        return
    with replacing(path) as partial:
        partial.write_text(json.dumps(provenance(command) | settings, indent=2) + "\n", encoding="utf-8")


def weights(config: DreamConfig) -> dict[str, str]:
    """SHA-256 of the files that the priors of a configuration read."""
    return config.prior3d.sources() | config.prior2d.sources()


def tell(number: int, total: int, result: Result) -> None:
    """One line about one asset."""
    got, before = result["method"], result["prior"]
    line = f"{number}/{total} {result['prompt']}, seed {result['seed']}: rank {got['rank']} ({got['read_as']})"
    line += f", views right {got['views_right']:.2f}, chamfer {got['chamfer']:.2f}"
    line += f" (3D prior: rank {before['rank']}, chamfer {before['chamfer']:.2f})" if before else ""
    print(f"{line}, {result['seconds']:.0f} s", flush=True)


def report(folder: Path) -> None:
    """Print and write the table, and draw the sheets."""
    text = table([folder])
    with replacing(folder / "table.md") as partial:
        partial.write_text(text, encoding="utf-8")
    print("", text, *write_sheets(folder), sep="\n")


def make_judge(path: Path) -> None:
    """Train the judge, write it, and print how often it is right on fresh objects."""
    began = time.monotonic()
    judge = train_judge(JudgeTraining(), lambda line: print(line, flush=True))
    seconds = time.monotonic() - began
    clean, spoilt = measure_judge(judge), measure_judge(judge, spoilt=True)
    named = {f"clean: {k}": v for k, v in clean.items()} | {f"spoilt: {k}": v for k, v in spoilt.items()}
    accuracies = {name: round(share, 4) for name, share in named.items()}
    write_judge(judge, path, {"seconds": round(seconds)} | accuracies)
    print(json.dumps(accuracies, indent=2), path, sep="\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
