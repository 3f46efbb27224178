"""`dreamsplat download`: fetch the models that a run needs, before it, and say how large they are."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dreamsplat.commands.generate import DEFAULT_PRESET, parse_preset
from dreamsplat.config import DreamConfig
from dreamsplat.errors import FileProblem
from dreamsplat.presets import PRESETS


@dataclass(frozen=True, kw_only=True)
class Download:
    """Fetch the models that `dreamsplat generate` needs with the same preset and flags; run it again to continue."""

    preset: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}")] = DEFAULT_PRESET
    """Whose models to fetch: in half precision where the hub has it, since a GPU reads them so."""
    dry_run: bool = False
    """Print the sizes and stop."""
    config: Annotated[DreamConfig, tyro.conf.arg(name="")]  # Its settings are flags without a prefix.


def download(arguments: Sequence[str]) -> int:
    """Print what is fetched and how large it is, then fetch and check it."""
    args = parse_preset(Download, arguments, "download")
    config = args.config
    wanted = (*config.prior3d.checkpoints(), *config.prior2d.checkpoints())
    if not wanted:
        print("Nothing to download: the models of these settings come with dreamsplat.")
        return 0
    from dreamsplat.hub.cache import cache_folder
    from dreamsplat.hub.download import fetch_files
    from dreamsplat.hub.fetch import plan

    plans = [plan(one) for one in wanted]
    for one in plans:
        size = f", {one.size_bytes / 1e9:.2f} GB in {len(one.files)} files" if one.files else ""
        state = f"here, {one.folder}" if one.folder else f"{one.missing_bytes / 1e9:.2f} GB to fetch"
        print(f"{one.model}{size}: {state}")
    missing = sum(one.missing_bytes for one in plans)
    free = _free_bytes(cache_folder())
    print(f"total: {missing / 1e9:.2f} GB to fetch into {cache_folder()}, where {free / 1e9:.1f} GB are free")
    if missing > free:
        raise FileProblem(
            f"{cache_folder()}: {free / 1e9:.1f} GB are free, and {missing / 1e9:.2f} GB are needed.",
            advice="Make room, or set HF_HUB_CACHE to a folder on another disk.",
        )
    for one, need in zip(plans, wanted, strict=True):
        if not args.dry_run and one.folder is None:
            print(f"{one.model}: complete and checked, {fetch_files(one.model, need.revision, one.files)}")
    return 0


def _free_bytes(folder: Path) -> int:
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return shutil.disk_usage(existing).free
