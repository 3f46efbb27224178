"""What a run was made of: the models that it loaded, and the files that its settings name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dreamsplat.config import DreamConfig


Sources = dict[str, dict[str, str]]
"""Part of the settings -> name -> SHA-256 of a file, or commit of a repository."""

_Settings = TypeVar("_Settings")


def sources_of(config: DreamConfig) -> Sources:
    """What each part of the settings stands for. Ask once the models are loaded: then everything is on this machine."""
    found: Sources = {"prior3d": dict(config.prior3d.sources()), "prior2d": dict(config.prior2d.sources())}
    for setting, path in files_of(config).items():
        part, _, below = setting.partition(".")
        if path.is_file():
            found.setdefault(part, {})[below or part] = _sha256(path)
    return found


def files_of(settings: Any) -> dict[str, Path]:
    """Every path in a tree of frozen dataclasses, by the dotted name of its setting; empty paths are left out."""
    return {name.removeprefix("."): path for name, path in _paths_in(settings)}


def with_absolute_paths(settings: _Settings) -> _Settings:
    """The same settings, valid from any working directory."""
    if isinstance(settings, Path) and settings != Path():
        return settings.absolute()
    if isinstance(settings, tuple):
        return type(settings)(map(with_absolute_paths, settings))
    if not is_dataclass(settings) or isinstance(settings, type):
        return settings
    changed = {name: new for name, old in _children(settings) if (new := with_absolute_paths(old)) != old}
    return replace(settings, **changed) if changed else settings


def _paths_in(value: Any) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path) and value != Path():
        yield "", value
    for name, inner in _children(value):
        yield from ((f".{name}{below}", path) for below, path in _paths_in(inner))


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(value):
        yield from ((f.name, getattr(value, f.name)) for f in fields(value))
    elif isinstance(value, tuple):
        yield from ((str(index), inner) for index, inner in enumerate(value))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
