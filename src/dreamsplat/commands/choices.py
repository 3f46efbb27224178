"""Flags for settings that the registry knows several kinds of: a subcommand for each, such as `loss:ism`."""

from __future__ import annotations

import dataclasses
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


_PROMPT = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PROMPT")]]  # Before all flags, without its own.
_PROMPT_HELP = 'What to make, such as "a red mushroom". `dreamsplat words` lists what the bundled models know.'


@CHOICES.struct_rule
def _offer_members(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A dataclass that declares a field by an abstract class of the registry takes any member of that kind."""
    if not dataclasses.is_dataclass(info.type):
        return None
    hints, docs = get_type_hints(info.type, include_extras=True), field_docs(info.type)
    if not any(map(registry.kind_of, hints.values())):
        return None
    if info.type is DreamConfig:
        hints["prompt"], docs["prompt"] = _PROMPT, _PROMPT_HELP
    fields = (
        StructFieldSpec(field.name, _flag_type(hints[field.name]), _default(field, info.default), docs.get(field.name))
        for field in dataclasses.fields(info.type)
    )
    return StructConstructorSpec(info.type, tuple(fields))


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
