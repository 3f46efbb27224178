"""What goes wrong with other people's models, each on one line: the model, the reason, what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dreamsplat.errors import DreamsplatError, FileProblem
from dreamsplat.hub.cache import as_folder, cache_folder, cached, is_offline, missing_files

NOT_A_MODEL = 'no such folder, and not a hub id "owner/name" either. Give one of the two.'
"""The reason for refusing a name that cannot be a model."""
PICKLES = {".bin", ".ckpt", ".pt", ".pth"}
"""Suffixes of pickled weights, which can run code when they are read."""


@contextmanager
def explained(model: str, revision: str | None = None, files: Sequence[str] = ()) -> Iterator[None]:
    """Turn what `from_pretrained` and downloads raise into one line: the model, the reason, what to do.

    Args:
        model: A folder, or a hub id "owner/name".
        revision: Branch, tag or commit of the hub id.
        files: Glob patterns of what is read, named as missing if the model is not in the cache.

    Raises:
        FileProblem: instead of every OSError, wrong shape, broken file and unknown repository.
    """
    try:
        yield
    except DreamsplatError:
        raise
    except Exception as problem:  # Any: a malformed config makes the libraries fail with every kind of error.
        from torch import OutOfMemoryError

        if isinstance(problem, OutOfMemoryError):
            raise
        raise FileProblem(f"{_named(model, revision)}: {_reason(problem, model, revision, files)}") from problem


def why_missing(model: str, revision: str | None, folder: Path, missing: Sequence[str]) -> str:
    """The message about files that a folder, or a hub id's folder in the cache, lacks.

    Args:
        model: A folder, or a hub id "owner/name".
        revision: Branch, tag or commit of the hub id.
        folder: Where the files should be.
        missing: Glob patterns that match nothing there.
    """
    named = _named(model, revision)
    if not as_folder(model) and is_offline():
        return f"{named}: {_not_cached(model, revision, missing)}"
    pickles = [p.name for pattern in missing for p in (folder / pattern).parent.glob("*") if p.suffix in PICKLES]
    if pickles:
        return (
            f"{named}: has {pickles[0]} instead of {', '.join(missing)}, and a pickle can run code. "
            "Save it again with safe_serialization=True."
        )
    listed = ", ".join(missing)
    return f"{named}: has no {listed}. Expected a complete checkpoint in the format of diffusers, in safetensors."


def is_unreachable(problem: BaseException) -> bool:
    """Whether the network is down or forbidden."""
    from huggingface_hub import errors

    return any(isinstance(cause, (errors.LocalEntryNotFoundError, ConnectionError)) for cause in _causes(problem))


def _reason(problem: Exception, model: str, revision: str | None, files: Sequence[str]) -> str:
    from huggingface_hub import errors
    from safetensors import SafetensorError

    kinds = {type(cause) for cause in _causes(problem)}

    def among(*classes: type[Exception]) -> bool:
        return any(issubclass(kind, classes) for kind in kinds)

    if among(errors.HFValidationError):
        return NOT_A_MODEL
    if among(errors.GatedRepoError):
        return f"closed until its terms are accepted at https://huggingface.co/{model}; then run `hf auth login`."
    if among(errors.RepositoryNotFoundError):
        return "no such repository on the hub: removed, renamed or private. Name another model, or a local folder."
    if among(errors.RevisionNotFoundError):
        return f"the repository has no revision '{revision}'. Omit it, or name another."
    if is_unreachable(problem):
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


def _not_cached(model: str, revision: str | None, missing: Sequence[str]) -> str:
    command = f"hf download {model}" + (f" --revision {revision}" if revision else "")
    why = "HF_HUB_OFFLINE=1 is set" if is_offline() else "the hub cannot be reached"
    return (
        f"{', '.join(missing) or 'files'} missing in the cache {cache_folder()}, and {why}. "
        f"Run `{command}` where there is a network, or name a local folder."
    )


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
