"""Arguments of a command become its frozen dataclass (tyro); what cannot be parsed is reported on one line."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from typing import Any, TypeVar

import tyro
from tyro import _errors as tyro_errors  # Private, hence the pin of tyro in pyproject.toml.

from dreamsplat.commands.choices import CHOICES
from dreamsplat.errors import DreamsplatError, InvalidInput

T = TypeVar("T")

_FLAG_IN_HELP = re.compile(r"(?<![\w-])--\w[\w.-]*|\b\w+:[\w-]+")
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

    def parse(words: Sequence[str]) -> T:
        return tyro.cli(kind, args=words, prog=f"dreamsplat {command}", registry=CHOICES, **settings)

    with flag_errors_in_one_line(command, parse):
        return parse(arguments)


@contextmanager
def flag_errors_in_one_line(command: str, parse: Callable[[Sequence[str]], object] | None = None) -> Iterator[None]:
    """Turn the boxes in which tyro complains into one line: an InvalidInput that names the command's help.

    Args:
        command: Its name.
        parse: Parses arguments; asked for help, it tells the flags that a person may have meant.
    """

    def refuse(event: tyro_errors.ParseErrorEvent) -> None:
        if isinstance(event, tyro_errors.InstantiationFailure):
            _raise_own_error(sys.exception())
        complaint = _in_words(event)
        if complaint and parse and isinstance(event, tyro_errors.UnrecognizedArgs):
            complaint += _perhaps_meant(event.tokens, parse)
        if complaint:
            raise InvalidInput(complaint, advice=f"See `dreamsplat {command} --help`.")

    with tyro_errors.on_parse_error(refuse):
        yield


def _raise_own_error(failure: BaseException | None) -> None:
    """Raise the error of ours that made tyro fail, if there is one."""
    if isinstance(failure, DreamsplatError):
        raise failure
    error = None if failure is None else failure.__context__
    if isinstance(error, DreamsplatError):
        # Settings that do not know where they sit name themselves only; tyro knows the rest.
        place = str(getattr(failure, "arg", "")).removeprefix("config.")
        setting = error.setting if "." in error.setting or not place else f"{place}.{error.setting}".rstrip(".")
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
            return f"{_name(argument)}: '{value}', expected one of {', '.join(choices)}."
        case tyro_errors.BadValue(argument=argument):
            return f"{_name(argument)}: expected {argument.lowered.metavar}."
        case tyro_errors.InstantiationFailure(message=message, argument=argument) if argument is not None:
            expected = f"expected {argument.lowered.metavar}"
            if number := _NO_NUMBER.fullmatch(message):
                return f"{_name(argument)}: {number[1]}, {expected}."
            return f"{_name(argument)}: {expected if message.startswith('Could not parse') else message.rstrip('.')}."
        case tyro_errors.InstantiationFailure(message=message):
            return message.rstrip(".") + "."
        case _:
            return ""


def _name(argument: Any) -> str:
    return str(argument.lowered.metavar) if argument.is_positional() else argument.lowered.name_or_flags[-1]


def _perhaps_meant(tokens: Sequence[str], parse: Callable[[Sequence[str]], object]) -> str:
    help_text = StringIO()
    with redirect_stdout(help_text), suppress(SystemExit):
        parse(["--help"])
    known = _FLAG_IN_HELP.findall(help_text.getvalue())
    near = [match for token in tokens for match in difflib.get_close_matches(token.split("=")[0], known, n=1)]
    return f" Perhaps you meant {near[0]}." if near else ""
