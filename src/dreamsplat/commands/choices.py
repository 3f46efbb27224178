"""Flags for settings that the registry knows several kinds of: a subcommand for each, such as `loss:ism`."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Annotated, Any, Union, get_type_hints

import tyro
from tyro.constructors import (
    MISSING_NONPROP,
    ConstructorRegistry,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from dreamsplat import registry
from dreamsplat.codec import field_docs
from dreamsplat.config import DreamConfig

CHOICES = ConstructorRegistry()
"""To be passed to `tyro.cli` as its `registry`."""


_PROMPT_HELP = 'What to make, such as "a red mushroom". `dreamsplat words` lists what the bundled models know.'
_PROMPT = tyro.conf.Positional[
    Annotated[str, tyro.conf.arg(metavar="PROMPT", help=_PROMPT_HELP, help_behavior_hint="")]
]
"""Before all flags, without a flag of its own."""


@CHOICES.struct_rule
def _offer_members(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A field that is declared by an abstract class of the registry takes any member of that kind.

    All dataclasses come this way, since tyro itself would keep the line breaks of their fields' docstrings.
    """
    if not dataclasses.is_dataclass(info.type):
        return None
    hints = get_type_hints(info.type, include_extras=True)
    if info.type is DreamConfig:
        hints["prompt"] = _PROMPT
    fields = dataclasses.fields(info.type)
    return StructConstructorSpec(info.type, tuple(_flag(info, field, hints[field.name]) for field in fields))


def _flag(info: StructTypeInfo, field: dataclasses.Field[Any], hint: Any) -> StructFieldSpec:
    # The help is asked for only where it is shown: docstrings are parsed from the source, which takes its time.
    about = partial(_help, info.type, field.name)
    return StructFieldSpec(field.name, _flag_type(hint), _default(field, info.default), about)


def _help(cls: type, name: str) -> str | None:
    return field_docs(cls).get(name)


def _flag_type(hint: Any) -> Any:
    """The members in place of their abstract class; a single one gives plain flags without a subcommand."""
    if (kind := registry.kind_of(hint)) is None:
        return hint
    named = [(cls, tyro.conf.subcommand(name)) for name, cls in registry.members(kind).items()]
    return Union[tuple(Annotated[option] for option in named)] if len(named) > 1 else named[0][0]  # noqa: UP007


def _default(field: dataclasses.Field[Any], whole: Any) -> Any:
    if dataclasses.is_dataclass(whole):
        return getattr(whole, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING_NONPROP if field.default is dataclasses.MISSING else field.default
