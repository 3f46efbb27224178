"""Fixtures shared by the tests of all commands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dreamsplat import commands
from dreamsplat.formats import save

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def logging_is_restored() -> Iterator[None]:
    logger = logging.getLogger("dreamsplat")
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:], logger.level = handlers, level


@pytest.fixture
def run(capsys) -> Run:
    """`run("generate", ...)` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = commands.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # tyro leaves this way, after help and after a wrong flag
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def asset(tmp_path, random_gaussians) -> Path:
    """A file of 40 Gaussians."""
    save(random_gaussians(40), tmp_path / "asset.ply")
    return tmp_path / "asset.ply"
