"""`dreamsplat runs`: what was made in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.runs import find_runs, summarise


@dataclass(frozen=True)
class Runs:
    """List the runs in a folder: prompt, state, steps, time and picture of each."""

    folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FOLDER")]] = Path()
    """Where to look: the folder itself, those right below it, and those in its `runs`."""
    json: bool = False
    """Print one JSON object per line instead of a table."""


def runs(arguments: Sequence[str]) -> int:
    """Print the runs of a folder, the newest last."""
    args = parse_flags(Runs, arguments, "runs", config=(tyro.conf.FlagCreatePairsOff,))
    found = sorted(map(summarise, find_runs(args.folder)), key=lambda run: run.written)
    if args.json:
        print("\n".join(json.dumps(asdict(run), default=str) for run in found))
        return 0
    if not found:
        print(f"No runs in '{args.folder}'. To make one: dreamsplat generate PROMPT --out {args.folder / 'NAME'}")
        return 0
    table = [("FOLDER", "STATE", "STEPS", "SECONDS", "PROMPT", "PICTURE")]
    table += [
        (str(run.folder), run.state, f"{run.step}/{run.steps}", f"{run.seconds:.0f}", run.prompt,
         str(run.picture or "-"))
        for run in found
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0
