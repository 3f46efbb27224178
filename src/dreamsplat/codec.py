"""Frozen dataclasses of settings as JSON and back, every field checked by its type; and their JSON Schema.

| in Python | in JSON |
|---|---|
| a dataclass | an object with a member per field |
| a member of the registry, such as `SDS(...)` | an object with its name under "kind": `{"kind": "sds", ...}` |
| a tuple | an array |
| a `Path` | a string |
| `bool`, `int`, `float`, `str`, `None` | the same; NaN and infinity are refused, and an `int` may stand for a `float` |

Types are strict: no "5" and no 1.0 for an `int`, no 1 for a `bool`. Unknown names are refused; missing ones take the
values of a base, or else the defaults of their class.
"""

from __future__ import annotations

import dataclasses
import functools
import reprlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import EllipsisType, NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dreamsplat import registry
from dreamsplat.errors import InvalidInput, printable

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

T = TypeVar("T")
_MOST = 2**63
"""Bound of whole numbers, either side: what torch counts with."""
_EXPECTED = {
    "bool_type": "true or false", "finite_number": "a finite number", "float_type": "a number",
    "int_type": "a whole number", "int_from_float": "a whole number", "path_type": "a path", "string_type": "text",
    "string_unicode": "valid Unicode", "tuple_type": "a list", "less_than_equal": f"at most {_MOST}",
    "greater_than_equal": f"at least {-_MOST}", "dict_type": "an object", "model_attributes_type": "an object",
    "too_long": "fewer items",
}  # fmt: skip
"""Type of pydantic's errors -> what the value should have been."""


def to_json(value: Any) -> Any:
    """Settings as plain values; see the table above. `from_json` reads them back, from classes that are registered."""
    if dataclasses.is_dataclass(value):
        name = registry.name_of(type(value))
        kind = {} if name is None else {"kind": name}
        return kind | {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_json(cls: type[T], values: Any, base: T | None = None) -> T:
    """The settings that plain values describe.

    Args:
        cls: A dataclass.
        values: What `json.loads` gives.
        base: Where missing values come from, also those of nested settings of the same kind; None takes the defaults
            of each class.

    Raises:
        InvalidInput: naming the first setting that is unknown, missing, of another type or out of its range.
    """
    from pydantic import ValidationError  # Here and not above: it takes a fifth of a second.

    merged = values if base is None else _over(to_json(base), values)
    try:
        return _adapter(cls).validate_python(merged)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False)[0], merged) from None


def schema(cls: type) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what `from_json` takes without a base, described by the fields' docstrings."""
    return _adapter(cls).json_schema()


def paths(value: Any) -> dict[str, Path]:
    """Every file or folder that settings name, by dotted name: {"prior3d.file": Path("chair.glb")}."""
    return dict(_paths(value, ""))


def check_fields(cls: type) -> None:
    """Check that all fields of a dataclass have types that JSON and the command line can express.

    Raises:
        InvalidInput: naming the field.
    """
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name == "kind":
            raise InvalidInput(f"{cls.__qualname__}.kind: the name is taken.")
        try:
            _checked(hints[field.name])
        except TypeError as error:
            raise InvalidInput(f"{cls.__qualname__}.{field.name}: {error}.") from error


@functools.cache
def field_docs(cls: type) -> dict[str, str]:
    """The docstring below each field of a dataclass, on one line, by the field's name."""
    import docstring_parser

    documented = [docstring_parser.parse_from_object(base).params for base in reversed(cls.__mro__[:-1])]
    return {p.arg_name: " ".join((p.description or "").split()) for params in documented for p in params}


def _paths(value: Any, name: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path) and value != Path():  # An empty path names no file.
        yield name, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _paths(getattr(value, field.name), f"{name}.{field.name}".removeprefix("."))


def _over(base: Any, values: Any) -> Any:
    """The values, with what they lack taken from the base as far down as both are of the same kind."""
    if not (isinstance(base, dict) and isinstance(values, dict)):
        return values
    if values.get("kind", base.get("kind")) != base.get("kind"):
        return values
    return base | {name: _over(base.get(name), value) for name, value in values.items()}


@functools.cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(_checked(cls))


def _checked(hint: Any) -> Any:
    """What pydantic checks a value of a type hint against; a TypeError if it is not a type for settings."""
    from pydantic import Field, Strict, WithJsonSchema, WrapValidator

    origin, inner = get_origin(hint), get_args(hint)
    if kind := registry.kind_of(hint):
        first, *others = (_settings(cls, name) for name, cls in registry.members(kind).items())
        return Annotated[Union[first, *others], Field(discriminator="kind")] if others else first
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _settings(hint, registry.name_of(hint))
    if hint in (bool, str, NoneType) or origin is Literal:
        return hint
    if hint is int:
        return Annotated[int, Field(ge=-_MOST, le=_MOST), WithJsonSchema({"type": "integer"})]
    if hint is float:
        return Annotated[float, WrapValidator(_number)]
    if hint is Path:
        return Annotated[Path, Strict(False)]
    if origin is tuple:
        items = tuple(item if isinstance(item, EllipsisType) else _checked(item) for item in inner)
        return Annotated[tuple[items], Strict(False)]
    if origin in (Union, UnionType):
        return Union[tuple(map(_checked, inner))]  # noqa: UP007 (a union of a computed tuple)
    raise TypeError(f"{getattr(hint, '__name__', hint)} is not a type for settings")


@functools.cache
def _settings(cls: Any, name: str | None) -> Any:
    """The check of a dataclass: that of an object with its fields, which then becomes an instance."""
    from typing import NotRequired, Required  # typing's own is too weak before Python 3.12

    from pydantic import AfterValidator, ConfigDict, Field
    from typing_extensions import TypedDict

    hints, docs = get_type_hints(cls), field_docs(cls)
    members: dict[str, Any] = {} if name is None else {"kind": Required[Literal[name]]}
    for field in dataclasses.fields(cls):
        needed, extra = Required, None
        if field.default is not dataclasses.MISSING:
            needed, extra = NotRequired, {"default": to_json(field.default)}
        elif field.default_factory is not dataclasses.MISSING:
            needed, extra = NotRequired, {"default": to_json(field.default_factory())}
        about: Any = Field(description=docs.get(field.name), json_schema_extra=extra)
        members[field.name] = needed[Annotated[_checked(hints[field.name]), about]]
    checked: Any = TypedDict(cls.__name__, members)  # type: ignore[operator]
    checked.__doc__ = (cls.__doc__ or "").partition("\n\n")[0]
    checked.__pydantic_config__ = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    return Annotated[checked, AfterValidator(lambda fields: cls(**{n: v for n, v in fields.items() if n != "kind"}))]


def _number(value: Any, check: Callable[[Any], float]) -> float:
    """A number for a `float`; a whole one stays an `int`, so that what is read is written again to the letter."""
    checked = check(value)
    return value if isinstance(value, int) else checked


def _refusal(error: ErrorDetails, values: Any) -> InvalidInput:
    """Pydantic's error in words of our own."""
    location, wrong, context = error["loc"], error["input"], error.get("ctx", {})
    setting, kind = ".".join(_names(location, values, error["type"] == "missing")), error["type"]
    if isinstance(cause := context.get("error"), InvalidInput):  # of a dataclass's own check
        inner = "" if cause.setting == setting else cause.setting.removeprefix(f"{setting}.")
        return InvalidInput(cause.message, setting=".".join(filter(None, (setting, inner))), advice=cause.advice)
    if kind in ("extra_forbidden", "invalid_key"):
        return InvalidInput("unknown setting.", setting=setting)
    if kind == "missing":
        return InvalidInput("more items expected." if isinstance(location[-1], int) else "missing.", setting=setting)
    if kind == "union_tag_not_found":
        return InvalidInput("missing.", setting=f"{setting}.kind")
    advice = ""
    expected = _EXPECTED.get(kind) or context.get("expected") or error["msg"]
    if kind == "union_tag_invalid":
        setting, wrong, expected = f"{setting}.kind", wrong["kind"], f"one of {context['expected_tags']}"
        if isinstance(wrong, str) and ":" in wrong:  # `registry.name_of` a class that is not registered
            advice = "Use the Python program that has this class; `execute(folder, config, resume=True)` resumes a run."
    return InvalidInput(f"{reprlib.repr(wrong)}, expected {expected}.", setting=setting, advice=advice)


def _names(location: tuple[int | str, ...], values: Any, missing: bool) -> Iterator[str]:
    """The names on the way to a setting, without what pydantic adds: kinds, places in tuples, options of unions."""
    for depth, part in enumerate(location, 1):
        if isinstance(values, dict) and (part in values or (missing and depth == len(location))):
            yield printable(str(part))[:60]
            values = values.get(part)
