"""Packages that are installed on request only."""

import importlib
from importlib.util import find_spec
from types import ModuleType

from dreamsplat.errors import MissingDependency


def check_installed(package: str, extra: str) -> None:
    """Refuse a package that is not there, with the message of `require`; nothing is imported."""
    if find_spec(package) is None:
        raise _missing(package, extra, "not installed")


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingDependency: with the command that installs it, `pip install "dreamsplat[extra]"`.
    """
    try:
        return importlib.import_module(package)
    except ImportError as problem:
        raise _missing(package, extra, problem) from problem


def _missing(package: str, extra: str, why: object) -> MissingDependency:
    return MissingDependency(f'{package}: {why}. Run `pip install "dreamsplat[{extra}]"`.')
