"""`dreamsplat rerun`: whether a run can be made again."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.commands.progress import show_progress
from dreamsplat.errors import FileProblem
from dreamsplat.runs import record as records
from dreamsplat.runs.execute import Stopped, carry_out
from dreamsplat.runs.folder import open_run
from dreamsplat.runs.lock import locked


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
