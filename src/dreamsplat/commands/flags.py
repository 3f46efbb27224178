"""Arguments of a command become its frozen dataclass (tyro); what cannot be parsed is reported on one line."""

from __future__ import annotations

import difflib
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro import _errors as tyro_errors  # Private, hence the pin of tyro in pyproject.toml.

from dreamsplat import registry
from dreamsplat.commands.choices import CHOICES
from dreamsplat.commands.messages import WITHOUT_FLAG
from dreamsplat.errors import DreamsplatError, InvalidInput

T = TypeVar("T")

UNPREFIXED = ("config", "mesh")
"""Fields of commands whose own fields are flags without their name before them."""
_PROMPTED = "config"
"""The field of commands that take a prompt."""

ELSEWHERE = {
    "num-steps": "steps", "iterations": "steps", "num-iterations": "steps", "iters": "steps", "max-steps": "steps",
    "n-steps": "steps", "batch-size": "views", "num-views": "views", "gpu": "device", "cuda": "device", "cpu": "device",
    "guidance": "loss.guidance-scale", "guidance-scale": "loss.guidance-scale", "cfg": "loss.guidance-scale",
    "lr": "representation.rates.means", "learning-rate": "representation.rates.means", "resolution": "render-size",
    "size": "render-size", "o": "out", "output": "out", "output-dir": "out", "outdir": "out", "force": "overwrite",
    "negative": "negative-prompt", "input-image": "image", "init-image": "image", "model": "prior2d.model",
    "random-seed": "seed", "s": "seed", "save-every": "checkpoint-every",
}  # fmt: skip
"""What other programs call flags of ours."""
_NO_NUMBER = re.compile(r"(?:invalid literal for int\(\) with base 10|could not convert string to float): (.*)")


def parse_flags(kind: type[T], arguments: Sequence[str], command: str, **settings: Any) -> T:
    """The dataclass `kind` with the values that `arguments` give its fields; prints help and exits where they ask.

    Args:
        kind: A dataclass whose fields are the flags.
        arguments: What follows the command.
        command: Its name, for help and messages.
        settings: Further settings of `tyro.cli`.

    Raises:
        InvalidInput: if an argument is unknown, missing or not a value of its kind.
        DreamsplatError: that the dataclass, or one within it, raises; its setting is the name of the flag.
    """
    _refuse_repeated(arguments, command)
    with flag_errors_in_one_line(command, kind, arguments):
        return tyro.cli(kind, args=arguments, prog=f"dreamsplat {command}", registry=CHOICES, **settings)


@contextmanager
def flag_errors_in_one_line(command: str, kind: type | None = None, arguments: Sequence[str] = ()) -> Iterator[None]:
    """Turn the boxes in which tyro complains into one line: an InvalidInput that names the command's help.

    Args:
        command: Its name.
        kind: The dataclass whose fields are the flags, among which is the one that a person may have meant.
        arguments: What follows the command.
    """

    def refuse(event: tyro_errors.ParseErrorEvent) -> None:
        if isinstance(event, tyro_errors.InstantiationFailure):
            _raise_own_error(sys.exception())
        complaint = _in_words(event)
        if kind and isinstance(event, tyro_errors.UnrecognizedArgs):
            complaint += _hint(event.tokens, kind, arguments)
        if complaint:
            raise InvalidInput(complaint, advice=f"See `dreamsplat {command} --help`.")

    with tyro_errors.on_parse_error(refuse):
        yield


def _refuse_repeated(arguments: Sequence[str], command: str) -> None:
    """Refuse a flag that is given twice: only one of its values could count."""
    names = [argument.split("=")[0] for argument in arguments if re.match(r"--[a-z]", argument)]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"{name}: given {names.count(name)} times.", advice="Keep one of them.")


def _raise_own_error(failure: BaseException | None) -> None:
    """Raise the error of ours that made tyro fail, if there is one."""
    if isinstance(failure, DreamsplatError):
        raise failure
    error = None if failure is None else failure.__context__
    if isinstance(error, DreamsplatError):
        # Settings that do not know where they sit name themselves only; tyro knows the rest.
        place = str(getattr(failure, "arg", ""))
        for name in UNPREFIXED:
            place = place.removeprefix(f"{name}.")
        known = "." in error.setting or error.setting == place
        known |= not place or "dummy" in place or place[0].isupper()  # tyro's names, not ours
        setting = error.setting if known else f"{place}.{error.setting}".rstrip(".")
        raise type(error)(error.message, setting=setting, advice=error.advice) from None


def _in_words(event: tyro_errors.ParseErrorEvent) -> str:
    """What is wrong with the arguments; "" for an event of a later tyro, which prints its own box."""
    match event:
        case tyro_errors.MissingArgs(missing_arguments=missing):
            return f"missing: {', '.join(given.arg.get_invocation_text()[1].as_str_no_ansi() for given in missing)}."
        case tyro_errors.MissingSubcommand(subcommand_spec=spec):
            return f"missing: one of {', '.join(spec.parser_from_name)}."
        case tyro_errors.UnrecognizedArgs(tokens=tokens):
            return f"unknown: {', '.join(tokens)}."
        case tyro_errors.InvalidChoice(argument=argument, value=value, choices=choices):
            ordered = sorted(choices) if "None" in choices else choices  # Those of a union come in any order.
            return f"{_name(argument)}: '{value}', expected one of {', '.join(ordered)}."
        case tyro_errors.BadValue(argument=argument):
            return f"{_name(argument)}: expected {argument.lowered.metavar}."
        case tyro_errors.InstantiationFailure(message=message, argument=argument) if argument is not None:
            expected = f"expected {argument.lowered.metavar}"
            if number := _NO_NUMBER.fullmatch(message):
                return f"{_name(argument)}: {number[1]}, {expected}."
            ours = not message.startswith(("Could not parse", "no type matching"))
            return f"{_name(argument)}: {message.rstrip('.') if ours else expected}."
        case tyro_errors.InstantiationFailure(message=message):
            return message.rstrip(".") + "."
        case _:
            return ""


def _name(argument: Any) -> str:
    return str(argument.lowered.metavar) if argument.is_positional() else argument.lowered.name_or_flags[-1]


def _hint(tokens: Sequence[str], kind: type, arguments: Sequence[str]) -> str:
    """What was perhaps meant by arguments of a command that are not understood."""
    words, known = [token.split("=")[0] for token in tokens], dict(_flags_of(kind))
    for word in words:
        if known.get(word):
            return f" {word} is a flag of {known[word]}: put that before it."
        if word in known and ":" in word:
            return f" There can be only one {word.split(':')[0]}."
        if (meant := ELSEWHERE.get(word.strip("-"))) and f"--{meant}" in known:
            return f" Perhaps you meant --{meant}."
        if word == "--prompt" and _PROMPTED in get_type_hints(kind):
            return ' The prompt has no flag: generate "a red mushroom".'
        if near := difflib.get_close_matches(word, known, n=1):
            return f" Perhaps you meant {near[0]}."
    hints = get_type_hints(kind, include_extras=True)
    takes_words = _PROMPTED in hints or any(tyro.conf.Positional in get_args(hint) for hint in hints.values())
    loose = not words[0].startswith("-") and ":" not in words[0]
    if _PROMPTED in hints and loose:
        prompt = " ".join(itertools.takewhile(lambda word: not word.startswith("-") and ":" not in word, arguments))
        return f' Quote the prompt: "{prompt}".'
    return " A text or path with spaces needs quotes." if takes_words and loose else ""


def _flags_of(kind: type, prefix: str = "", choice: str = "") -> Iterator[tuple[str, str]]:
    """Each flag of a dataclass, and the choice that it belongs to: ("--prior3d.file", "prior3d:points")."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        inner, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        path = f"{prefix}{name.replace('_', '-')}"
        if group := registry.kind_of(inner):
            for member, cls in registry.members(group).items():
                yield f"{path}:{member}", ""
                yield from _flags_of(cls, f"{path}.", f"{path}:{member}")
        elif is_dataclass(inner) and isinstance(inner, type):
            yield from _flags_of(inner, "" if name in UNPREFIXED else f"{path}.", choice)
        elif tyro.conf.Positional not in marks and path not in WITHOUT_FLAG:
            yield f"--{path}", choice
