"""What other packages add is found; what cannot be used is reported on one line and breaks nothing."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from dreamsplat import registry
from dreamsplat.errors import InvalidInput
from dreamsplat.guidance import ISM, SDS, AbstractLoss
from dreamsplat.registry import KINDS, Members

PLUG_INS = {
    "good": """
        from dataclasses import dataclass
        from dreamsplat import DreamConfig  # A package may import all of ours.
        from dreamsplat.guidance import SDS, AbstractLoss

        @dataclass(frozen=True)
        class Tug(AbstractLoss):
            strength: float = 1.0

            @property
            def needs_negative(self):
                return False

            def grad(self, prior, z, sigma, conditions, generator, state=None):
                return self.strength * z
    """,
    "loud": "raise RuntimeError('no such device\\nand more')",
    "leaving": "raise SystemExit(3)",
    "broken": "def f(:",
}


@pytest.fixture
def losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`losses(name="module:member", ...)`: the registry's losses with these entry points beside the built-in ones."""
    for name, source in PLUG_INS.items():
        indent = 8 if source.startswith("\n") else 0
        lines = [line[indent:] for line in source.splitlines()]
        (tmp_path / f"{name}_plug_in.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)

    def found(**points: str) -> Members:
        listed = [EntryPoint(name.replace("_", "-"), value, "dreamsplat.losses") for name, value in points.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: listed)
        return Members("losses", KINDS["losses"].base, KINDS["losses"].built_in)

    yield found
    for name in PLUG_INS:
        sys.modules.pop(f"{name}_plug_in", None)


def test_the_built_in_members_are_found_by_name() -> None:
    assert list(registry.members("losses"))[:5] == ["sds", "sjc", "csd", "ism", "vsd"]
    assert registry.by_name("losses", "ism") is ISM
    assert registry.name_of(SDS) == "sds" and registry.name_of(dict) is None
    assert registry.kind_of(AbstractLoss) == "losses" and registry.kind_of(SDS) is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_member_is_there_and_passes_the_check_of_other_packages(kind: str) -> None:
    base = registry._imported(KINDS[kind].base)
    for name in KINDS[kind].built_in:
        registry._check(name, registry.by_name(kind, name), base)


def test_a_member_that_is_not_there_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="losses: 'tug', expected one of sds, sjc"):
        registry.by_name("losses", "tug")


def test_a_loss_of_another_package_is_a_member_after_the_built_in_ones(losses) -> None:
    members = losses(tug="good_plug_in:Tug")
    assert list(members) == ["sds", "sjc", "csd", "ism", "vsd", "tug"] and members["tug"]().strength == 1.0


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("sds", "good_plug_in:Tug", "the name is taken."),
        ("Tug", "good_plug_in:Tug", "expected a name of lower-case letters, digits and hyphens."),
        ("tug", "good_plug_in:Tog", "AttributeError"),
        ("tug", "nowhere_plug_in:Tug", "ModuleNotFoundError: No module named 'nowhere_plug_in'"),
        ("tug", "loud_plug_in:Tug", "RuntimeError: no such device"),
        ("tug", "leaving_plug_in:Tug", "SystemExit: 3"),
        ("tug", "broken_plug_in:Tug", "SyntaxError"),
        ("tug", "good_plug_in:DreamConfig", "expected a class derived from dreamsplat.guidance.base:AbstractLoss."),
        ("tug", "good_plug_in:AbstractLoss", "AbstractLoss lacks grad, needs_negative."),
    ],
)
def test_a_member_that_cannot_be_used_is_left_out_with_one_line_that_names_its_package(
    losses, caplog: pytest.LogCaptureFixture, name: str, value: str, told: str
) -> None:
    with caplog.at_level(logging.WARNING, logger="dreamsplat"):
        members = losses(**{name: value, "zz_good": "good_plug_in:Tug"})
        assert "zz-good" in members and members.get(name, SDS) is SDS
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(f"dreamsplat.losses: '{name}' of the package ") and told in line and "\n" not in line


def test_settings_that_are_no_frozen_dataclass_or_of_types_that_json_has_not_are_left_out(losses, caplog, tmp_path):
    (tmp_path / "odd_plug_in.py").write_text(
        "from dataclasses import dataclass\nfrom dreamsplat.guidance import SDS\n"
        "class Plain(SDS.__mro__[1]):\n    needs_negative = False\n    def grad(self, *a): ...\n"
        "@dataclass(frozen=True)\nclass Listed(SDS):\n    parts: list = None\n"
        "@dataclass(frozen=True)\nclass Kind(SDS):\n    kind: str = ''\n"
    )
    members = losses(a="odd_plug_in:Plain", b="odd_plug_in:Listed", c="odd_plug_in:Kind")
    assert len(members) == 5
    told = [record.getMessage().split("ignored: ")[1] for record in caplog.records]
    assert told == [
        "Plain is not a frozen dataclass.",
        "Listed.parts: list is not a type for settings.",
        "Kind.kind: the name is taken.",
    ]


def test_listing_names_imports_nothing_before_it_is_asked() -> None:
    program = "import sys, dreamsplat.registry; print(*{m for m in sys.modules if m.startswith('dreamsplat.')})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"dreamsplat.registry", "dreamsplat.errors"}
