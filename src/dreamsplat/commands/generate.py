"""`dreamsplat generate`: parse the flags, carry a run to its end or go on with one."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import tyro

from dreamsplat.commands.flags import parse_flags
from dreamsplat.commands.progress import show_progress
from dreamsplat.config import DreamConfig
from dreamsplat.errors import InvalidInput
from dreamsplat.presets import PRESETS, fit_vram
from dreamsplat.priors3d import FromFile, ShapE
from dreamsplat.runs import record
from dreamsplat.runs.execute import Stopped, carry_out
from dreamsplat.runs.folder import RunFolder, check_name, open_run
from dreamsplat.runs.lock import locked

DEFAULT_PRESET = "bundled"
CHECKPOINT_EVERY = 50
"""Optimisation steps."""


@dataclass(frozen=True, kw_only=True)
class Generate(DreamConfig):
    """Make a 3D asset from a prompt: asset.ply, preview.png, a turntable, config.json and metrics.jsonl in a folder."""

    # Derived from DreamConfig so that every setting is a flag of the same name, and documented in one place.
    prompt: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PROMPT")]] = ""  # `parse` makes it required.
    """What to make, such as "a red mushroom". `dreamsplat words` lists what the bundled models know."""
    out: Path
    """Folder for the results; made if it does not exist."""
    overwrite: bool = False
    """Allow a folder that is not empty: results of an earlier run in it are replaced, other files stay."""
    preset: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}")] = DEFAULT_PRESET
    """Which set of defaults the other flags start from."""
    image: Path | None = None
    """A picture for the 3D prior to start from instead of the prompt, which still guides the 2D prior (Shap-E only)."""
    vram: int | None = None
    """GPU memory to fit into, GB: 8, 12, 16 or 24. Chooses render size, views and precision (docs/presets.md)."""
    checkpoint_every: int = CHECKPOINT_EVERY
    """Optimisation steps between checkpoints, from which `dreamsplat generate --resume FOLDER` goes on."""
    dry_run: bool = False
    """Print the resolved configuration as JSON and stop."""

    def __post_init__(self) -> None:
        """Nothing is checked here, but in `config`: tyro would turn one line of error into a box."""

    def config(self) -> DreamConfig:
        """The configuration without the flags that only the command line has, once those are carried out."""
        config = DreamConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(DreamConfig)})
        if isinstance(config.prior3d, FromFile) and config.prior3d.file != Path():  # A run goes on from anywhere.
            config = dataclasses.replace(
                config, prior3d=dataclasses.replace(config.prior3d, file=config.prior3d.file.absolute())
            )
        if self.image is not None:
            if not isinstance(config.prior3d, ShapE):
                raise InvalidInput("image: only Shap-E starts from a picture. Add prior3d:shap-e, or a preset with it.")
            config = dataclasses.replace(
                config, prior3d=dataclasses.replace(config.prior3d, image=self.image.absolute())
            )
        return config if self.vram is None else fit_vram(config, self.vram)


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with a run that was stopped or died; its settings are those in its folder."""

    resume: Path
    """The folder of the run."""
    checkpoint_every: int = CHECKPOINT_EVERY
    """Optimisation steps between checkpoints."""


def generate(arguments: Sequence[str]) -> int:
    """Make an asset, go on with one (`--resume`), or print the configuration (`--dry-run`).

    Returns:
        0; 130 or 143 if Ctrl-C or SIGTERM stopped the run: what was there by then is written.
    """
    if any(argument.split("=")[0] == "--resume" for argument in arguments):
        again = parse_flags(Resume, arguments, "generate", config=(tyro.conf.FlagCreatePairsOff,))
        check_name(again.resume)
        config = record.read_config(again.resume)
        return _run(RunFolder(again.resume, new=False), config, again.checkpoint_every, resume=True)
    args = parse(arguments)
    config = args.config()
    if args.dry_run:
        print(json.dumps(config.to_json(), indent=2))
        return 0
    return _run(open_run(args.out, args.overwrite), config, args.checkpoint_every, resume=False)


def _run(folder: RunFolder, config: DreamConfig, checkpoint_every: int, resume: bool) -> int:
    if checkpoint_every < 1:
        raise InvalidInput(f"checkpoint-every: {checkpoint_every}, expected at least 1 step.")
    code = 130
    try:
        with locked(folder.path), show_progress() as report:
            paths = carry_out(folder, config, report, checkpoint_every, resume)
        print("\n".join(str(path) for path in paths))
        return 0
    except Stopped as stopped:
        code = stopped.exit_code
    except KeyboardInterrupt:
        pass
    finally:
        folder.discard_if_empty()
    if folder.step is None:
        print("stopped. There was nothing yet.", file=sys.stderr)
    else:
        print(f"stopped. {folder.path} holds step {folder.step}. To go on:", file=sys.stderr)
        print(f"  dreamsplat generate --resume {shlex.quote(str(folder.path))}", file=sys.stderr)
    return code


def parse(arguments: Sequence[str]) -> Generate:
    """The flags, over the defaults of the preset that they name.

    Raises:
        InvalidInput: if the preset is unknown.
    """
    name = _preset_name(arguments)
    if name not in PRESETS:
        raise InvalidInput(f"no preset '{name[:40]}'. Known: {', '.join(PRESETS)}.")
    settings: dict[str, Any] = {f.name: getattr(PRESETS[name], f.name) for f in dataclasses.fields(DreamConfig)}
    default = Generate(**settings | {"prompt": tyro.MISSING, "out": tyro.MISSING, "preset": name})
    flags = (tyro.conf.CascadeSubcommandArgs, tyro.conf.FlagCreatePairsOff)
    return parse_flags(Generate, arguments, "generate", default=default, config=flags)


def _preset_name(arguments: Sequence[str]) -> str:
    # Read before tyro does, because it decides the defaults that tyro shows and fills in.
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        if argument == "--preset":
            return following
        if argument.startswith("--preset="):
            return argument.removeprefix("--preset=")
    return DEFAULT_PRESET
