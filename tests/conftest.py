"""Fixtures shared by all tests, and how they are run."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import replace

import pytest
import torch
from hypothesis import settings

from dreamsplat.render.selftest import scene
from dreamsplat.types import Gaussians

settings.register_profile("repeatable", derandomize=True)
settings.register_profile("random", derandomize=False)
# An unrelated change cannot make these fail by chance; `--hypothesis-profile=random` searches further.
settings.load_profile("repeatable")

# Tests work on small tensors, on which torch's threads wait for each other far longer than they work.
torch.set_num_threads(1)

MISSING = re.compile(r"Skipped: (needs |could not import |.* is not installed)")
"""Reasons of tests that are skipped for want of a program or a package."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Continuous integration has everything that a test may need, so nothing may be skipped there for want of it."""
    parser.addoption("--nothing-missing", action="store_true", help="fail where a needed program or package is missing")


def _fail_if_missing(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    if report.skipped and config.getoption("--nothing-missing") and isinstance(report.longrepr, tuple):
        if MISSING.match(report.longrepr[2]):
            report.outcome, report.longrepr = "failed", report.longrepr[2]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """See `pytest_addoption`: single tests."""
    report = yield
    _fail_if_missing(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """See `pytest_addoption`: whole files."""
    report = yield
    _fail_if_missing(report, collector.config)
    return report


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of randomness."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def random_gaussians(generator: torch.Generator) -> Callable[..., Gaussians]:
    """`random_gaussians(count, sh_degree=0)`: Gaussians in the unit cube around the origin."""

    def make(count: int, sh_degree: int = 0) -> Gaussians:
        made = scene(count, sh_degree, spread=0.5, scale=(0.01, 0.11), sh=(-0.5, 0.5), generator=generator)
        return replace(made, quats=torch.nn.functional.normalize(made.quats, dim=-1))

    return make
