"""Checkpoints of other people: where they lie, fetching them from the Hugging Face hub, and saying what went wrong.

A model is named by a folder or by a hub id, "owner/name". `local_folder` turns either into a folder that holds every
file asked for; from there on nothing touches the network. What the libraries raise while they read it becomes one line
in `explained`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch

from dreamsplat.errors import DreamsplatError, FileProblem, MissingDependency

NOT_FETCHED = ("*.fp16.*", "*.non_ema.*")
"""Further copies of the weights, which repositories often hold beside the ones that are read."""
PICKLES = {".bin", ".ckpt", ".pt", ".pth"}
"""Suffixes of pickled weights, which can run code when they are read."""


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingDependency: with the command that installs it, `pip install "dreamsplat[extra]"`.
    """
    try:
        return importlib.import_module(package)
    except ImportError as problem:
        raise MissingDependency(f'{package}: {problem}. Run `pip install "dreamsplat[{extra}]"`.') from problem


def cached(model: str, revision: str | None = None) -> Path | None:
    """The folder of a hub id in the hub's cache, or None; it may hold only some of the repository's files."""
    repository = Path(_hub_constants().HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    reference = repository / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit if commit else None
    return snapshot if snapshot and snapshot.is_dir() else None


def local_folder(model: str, revision: str | None, files: Sequence[str]) -> Path:
    """The folder of a model: itself, or its place in the hub's cache, where what is missing is fetched.

    Args:
        model: A folder, or a hub id "owner/name".
        revision: Branch, tag or commit of the hub id; None takes "main".
        files: Glob patterns, such as "unet/*.safetensors", each of which must match a file.

    Raises:
        FileProblem: if files are missing and cannot be fetched.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        snapshot = cached(model, revision)
        if snapshot is not None and not missing_files(snapshot, files):
            return snapshot
        with explained(model, revision, files):
            hub = require("huggingface_hub", "diffusion")
            patterns = {"allow_patterns": list(files), "ignore_patterns": list(NOT_FETCHED)}
            folder = Path(hub.snapshot_download(model, revision=revision, **patterns))
    missing = missing_files(folder, files)
    if missing:
        raise FileProblem(f"{_named(model, revision)}: {_why_missing(model, revision, folder, missing)}")
    return folder


def first_available(models: Sequence[str], revision: str | None, files: Sequence[str]) -> tuple[str, Path]:
    """The first of several equal models that can be had, and its folder; cached ones before any is fetched.

    Raises:
        FileProblem: with the reason of each, if none can be had.
    """
    for model in models:
        snapshot = cached(model, revision)
        if snapshot is not None and not missing_files(snapshot, files):
            return model, snapshot
    problems: list[str] = []
    for model in models:
        try:
            return model, local_folder(model, revision, files)
        except FileProblem as problem:
            problems.append(str(problem))
            if _unreachable(problem):
                break  # and so would be the others
    raise FileProblem(f"None of {', '.join(models)} can be had: {' | '.join(problems)}")


def missing_files(folder: Path, files: Sequence[str]) -> list[str]:
    """The patterns of `files` that match nothing in a folder."""
    return [pattern for pattern in files if not any(folder.glob(pattern))]


@contextmanager
def explained(model: str, revision: str | None = None, files: Sequence[str] = ()) -> Iterator[None]:
    """Turn what `from_pretrained` and downloads raise into one line: the model, the reason, what to do.

    Args:
        model: A folder, or a hub id "owner/name".
        revision: Branch, tag or commit of the hub id.
        files: Glob patterns of what is read; with a model that is not in the cache, they are named as missing.

    Raises:
        FileProblem: instead of every OSError, wrong shape, broken file and unknown repository.
    """
    try:
        yield
    except (DreamsplatError, torch.OutOfMemoryError):
        raise
    except Exception as problem:
        # Anything: a malformed config makes the libraries fail with every kind of error.
        raise FileProblem(f"{_named(model, revision)}: {_reason(problem, model, revision, files)}") from problem


def _reason(problem: Exception, model: str, revision: str | None, files: Sequence[str]) -> str:
    from huggingface_hub import errors
    from safetensors import SafetensorError

    kinds = {type(cause) for cause in _causes(problem)}

    def among(*classes: type[Exception]) -> bool:
        return any(issubclass(kind, classes) for kind in kinds)

    if among(errors.HFValidationError):
        return 'no such folder, and not a hub id "owner/name" either. Give one of the two.'
    if among(errors.GatedRepoError):
        return f"closed until its terms are accepted at https://huggingface.co/{model}; then run `hf auth login`."
    if among(errors.RepositoryNotFoundError):
        return "no such repository on the hub: removed, renamed or private. Name another model, or a local folder."
    if among(errors.RevisionNotFoundError):
        return f"the repository has no revision '{revision}'. Leave the revision out, or name another."
    if _unreachable(problem):
        snapshot = cached(model, revision)
        return _not_cached(model, revision, missing_files(snapshot, files) if snapshot else files)
    if among(errors.EntryNotFoundError):
        return f"the repository lacks a file ({_line(problem)}). Name another model."
    if among(errors.HfHubHTTPError):
        return f"the hub refused ({_line(problem)}). Try again later, or name a local folder."
    if among(SafetensorError):
        return f"a weights file is cut off or corrupt ({_line(problem)}). Fetch it again."
    if isinstance(problem, OSError) and problem.errno:
        return f"{_line(problem)}. Check the rights of its folder and the space on the disk."
    if isinstance(problem, OSError):
        return f"{_line(problem)}. Expected a complete checkpoint in the format of diffusers."
    if isinstance(problem, (RuntimeError, ValueError)):
        return f"its weights and its config do not fit ({_line(problem)}). Fetch it again, or name another model."
    return f"{type(problem).__name__}: {_line(problem)}. Try again, or name another model."


def _why_missing(model: str, revision: str | None, folder: Path, missing: Sequence[str]) -> str:
    if not Path(model).expanduser().is_dir() and _offline():
        return _not_cached(model, revision, missing)
    pickles = [p.name for pattern in missing for p in (folder / pattern).parent.glob("*") if p.suffix in PICKLES]
    if pickles:
        return (
            f"has {pickles[0]} instead of {', '.join(missing)}, and a pickle can run code. "
            "Save it again with safe_serialization=True."
        )
    return f"has no {', '.join(missing)}. Expected a complete checkpoint in the format of diffusers, in safetensors."


def _not_cached(model: str, revision: str | None, missing: Sequence[str]) -> str:
    command = f"hf download {model}" + (f" --revision {revision}" if revision else "")
    why = "HF_HUB_OFFLINE=1 is set" if _offline() else "the hub cannot be reached"
    return (
        f"{', '.join(missing) or 'files'} missing in the cache {_hub_constants().HF_HUB_CACHE}, and {why}. "
        f"Run `{command}` where there is a network, or name a local folder."
    )


def _unreachable(problem: BaseException) -> bool:
    from huggingface_hub import errors

    return any(isinstance(cause, (errors.LocalEntryNotFoundError, ConnectionError)) for cause in _causes(problem))


def _offline() -> bool:
    return _hub_constants().HF_HUB_OFFLINE


def _hub_constants() -> ModuleType:
    return require("huggingface_hub.constants", "diffusion")


def _causes(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__ or problem.__context__


def _named(model: str, revision: str | None) -> str:
    return f"{model}@{revision}" if revision else model


def _line(problem: BaseException) -> str:
    """The first sentence of a library's message, on one line."""
    text = " ".join(str(problem).split()) or type(problem).__name__
    return text.split(". ")[0].rstrip(" .")[:240]
