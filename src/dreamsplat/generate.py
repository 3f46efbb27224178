"""`dreamsplat generate`: parse the flags, walk through the steps of the method, keep the run's folder up to date."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from dreamsplat.config import DreamConfig
from dreamsplat.dream import dream_steps
from dreamsplat.errors import InvalidInput
from dreamsplat.presets import PRESETS, fit_vram
from dreamsplat.priors3d import ShapE
from dreamsplat.progress import show_progress
from dreamsplat.runs import open_run

DEFAULT_PRESET = "bundled"


@dataclass(frozen=True, kw_only=True)
class Generate(DreamConfig):
    """Make a 3D asset from a prompt: asset.ply, preview.png, a turntable, config.json and metrics.jsonl in a folder."""

    # Derived from DreamConfig so that every setting is a flag of the same name, and documented in one place.
    prompt: tyro.conf.Positional[str] = ""  # `parse` makes it required.
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
    dry_run: bool = False
    """Print the resolved configuration as JSON and stop."""

    def __post_init__(self) -> None:
        """Nothing is checked here, but in `config`: tyro would turn one line of error into a box."""

    def config(self) -> DreamConfig:
        """The configuration without the flags that only the command line has, once those are carried out."""
        config = DreamConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(DreamConfig)})
        if self.image is not None:
            if not isinstance(config.prior3d, ShapE):
                raise InvalidInput("image: only Shap-E starts from a picture. Add prior3d:shap-e, or a preset with it.")
            config = dataclasses.replace(config, prior3d=dataclasses.replace(config.prior3d, image=self.image))
        return config if self.vram is None else fit_vram(config, self.vram)


def generate(arguments: Sequence[str]) -> int:
    """Make an asset, or print the configuration with `--dry-run`.

    Returns:
        0, or 130 if Ctrl-C stopped the run; what was there by then is written.
    """
    args = parse(arguments)
    config = args.config()
    resolved = json.dumps(config.to_json(), indent=2)
    if args.dry_run:
        print(resolved)
        return 0
    run = open_run(args.out, args.overwrite)
    try:
        with show_progress() as report:
            for number, step in enumerate(dream_steps(config)):
                if number == 0:  # The prompt and the device are good: only now is an earlier run's result given up.
                    run.start(resolved)
                run.record(step)
                report(step)
        print("drawing the turntable", file=sys.stderr)
        paths = run.finish()
    except KeyboardInterrupt:
        kept = run.refresh("stopped")
        print(f"stopped. {f'{run.path} holds what there was' if kept else 'There was nothing yet'}.", file=sys.stderr)
        return 130
    finally:
        run.discard_if_empty()
    print("\n".join(str(path) for path in paths))
    return 0


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
    return tyro.cli(Generate, default=default, args=arguments, prog="dreamsplat generate", config=flags)


def _preset_name(arguments: Sequence[str]) -> str:
    # Read before tyro does, because it decides the defaults that tyro shows and fills in.
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == "--preset":
            return following
        if argument.startswith("--preset="):
            return argument.removeprefix("--preset=")
    return DEFAULT_PRESET
