"""`dreamsplat generate`: from flags to a run, or to the rest of one that was stopped."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count, zip_longest
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.commands.places import check_folder
from dreamsplat.config import DreamConfig
from dreamsplat.errors import FileProblem, InvalidInput
from dreamsplat.presets import PRESETS
from dreamsplat.runs import Record, read_config, read_record
from dreamsplat.runs.folder import check_name
from dreamsplat.runs.sources import with_absolute_paths

T = TypeVar("T")

DEFAULT_PRESET = "bundled"
CHECKPOINT_EVERY = 50
"""Optimisation steps, unless the user or the run to continue says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Make a 3D asset from a prompt: asset.ply, preview.png, a turntable, config.json and metrics.jsonl in a folder."""

    out: Path | None = None
    """Folder for the results, created if need be. By default runs/PROMPT-SEED, with a number added if that is taken."""
    overwrite: bool = False
    """Allow a folder that is not empty: results of an earlier run in it are replaced, other files stay."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Continue the run in this folder, which was stopped or killed, with its own settings: omit the prompt and all
    flags except --checkpoint-every and --dry-run."""
    preset: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}")] = DEFAULT_PRESET
    """Which set of defaults the other flags start from."""
    image: Path | None = None
    """A picture for the 3D prior to start from instead of the prompt, which still guides the 2D prior (Shap-E only)."""
    vram: int | None = None
    """GPU memory to fit into, GB: 8, 12, 16 or 24. Chooses render size, views and precision (docs/presets.md)."""
    checkpoint_every: int | None = None
    """Optimisation steps between checkpoints, from which --resume continues: 50, or as the resumed run has it."""
    yes_slow: bool = False
    """Start a run of other people's models although it would take hours here, or may not fit into the GPU."""
    dry_run: bool = False
    """Check everything that can be checked without loading a model, print the settings as JSON and stop."""
    config: Annotated[DreamConfig, tyro.conf.arg(name="")]  # Its settings are flags without a prefix.

    def __post_init__(self) -> None:
        """Check the range."""
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise InvalidInput(f"{self.checkpoint_every}, expected at least 1 step.", setting="checkpoint_every")

    def settings(self) -> DreamConfig:
        """The settings of the run, once --image and --vram are carried out; its paths hold in any working directory."""
        config = self.config
        if self.image is not None:
            config = replace(config, prior3d=config.prior3d.from_picture(self.image))
        if self.vram is not None:
            config = config.prior2d.fit_memory(config, self.vram)
        return with_absolute_paths(config)


def generate(arguments: Sequence[str]) -> int:
    """Make an asset, continue one (`--resume`), or print the settings (`--dry-run`).

    Returns:
        0; 130 or 143 if Ctrl-C or SIGTERM stopped the run, which can be resumed.
    """
    args = parse(arguments)
    if args.resume is not None:
        return _go_on(args, args.resume)
    config, folder = args.settings(), args.out or default_folder(args.config)
    config.check()
    check_folder(folder, args.overwrite)
    if config.device == "cuda":
        from dreamsplat.method.devices import resolve_device  # Here and not above: a wrong flag needs no torch.

        resolve_device(config.device)
    if args.dry_run:
        return _print_settings(config)
    from dreamsplat.commands.estimate import announce  # Here and not above: it waits for torch.

    announce(config, args.yes_slow)
    return _carry_out(folder, config, args.checkpoint_every or CHECKPOINT_EVERY)


def _go_on(args: Generate, folder: Path) -> int:
    """`--resume`: the rest of a run."""
    config, record = _settings_of(args, folder), _record_of(folder)
    every = record.checkpoint_every if record else CHECKPOINT_EVERY
    if not args.dry_run:
        code = _carry_out(folder, config, args.checkpoint_every or every, resume=True)
        if record and record.state == "done":
            told = "the run was finished already. Only asset and pictures were written again."
            print(f"{folder}: {told}", file=sys.stderr)
        return code
    from dreamsplat.method.devices import resolve_device  # Here and not above: both wait for torch.
    from dreamsplat.runs.checkpoints import checkpoint_of

    resolve_device(config.device)
    checkpoint = checkpoint_of(folder, config)
    if record and record.state == "done":
        told = "the run is finished. Resuming it would only write asset and pictures again."
    elif checkpoint is None:
        told = "there is no checkpoint yet. The run would start again."
    else:
        told = f"the run would continue from step {checkpoint.step} of {config.steps}."
    print(f"{folder}: {told}", file=sys.stderr)
    return _print_settings(config)


def _print_settings(config: DreamConfig) -> int:
    print(json.dumps(config.to_json(), indent=2))
    return 0


def _carry_out(folder: Path, config: DreamConfig, checkpoint_every: int, resume: bool = False) -> int:
    from dreamsplat.commands.follow import follow  # Here and not above: it waits for torch.

    finished, code = follow(folder, config, checkpoint_every=checkpoint_every, resume=resume)
    if finished.state == "done":
        print("\n".join(str(path) for path in finished.paths))
    else:
        print(f"Stopped. {folder} holds step {finished.step}. To continue:", file=sys.stderr)
        print(f"  dreamsplat generate --resume {shlex.quote(str(folder))}", file=sys.stderr)
    return code


def parse(arguments: Sequence[str]) -> Generate:
    """The flags, over the defaults of the preset that they name.

    Raises:
        InvalidInput: if the preset is unknown, or a flag is wrong.
    """
    return parse_preset(Generate, arguments, "generate")


def parse_preset(kind: type[T], arguments: Sequence[str], command: str) -> T:
    """The same for any dataclass of flags with the fields `preset` and `config`."""
    name = _preset_name(arguments)
    if name not in PRESETS:
        raise InvalidInput(f"'{name[:40]}', expected one of {', '.join(PRESETS)}.", setting="preset")
    defaults: dict[str, Any] = {"preset": name, "config": PRESETS[name]}
    return parse_flags(
        kind,
        arguments,
        command,
        default=kind(**defaults),
        config=(tyro.conf.CascadeSubcommandArgs, tyro.conf.FlagCreatePairsOff),
    )


def default_folder(config: DreamConfig) -> Path:
    """runs/PROMPT-SEED, or the first of runs/PROMPT-SEED-2, -3 ... that does not exist or is empty."""
    words = re.sub(r"[\W_]+", "-", config.prompt.lower())[:40].strip("-")
    name = f"{words or 'run'}-{config.seed}"
    tried = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(folder for folder in tried if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())))


def _settings_of(args: Generate, folder: Path) -> DreamConfig:
    """The settings of the run to continue."""
    default = Generate(config=PRESETS[DEFAULT_PRESET])
    allowed = replace(default, resume=folder, checkpoint_every=args.checkpoint_every, dry_run=args.dry_run)
    if args != allowed:
        raise InvalidInput(
            "a run continues with its own settings.", setting="resume",
            advice="Omit the prompt and all flags except `checkpoint_every` and `dry_run`.",
        )  # fmt: skip
    check_name(folder)
    return read_config(folder)


def _record_of(folder: Path) -> Record | None:
    """The record of a run; None if it is damaged, which does not keep the run from going on."""
    try:
        return read_record(folder)
    except FileProblem:
        return None


def _preset_name(arguments: Sequence[str]) -> str:
    # Read before tyro does, because it decides the defaults that tyro shows and fills in.
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        if argument == "--preset":
            return following
        if argument.startswith("--preset="):
            return argument.removeprefix("--preset=")
    return DEFAULT_PRESET
