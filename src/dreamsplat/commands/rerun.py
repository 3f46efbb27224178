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
from dreamsplat.commands.places import check_folder
from dreamsplat.errors import FileProblem
from dreamsplat.runs import Record, read_config, read_record
from dreamsplat.runs.folder import ASSET, CHECKPOINTS
from dreamsplat.runs.record import asset_sha256, differences


@dataclass(frozen=True)
class Rerun:
    """Repeat a run from its record, and say whether the result is identical."""

    folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FOLDER")]]
    """The folder of the run."""
    out: Path | None = None
    """Folder for the repetition; by default the run's name with -rerun. The run's own files are left alone."""
    overwrite: bool = False
    """Allow a folder that is not empty, such as that of an earlier repetition."""


def rerun(arguments: Sequence[str]) -> int:
    """Repeat a finished run.

    Returns:
        0 if the asset has the same bytes, else 1; 130 or 143 if Ctrl-C or SIGTERM stopped it.
    """
    args = parse_flags(Rerun, arguments, "rerun", config=(tyro.conf.FlagCreatePairsOff,))
    before, config = read_record(args.folder), read_config(args.folder)
    _check_repeatable(args.folder, before)
    out = args.out or args.folder.with_name(f"{args.folder.resolve().name}-rerun")
    if out.resolve() == args.folder.resolve():
        raise FileProblem(f"{out}: is the run to be repeated.", advice="Choose another --out.")
    check_folder(out, args.overwrite)
    from dreamsplat.commands.follow import follow  # Here and not above: it waits for torch.

    finished, code = follow(out, config, checkpoint_every=before.checkpoint_every)
    if finished.state == "stopped":
        print(f"Stopped. To repeat it: dreamsplat rerun {shlex.quote(str(args.folder))} --overwrite", file=sys.stderr)
        return code
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    return _compare(args.folder, before, out, read_record(out))


def _check_repeatable(folder: Path, record: Record) -> None:
    if record.state != "done":
        raise FileProblem(
            f"{folder}: the run is not finished, so there is nothing to compare with.",
            advice=f"First: dreamsplat generate --resume {shlex.quote(str(folder))}",
        )
    if record.start_sha256 is not None:
        raise FileProblem(
            f"{folder}: the run started from a checkpoint of another run, so its settings alone do not repeat it.",
            advice="Start it from that checkpoint again.",
        )
    if asset_sha256(folder) != record.asset_sha256:
        raise FileProblem(
            f"{folder / ASSET}: is gone, or not what the run made.", advice="Restore it, so that it can be compared."
        )


def _compare(folder: Path, before: Record, out: Path, after: Record) -> int:
    """Say whether two runs have the same asset and, if not, what else differs; returns the exit code."""
    if after.asset_sha256 == before.asset_sha256:
        print(f"identical: {out / ASSET} has the bytes of {folder / ASSET}.")
        return 0
    print(f"different: {out / ASSET} is not {folder / ASSET}.")
    same = "versions, models and files are the same; the processor or its number of threads may differ"
    for line in differences(before, after) or [same]:
        print(f"  {line}", file=sys.stderr)
    return 1
