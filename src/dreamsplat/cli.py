"""The command `dreamsplat`. Each subcommand has its flags in a frozen dataclass (tyro) and returns an exit code.

Exit codes: 0 done; 1 `doctor` found a fault; 2 something the user can mend, told in a line on stderr; 130 stopped by
Ctrl-C. torch is imported by the subcommands that need it and not before, so that help appears at once.
"""

from __future__ import annotations

import difflib
import logging
import math
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import tyro

from dreamsplat import __version__
from dreamsplat.errors import DreamsplatError, FileProblem, InvalidInput, printable
from dreamsplat.flags import flag_errors_in_one_line, parse_flags

COMMANDS: dict[str, tuple[str, str]] = {
    "generate": ("dreamsplat.generate:generate", "Make a 3D asset from a prompt."),
    "render": ("dreamsplat.cli:render", "Draw a picture or a turntable film of an asset."),
    "convert": ("dreamsplat.convert:convert", "Write an asset as another kind of file, or a smaller one."),
    "runs": ("dreamsplat.history:runs", "List the runs in a folder."),
    "rerun": ("dreamsplat.history:rerun", "Repeat a run and tell whether the result is identical."),
    "words": ("dreamsplat.cli:words", "List what the bundled models know."),
    "doctor": ("dreamsplat.doctor:doctor", "Check this installation: versions, devices, renderer, weights."),
    "train-world": ("dreamsplat.cli:train_world", "Train the bundled models, or go on training them."),
}
"""Name -> (module:function, one line of help). The function takes the arguments after it and returns an exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments without the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    name, *arguments = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("-h", "--help"):
        print(_overview())
        return 0
    if name == "--version":
        print(f"dreamsplat {__version__}")
        return 0
    _show_log_messages()
    if isinstance(sys.stdout, TextIOWrapper):  # A file's name may hold letters that this terminal does not know.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Read when torch is imported. Threads that wait for each other by spinning make a run on busy cores twice as slow.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else "See `dreamsplat --help`."
            raise InvalidInput(f"no command '{name[:40]}'. Known: {', '.join(COMMANDS)}. {hint}")
        module, function = COMMANDS[name][0].split(":")
        return getattr(import_module(module), function)(arguments)
    except DreamsplatError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # what no command expects: a name that is too long, a folder of others, a full disk
        print(
            f"error: {printable(str(error.filename or 'output'))}: {error.strerror}. Check the path.", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        return 130


@dataclass(frozen=True)
class Render:
    """Draw a picture (.png) or a turntable film (.mp4, .webp, .gif) of an asset."""

    asset: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="ASSET")]]
    """The Gaussians: a .ply, or any other kind of file that `convert` reads."""
    out: Path
    """Where to write: a .png is one picture, an .mp4, .webp or .gif is a turntable."""
    azimuth_deg: float = 0.0
    """Where the camera stands, and where a turntable starts: 0 is before the object's front; grows clockwise seen from
    above."""
    elevation_deg: float = 15.0
    """Height of the camera above the horizon, -90 to 90."""
    distance: float = 3.0
    """From the camera to the origin, world units; bundled objects fit into the unit ball."""
    fov_y_deg: float = 40.0
    """Vertical field of view of the camera."""
    size: int = 512
    """Width and height of the picture, px."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Red, green and blue behind the object, each 0 to 1."""
    frames: int = 120
    """Pictures in a turntable, played at 30 per second."""

    def check(self) -> None:
        """Refuse what the cameras do not check themselves. Not in `__post_init__`, whose errors tyro would reword."""
        if self.out.suffix.lower() not in (".png", ".mp4", ".webp", ".gif"):
            raise FileProblem(f"{self.out}: unknown kind '{self.out.suffix}'. Write .png, .mp4, .webp or .gif.")
        if not self.out.absolute().parent.is_dir():
            raise FileProblem(f"{self.out}: there is no folder '{self.out.parent}'. Make it first.")
        if not (1 <= self.size <= 8192 and 1 <= self.frames <= 10_000):
            raise InvalidInput(f"size {self.size}, frames {self.frames}: expected 1 to 8192 px and 1 to 10000 frames.")
        if not all(map(math.isfinite, (self.azimuth_deg, self.elevation_deg, self.distance, self.fov_y_deg))):
            raise InvalidInput("azimuth, elevation, distance and field of view: expected finite numbers.")
        if not all(0 <= channel <= 1 for channel in self.background):
            raise InvalidInput(f"background {self.background}: expected three numbers from 0 to 1, such as 1 1 1.")


def render(arguments: Sequence[str]) -> int:
    """`dreamsplat render`: write one picture or a film of an asset, and print its path."""
    args = parse_flags(Render, arguments, "render")
    args.check()
    import torch

    from dreamsplat.cameras import make_views
    from dreamsplat.formats import load
    from dreamsplat.formats.image import write_png
    from dreamsplat.formats.video import write_turntable
    from dreamsplat.runs import draw

    asset = load(args.asset)
    if torch.cuda.is_available():
        asset = asset.to("cuda")
    picture = args.out.suffix.lower() == ".png"
    count = 1 if picture else args.frames
    same = torch.ones(count)
    views = make_views(
        azimuth_deg=args.azimuth_deg + torch.arange(count) * (360 / count),
        elevation_deg=args.elevation_deg * same,
        distance=args.distance * same,
        fov_y_deg=args.fov_y_deg * same,
        width=args.size,
        height=args.size,
    )
    images = draw(asset, views.cameras, args.background)
    if picture:
        write_png(images[0], args.out)
    print(args.out if picture else write_turntable(images, args.out))
    return 0


@dataclass(frozen=True)
class Words:
    """List what the bundled models know: the words of a prompt, and the pairs that they were never shown."""


def words(arguments: Sequence[str]) -> int:
    """`dreamsplat words`: print the vocabulary of the bundled models and two example prompts."""
    parse_flags(Words, arguments, "words")
    from dreamsplat.world.captions import COLOURS, VIEW_WORDS, caption, held_out_pairs, known_words, trained_pairs
    from dreamsplat.world.categories import CATEGORIES

    named = {"colours": tuple(COLOURS), "objects": tuple(CATEGORIES), "views": VIEW_WORDS}
    spoken = {word for group in named.values() for word in group}
    named["other words"] = tuple(word for word in known_words() if word not in spoken)
    for title, group in named.items():
        print(f"{title} ({len(group)}): {', '.join(group)}")
    held_out = [caption(*pair) for pair in held_out_pairs()]
    print(f"never shown in training ({len(held_out)}): {', '.join(held_out)}")
    for prompt in (caption(*trained_pairs()[0]), held_out[0]):
        print(f'try: dreamsplat generate "{prompt}" --out {prompt.split()[-1]}')
    return 0


def train_world(arguments: Sequence[str]) -> int:
    """`dreamsplat train-world`: train a bundled model for a stretch, and print the path of its weights."""
    from dreamsplat.world.stretches import ImageStretch, VolumeStretch, train_image, train_volume

    with flag_errors_in_one_line("train-world"):
        args = tyro.extras.subcommand_cli_from_dict(
            {"image": ImageStretch, "volume": VolumeStretch},
            args=arguments,
            prog="dreamsplat train-world",
            description="Train a bundled model for a stretch, or go on training it: image (2D) or volume (3D).",
            config=(tyro.conf.OmitArgPrefixes,),
        )
    print(train_image(args) if isinstance(args, ImageStretch) else train_volume(args))
    return 0


def _overview() -> str:
    commands = "\n".join(f"  {name:<12} {summary}" for name, (_, summary) in COMMANDS.items())
    return f"""usage: dreamsplat COMMAND [OPTIONS]

Text to 3D Gaussians, on any machine.

commands:
{commands}

try:      dreamsplat generate "a red mushroom" --out mushroom
help:     dreamsplat COMMAND --help
version:  dreamsplat --version"""


class _StderrHandler(logging.Handler):
    """Prints log messages to whatever stderr is at that moment, so that they stay clear of a live progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        with suppress(OSError):  # A log that is full or closed does not stop the work.
            print(f"{record.levelname.lower()}: {printable(record.getMessage())}", file=sys.stderr)


def _show_log_messages() -> None:
    """Show what the library logs: which renderer was chosen and why, and fallbacks."""
    logger = logging.getLogger("dreamsplat")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
