"""Packages that are installed on request only."""

from __future__ import annotations

import importlib
from types import ModuleType

from dreamsplat.errors import MissingDependency


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingDependency: with the command that installs it, `pip install "dreamsplat[extra]"`.
    """
    try:
        return importlib.import_module(package)
    except ImportError as problem:
        raise MissingDependency(f'{package}: {problem}. Run `pip install "dreamsplat[{extra}]"`.') from problem
