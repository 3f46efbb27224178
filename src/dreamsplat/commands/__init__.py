"""The command `dreamsplat`. Each subcommand has its flags in a frozen dataclass (tyro) and returns an exit code.

Exit codes: 0 done; 1 `doctor` found a fault, or `rerun` a difference; 2 something that the user can fix, reported on
one line; 130 or 143 stopped by Ctrl-C or SIGTERM. A subcommand imports torch once its flags are known to be right.
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper

from dreamsplat import __version__
from dreamsplat.commands.messages import in_shell_words
from dreamsplat.errors import DreamsplatError, InvalidInput, printable

COMMANDS: dict[str, tuple[str, str]] = {
    "generate": ("dreamsplat.commands.generate:generate", "Make a 3D asset from a prompt."),
    "download": ("dreamsplat.commands.download:download", "Fetch the models that a preset needs, before a run."),
    "render": ("dreamsplat.commands.render:render", "Draw a picture or a turntable film of an asset."),
    "convert": ("dreamsplat.commands.convert:convert", "Write an asset as another kind of file, or a smaller one."),
    "info": ("dreamsplat.commands.info:info", "Say what is in a file, and what is odd about it."),
    "edit": ("dreamsplat.commands.edit:edit", "Join, crop, clean, recolour, thin out and place assets."),
    "runs": ("dreamsplat.commands.runs:runs", "List the runs in a folder."),
    "rerun": ("dreamsplat.commands.rerun:rerun", "Repeat a run and say whether the result is identical."),
    "words": ("dreamsplat.commands.words:words", "List what the bundled models know."),
    "doctor": ("dreamsplat.commands.doctor:doctor", "Check this installation: versions, devices, renderer, weights."),
    "train-world": (
        "dreamsplat.commands.train_world:train_world",
        "Train the bundled models, or continue their training.",
    ),
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
    if isinstance(sys.stdout, TextIOWrapper):  # A file's name may hold letters that this terminal lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Read when torch is imported. Threads that wait for each other by spinning make a run on busy cores twice as slow.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else "See `dreamsplat --help`."
            raise InvalidInput(f"no command '{name[:40]}'. Known: {', '.join(COMMANDS)}.", advice=hint)
        module, function = COMMANDS[name][0].split(":")
        return getattr(import_module(module), function)(arguments)
    except DreamsplatError as error:
        print(f"error: {in_shell_words(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # what no command expects: a name that is too long, no permission, a full disk
        print(
            f"error: {printable(str(error.filename or 'output'))}: {error.strerror}. Check the path.", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


def _overview() -> str:
    commands = "\n".join(f"  {name:<12} {summary}" for name, (_, summary) in COMMANDS.items())
    return f"""usage: dreamsplat COMMAND [OPTIONS]

Text to 3D Gaussians, on any machine.

commands:
{commands}

try:      dreamsplat generate "a red mushroom"
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
