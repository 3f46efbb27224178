"""What a run, a picture or a file can be made with, by name: built in, or added by other packages.

A package adds a member by an entry point of the group `dreamsplat.<kind>`. In its pyproject.toml:

    [project.entry-points."dreamsplat.losses"]
    tug = "my_package.losses:Tug"

The names become flags (`loss:tug`), the "kind" of `config.json`, suffixes of files and names of renderers. A member is
imported when its kind is first read. docs/extending.md shows how to write one.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dreamsplat.errors import InvalidInput

_NAME = re.compile(r"[a-z][a-z0-9-]*|(\.[a-z0-9]+)+")
_log = logging.getLogger(__name__)


class Members(Mapping[str, Any]):
    """The members of one kind by name: the built-in ones, then those of other packages."""

    def __init__(self, kind: str, base: str, built_in: dict[str, str]) -> None:
        """Nothing is imported yet.

        Args:
            kind: Such as "losses".
            base: "module:Class". Members are frozen dataclasses derived from it if it is abstract, else instances.
            built_in: Name -> "module:member".
        """
        self.kind, self.base, self.built_in = kind, base, built_in

    @cached_property
    def loaded(self) -> dict[str, Any]:
        """All members, imported. One of another package that cannot be used is reported on one line and left out."""
        base = _imported(self.base)
        found = {name: _imported(path) for name, path in self.built_in.items()}
        points = entry_points(group=f"dreamsplat.{self.kind}")
        for point in sorted(points, key=lambda point: (_package(point), point.name)):
            try:
                if point.name in found:
                    raise InvalidInput("the name is taken.")
                member = point.load()
                _check(point.name, member, base)
                found[point.name] = member
            except (Exception, SystemExit) as error:  # Whatever a stranger's module does when it is imported.
                why = f"{'' if isinstance(error, InvalidInput) else f'{type(error).__name__}: '}{error}"
                _log.warning("%s: '%s' of the package %s is ignored: %s",
                             point.group, point.name, _package(point), (why.splitlines() or [""])[0])  # fmt: skip
        return found

    def __getitem__(self, name: str) -> Any:
        """The member of a name."""
        return self.loaded[name]

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.loaded)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.loaded)


KINDS: dict[str, Members] = {
    members.kind: members
    for members in (
        Members("losses", "dreamsplat.guidance.base:AbstractLoss", {
            "sds": "dreamsplat.guidance.sds:SDS",
            "sjc": "dreamsplat.guidance.sjc:SJC",
            "csd": "dreamsplat.guidance.csd:CSD",
            "ism": "dreamsplat.guidance.ism:ISM",
            "vsd": "dreamsplat.guidance.vsd:VSD",
        }),
        Members("priors2d", "dreamsplat.priors2d.base:AbstractImagePriorSpec", {
            "bundled": "dreamsplat.priors2d.bundled:BundledImagePrior",
            "stable-diffusion": "dreamsplat.priors2d.stable_diffusion:StableDiffusion",
            "perfect": "dreamsplat.priors2d.perfect:PerfectTeacher",
        }),
        Members("priors3d", "dreamsplat.priors3d.base:AbstractCloudPriorSpec", {
            "bundled": "dreamsplat.priors3d.bundled:BundledCloudPrior",
            "shap-e": "dreamsplat.priors3d.shap_e:ShapE",
            "points": "dreamsplat.priors3d.from_file:FromFile",
            "grey-ball": "dreamsplat.priors3d.grey_ball:GreyBall",
        }),
        Members("representations", "dreamsplat.representations.base:AbstractRepresentationSpec", {
            "splats": "dreamsplat.representations.splats:Splats",
            "voxel-field": "dreamsplat.representations.voxel_field:VoxelField",
        }),
        Members("times", "dreamsplat.method.schedule:AbstractTimes", {
            "two-stage": "dreamsplat.method.schedule:Times",
            "annealed": "dreamsplat.method.schedule:AnnealedTimes",
        }),
        Members("renderers", "dreamsplat.render:Backend", {
            "cpu": "dreamsplat.render:CPU",
            "gsplat": "dreamsplat.render:GSPLAT",
            "gswarp": "dreamsplat.render:GSWARP",
            "tiled": "dreamsplat.render:TILED",
            "reference": "dreamsplat.render:REFERENCE",
        }),
        Members("formats", "dreamsplat.formats.base:Format", {
            ".ply": "dreamsplat.formats.base:PLY",
            ".compressed.ply": "dreamsplat.formats.base:COMPRESSED_PLY",
            ".glb": "dreamsplat.formats.base:GLB",
            ".html": "dreamsplat.formats.base:HTML",
            ".sog": "dreamsplat.formats.base:SOG",
            ".splat": "dreamsplat.formats.base:SPLAT",
            ".spz": "dreamsplat.formats.base:SPZ",
        }),
        Members("scorers", "dreamsplat.evaluate.scorers:AbstractScorer", {
            "looks": "dreamsplat.evaluate.scorers:Looks",
        }),
    )
}  # fmt: skip
"""Every kind there is. Renderers are in order of preference; a format's name is the end of its files' names."""


def members(kind: str) -> Mapping[str, Any]:
    """The members of a kind by name; nothing is imported before the first of them is asked for."""
    return KINDS[kind]


def names(kind: str) -> list[str]:
    """The names of a kind, those of other packages unchecked: nothing is imported."""
    return [*KINDS[kind].built_in, *(point.name for point in entry_points(group=f"dreamsplat.{kind}"))]


def by_name(kind: str, name: str) -> Any:
    """One member.

    Raises:
        InvalidInput: if there is none of that name.
    """
    if name not in KINDS[kind]:
        raise InvalidInput(f"{kind}: {name[:40]!r}, expected one of {', '.join(KINDS[kind])}.")
    return KINDS[kind][name]


def kind_of(cls: Any) -> str | None:
    """The kind whose members share this abstract class, as a field of `DreamConfig` is declared; else None."""
    return next((kind for kind, these in KINDS.items() if these.base == _path(cls) and cls is not object), None)


def name_of(cls: type) -> str | None:
    """The name of a member's class: "sds"; that of an unregistered one is "module:Class"; None for other classes."""
    kind = next(filter(None, map(kind_of, cls.__mro__)), None)
    if kind is None:
        return None
    return next((name for name, member in KINDS[kind].items() if member is cls), _path(cls))


def _path(cls: Any) -> str:
    return f"{cls.__module__}:{cls.__qualname__}" if isinstance(cls, type) else ""


def _imported(path: str) -> Any:
    return EntryPoint("", path, "").load()


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "?"


def _check(name: str, member: Any, base: type) -> None:
    """Refuse what the rest of the package would stumble over."""
    if not _NAME.fullmatch(name):
        raise InvalidInput("expected a name of lower-case letters, digits and hyphens.")
    if not inspect.isabstract(base):
        if not isinstance(member, base):
            raise InvalidInput(f"expected a {base.__qualname__}, received a {type(member).__qualname__}.")
        return
    if not (isinstance(member, type) and issubclass(member, base)):
        raise InvalidInput(f"expected a class derived from {_path(base)}.")
    if missing := sorted(getattr(member, "__abstractmethods__", ())):
        raise InvalidInput(f"{member.__qualname__} lacks {', '.join(missing)}.")
    if not (dataclasses.is_dataclass(member) and member.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        raise InvalidInput(f"{member.__qualname__} is not a frozen dataclass.")
    from dreamsplat.codec import check_fields  # Here and not above: only other packages' members need it.

    check_fields(member)
