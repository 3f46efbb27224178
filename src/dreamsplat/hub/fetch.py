"""Other people's checkpoints: where they are, and fetching them from the Hugging Face hub.

A model is named by a folder or by a hub id, "owner/name". `local_folder` turns either into a folder that holds every
file asked for; from there on nothing touches the network. What exists on this machine is never taken for a hub id.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partialmethod
from pathlib import Path
from typing import Any, TypeVar

from dreamsplat.errors import FileProblem
from dreamsplat.hub.cache import cached, is_offline, missing_files
from dreamsplat.hub.download import fetch_files
from dreamsplat.hub.explain import explained, is_unreachable, why_missing, why_not_listed
from dreamsplat.hub.names import NOT_A_MODEL, is_hub_id, path_of
from dreamsplat.hub.optional import require
from dreamsplat.hub.variants import best_variant, variant_of
from dreamsplat.hub.weights_file import refuse_file

T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """What settings need of one checkpoint."""

    models: tuple[str, ...]
    """Its name, a folder or a hub id; several are equal, and the first that is available is taken."""
    revision: str | None
    """Branch, tag or commit of the hub id; None takes "main"."""
    files: tuple[str, ...]
    """Glob patterns, such as "unet/*.safetensors", each of which must match a file."""
    optional: tuple[str, ...] = ()
    """Glob patterns of what is fetched too if the repository has it."""
    half: bool = False
    """Whether weights are fetched in half precision where the repository has them so."""


def local_folder(
    model: str, revision: str | None, files: Sequence[str], optional: Sequence[str] = (), half: bool = False
) -> Path:
    """The folder of a model: itself, or its place in the hub's cache, where what is missing is fetched.

    The arguments are those of `Wanted`.

    Raises:
        FileProblem: if files are missing and cannot be fetched, or the model is a file.
    """
    folder = path_of(model)
    if folder is None:
        found = found_here([model], revision, files)
        if found is not None:
            return found[1]
        wanted = Wanted((model,), revision, tuple(files), tuple(optional), half)
        folder = fetch_files(model, revision, listed(model, wanted))
    if folder.is_file():
        raise refuse_file(model, folder)
    missing = missing_files(folder, files)
    if missing:
        raise FileProblem(why_missing(model, revision, folder, missing))
    return folder


def listed(model: str, wanted: Wanted) -> list[Any]:
    """The files of a repository that would be fetched, as `DryRunFileInfo` of huggingface_hub: name, size, cached.

    Of the variants of a network's weights there is one: the one that is cached already, or else the one preferred.

    Raises:
        FileProblem: if the hub does not list them, or the repository lacks one.
    """
    patterns = [*wanted.files, *wanted.optional]
    patterns += [f"{pattern}.index*.json" for pattern in patterns if pattern.endswith(".safetensors")]
    with explained(model, wanted.revision, wanted.files):
        hub = require("huggingface_hub", "diffusion")
        bar = require("tqdm.auto", "diffusion").tqdm
        silent = type("Silent", (bar,), {"__init__": partialmethod(bar.__init__, disable=True)})
        found = hub.snapshot_download(
            model, revision=wanted.revision, allow_patterns=patterns, dry_run=True, tqdm_class=silent
        )
        missing = [pattern for pattern in wanted.files if not any(_matches(f.filename, pattern) for f in found)]
        if missing:
            every = hub.HfApi().list_repo_files(model, revision=wanted.revision)
            raise FileProblem(why_not_listed(model, wanted.revision, missing, every))
    weights: defaultdict[str, defaultdict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    others: list[Any] = []
    for file in found:
        folder, _, name = file.filename.rpartition("/")
        variant = variant_of(name)
        (others if variant is None else weights[folder][variant]).append(file)
    return others + [file for variants in weights.values() for file in _one_variant(variants, wanted.half)]


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern) and name.count("/") == pattern.count("/")


def _one_variant(variants: dict[str, list[Any]], half: bool) -> list[Any]:
    with_weights = {
        v: files for v, files in variants.items() if any(f.filename.endswith(".safetensors") for f in files)
    }
    here = [v for v, files in with_weights.items() if all(file.is_cached for file in files)]
    return with_weights[best_variant(here or with_weights, half)] if with_weights else []


def found_here(models: Iterable[str], revision: str | None, files: Sequence[str]) -> tuple[str, Path] | None:
    """The first of several equal models that is on this machine, and its folder; nothing is fetched."""
    for model in models:
        folder = path_of(model) or (cached(model, revision) if is_hub_id(model) else None)
        if folder is not None and folder.is_dir() and not missing_files(folder, files):
            return model, folder
    return None


@dataclass(frozen=True)
class Plan:
    """What is fetched for one checkpoint."""

    model: str
    """The first of its names that is available."""
    files: tuple[Any, ...]
    """`DryRunFileInfo`s of huggingface_hub; none if nothing is looked for on the hub."""
    folder: Path | None
    """Where it is, if it is complete on this machine."""

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(file.file_size or 0 for file in self.files)

    @property
    def missing_bytes(self) -> int:
        """Of those that are not on this machine."""
        return sum(file.file_size or 0 for file in self.files if not file.is_cached)


def plan(wanted: Wanted) -> Plan:
    """What would be fetched for a checkpoint; nothing is.

    Raises:
        FileProblem: with the reason of each of its names, if none is available.
    """
    found = found_here(wanted.models, wanted.revision, wanted.files)
    if found is not None and (is_offline() or path_of(found[0])):
        return Plan(found[0], (), found[1])
    names = wanted.models if found is None else found[:1]
    model, files = _first(names, lambda model: _listed_or_refused(model, wanted))
    return Plan(
        model, tuple(files), None if any(not file.is_cached for file in files) else cached(model, wanted.revision)
    )


def check_available(model: str, revision: str | None, files: Sequence[str]) -> None:
    """Refuse a model that is certainly not available; nothing is fetched.

    Raises:
        FileProblem: for a folder that lacks files, for a file, for what is neither here nor a hub id, and, while the
            network is forbidden, for what is not in the cache.
    """
    if path_of(model) is not None or is_offline():
        local_folder(model, revision, files)
    elif not is_hub_id(model):
        raise FileProblem(f"{model}: {NOT_A_MODEL}")


def first_available(
    models: Sequence[str],
    revision: str | None,
    files: Sequence[str],
    optional: Sequence[str] = (),
    half: bool = False,
) -> tuple[str, Path]:
    """The first available of several equal models, and its folder; cached ones before any is fetched.

    Raises:
        FileProblem: with the reason of each, if none is available.
    """
    found = found_here(models, revision, files)
    return found or _first(models, lambda model: local_folder(model, revision, files, optional, half))


def _first(models: Sequence[str], ask: Callable[[str], T]) -> tuple[str, T]:
    """The first of several equal models that can be asked for, and the answer."""
    problems: list[str] = []
    for model in models:
        try:
            return model, ask(model)
        except FileProblem as problem:
            problems.append(str(problem))
            if len(models) == 1:
                raise
            if is_unreachable(problem):
                break  # and so would be the others
    raise FileProblem(f"None of {', '.join(models)} is available: {' | '.join(problems)}")


def _listed_or_refused(model: str, wanted: Wanted) -> list[Any]:
    check_available(model, wanted.revision, wanted.files)
    return listed(model, wanted)
