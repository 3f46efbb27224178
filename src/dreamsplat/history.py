"""`dreamsplat runs` and `dreamsplat rerun`: what was made in a folder, and whether it can be made again."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from dreamsplat import records
from dreamsplat.errors import FileProblem
from dreamsplat.flags import parse_flags
from dreamsplat.lifecycle import Stopped, carry_out
from dreamsplat.lock import holder, locked
from dreamsplat.progress import show_progress
from dreamsplat.runs import open_run


@dataclass(frozen=True)
class Runs:
    """List the runs in a folder: prompt, state, steps, time and picture of each."""

    folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FOLDER")]] = Path()
    """Where to look: the folder itself and those right below it."""
    json: bool = False
    """Print one JSON object per line instead of a table."""


def runs(arguments: Sequence[str]) -> int:
    """Print the runs of a folder, the newest last."""
    args = parse_flags(Runs, arguments, "runs", config=(tyro.conf.FlagCreatePairsOff,))
    found = sorted(map(describe, find_runs(args.folder)), key=lambda run: run["written"])
    if args.json:
        print("\n".join(json.dumps(run) for run in found))
        return 0
    if not found:
        print(f"no runs in {args.folder}; `dreamsplat generate PROMPT --out {args.folder / 'NAME'}` makes one.")
        return 0
    table = [("FOLDER", "STATE", "STEPS", "SECONDS", "PROMPT", "PICTURE")]
    table += [
        (run["folder"], run["state"], f"{run['step']}/{run['steps']}", f"{run['seconds']:.0f}", run["prompt"],
         run["picture"] or "-")
        for run in found
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def find_runs(folder: Path) -> list[Path]:
    """The run folders: `folder` itself, and those right below it.

    Raises:
        FileProblem: if the folder may not be read.
    """
    try:
        return list(filter(_is_run, (folder, *sorted(folder.iterdir()))))
    except OSError as error:
        raise FileProblem(f"{folder}: cannot be listed ({error.strerror}). Choose another folder.") from error


def _is_run(folder: Path) -> bool:
    try:
        return (folder / records.NAME).is_file()
    except OSError:  # A folder of somebody else.
        return False


def describe(run: Path) -> dict[str, Any]:
    """What a list says of a run. A run that says "running", while nobody writes, has died."""
    picture = run / "preview.png"
    told = {"folder": str(run), "picture": str(picture) if picture.exists() else None}
    try:
        record = records.read(run)
    except FileProblem as problem:
        unknown = {"prompt": "?", "step": 0, "steps": 0, "seconds": 0.0, "written": ""}
        return told | unknown | {"state": "damaged", "why": str(problem)}
    died = record["state"] == "running" and holder(run) is None
    names = ("prompt", "step", "steps", "seconds", "written", "why")
    return told | {name: record[name] for name in names} | {"state": "died" if died else record["state"]}


@dataclass(frozen=True)
class Rerun:
    """Repeat a run from its record, and tell whether the result is identical."""

    folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FOLDER")]]
    """The folder of the run."""
    out: Path | None = None
    """Folder for the repetition; by default the run's name with -rerun. None of the run's own files is touched."""
    overwrite: bool = False
    """Allow a folder that is not empty, such as that of an earlier repetition."""


def rerun(arguments: Sequence[str]) -> int:
    """Repeat a finished run.

    Returns:
        0 if the asset has the same bytes, else 1; 130 or 143 if Ctrl-C or SIGTERM stopped it.
    """
    args = parse_flags(Rerun, arguments, "rerun", config=(tyro.conf.FlagCreatePairsOff,))
    record, config = records.read(args.folder), records.read_config(args.folder)
    if record["state"] != "done":
        raise FileProblem(
            f"{args.folder}: the run is not finished, so there is nothing to compare with. "
            f"First: dreamsplat generate --resume {shlex.quote(str(args.folder))}"
        )
    if records.asset_sha256(args.folder) != record["asset_sha256"]:
        raise FileProblem(f"{args.folder / 'asset.ply'}: is gone, or not what the run made. Put it back to compare.")
    folder = open_run(args.out or args.folder.with_name(f"{args.folder.resolve().name}-rerun"), args.overwrite)
    try:
        with locked(folder.path), show_progress() as report:
            carry_out(folder, config, report, record["checkpoint_every"])
    except Stopped as stopped:
        print(f"stopped. To repeat it: dreamsplat rerun {shlex.quote(str(args.folder))} --overwrite", file=sys.stderr)
        return stopped.exit_code
    again = records.read(folder.path)
    shutil.rmtree(folder.path / "checkpoints", ignore_errors=True)
    if again["asset_sha256"] == record["asset_sha256"]:
        print(f"identical: {folder.path / 'asset.ply'} has the bytes of {args.folder / 'asset.ply'}.")
        return 0
    print(f"different: {folder.path / 'asset.ply'} is not {args.folder / 'asset.ply'}.")
    before, now = ({name: told.get(name) for name in records.environment()} for told in (record, again))
    for name in (name for name in before if before[name] != now[name]):
        print(f"  {name} was {before[name]}, is {now[name]}", file=sys.stderr)
    if before == now:
        print("  versions and weights are the same; the processor or its number of threads may differ", file=sys.stderr)
    return 1
