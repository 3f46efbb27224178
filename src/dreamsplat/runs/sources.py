"""What a run was made of: the models that it loaded, and the files that its settings name."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dreamsplat import codec
from dreamsplat.hub.digests import file_sha256
from dreamsplat.hub.names import NAMES_A_MODEL, path_of

if TYPE_CHECKING:
    from dreamsplat.config import DreamConfig


Sources = dict[str, dict[str, str]]
"""Part of the settings -> name -> SHA-256 of a file, or commit of a repository."""

_Settings = TypeVar("_Settings")


def sources_of(config: DreamConfig, lifted: bool = True) -> Sources:
    """What each part of the settings stands for. Ask once the models are loaded: then everything is on this machine.

    Args:
        config: The settings.
        lifted: Whether the 3D prior was loaded; else its files may be gone, and it is left out.
    """
    found: Sources = {"prior3d": dict(config.prior3d.sources())} if lifted else {}
    found["prior2d"] = dict(config.prior2d.sources())
    for setting, path in codec.paths(config).items():
        part, _, below = setting.partition(".")
        if path.is_file() and (lifted or part != "prior3d"):
            found.setdefault(part, {})[below or part] = file_sha256(path)
    return found


def with_absolute_paths(settings: _Settings) -> _Settings:
    """The same settings, valid from any working directory."""
    if isinstance(settings, Path) and settings != Path():
        return settings.absolute()
    if not is_dataclass(settings) or isinstance(settings, type):
        return settings
    old = {field.name: getattr(settings, field.name) for field in fields(settings)}
    named = [field.name for field in fields(settings) if field.metadata == NAMES_A_MODEL and old[field.name]]
    here = {name: str(path.absolute()) for name in named if (path := path_of(old[name]))}
    changed = {name: new for name, value in old.items() if (new := with_absolute_paths(value)) is not value} | here
    return replace(settings, **changed) if changed else settings
