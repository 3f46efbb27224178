"""What goes wrong with other people's models, each on one line: the model, the reason, what to do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dreamsplat.errors import DreamsplatError, FileProblem
from dreamsplat.hub.cache import cache_folder, cached, is_offline, missing_files
from dreamsplat.hub.names import NOT_A_MODEL, PICKLES, is_hub_id, path_of
from dreamsplat.hub.weights_file import EMBEDDING, LORA, read_header, why_not_a_checkpoint


@contextmanager
def explained(model: str, revision: str | None = None, files: Sequence[str] = ()) -> Iterator[None]:
    """Turn what `from_pretrained` and downloads raise into one line: the model, the reason, what to do.

    The files are what is read; they are named as missing if the model is not in the cache.

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
    """The message about patterns that match nothing in a model's folder: its own, or that of the cache."""
    named = _named(model, revision)
    if reason := _another_thing(folder):
        return f"{named}: {reason}"
    if path_of(model) is None and is_offline():
        return f"{named}: {_not_cached(model, revision, missing)}"
    pickles = [p.name for pattern in missing for p in (folder / pattern).parent.glob("*") if p.suffix in PICKLES]
    if pickles:
        return (
            f"{named}: has {pickles[0]} instead of {', '.join(missing)}, and a pickle can run code. "
            "Save it again with safe_serialization=True."
        )
    return f"{named}: {_incomplete(missing)}"


def why_not_listed(model: str, revision: str | None, missing: Sequence[str], files: Sequence[str]) -> str:
    """The message about patterns that match none of the files, given by name, of a repository of the hub."""
    return f"{_named(model, revision)}: {_another_repository(model, files) or _incomplete(missing)}"


def is_unreachable(problem: BaseException) -> bool:
    """Whether the network is down or forbidden."""
    from huggingface_hub import errors

    kinds = [type(cause) for cause in _causes(problem)]
    # A listing that fails says why only in its cause.
    unlisted = errors.DryRunError in kinds and not any(issubclass(kind, errors.HfHubHTTPError) for kind in kinds)
    return unlisted or any(issubclass(kind, (errors.LocalEntryNotFoundError, ConnectionError)) for kind in kinds)


def _incomplete(missing: Sequence[str]) -> str:
    return f"has no {', '.join(missing)}. Expected a complete checkpoint in the format of diffusers, in safetensors."


def _another_thing(folder: Path) -> str | None:
    """What a folder holds instead of a checkpoint, if that can be told, and what to do."""
    if (folder / "config.json").is_file() and (folder.parent / "unet/config.json").is_file():
        return f"is a part of the checkpoint {folder.parent}. Name that folder."
    for path in sorted(folder.glob("*.safetensors")):
        header = read_header(path)
        if reason := why_not_a_checkpoint(header):
            return f"{path.name} {reason}"
        if any(name.startswith("model.diffusion_model.") for name in header.shapes):
            return f"holds a checkpoint in one file. Name that: {path}"
    return None


def _another_repository(model: str, files: Sequence[str]) -> str | None:
    """The same for a repository of the hub, told from the names of its files."""
    if {"pytorch_lora_weights.safetensors", "adapter_config.json"} & set(files):
        return f"is {LORA}"
    if "learned_embeds.safetensors" in files or "learned_embeds.bin" in files:
        return f"is {EMBEDDING}"
    single = [name for name in files if "/" not in name and name.endswith(".safetensors")]
    if single:
        return f"holds single files. Run `hf download {model} {single[0]} --local-dir .`, and name that file."
    return None


def _reason(problem: Exception, model: str, revision: str | None, files: Sequence[str]) -> str:
    from huggingface_hub import errors
    from safetensors import SafetensorError

    kinds = {type(cause) for cause in _causes(problem)}

    def among(*classes: type[Exception]) -> bool:
        return any(issubclass(kind, classes) for kind in kinds)

    if among(errors.HFValidationError) or (path_of(model) is None and not is_hub_id(model)):
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
    if any(kind.__module__.startswith("httpx") for kind in kinds):
        return f"the connection to the hub broke ({_line(problem)}). Run it again: what was fetched is kept."
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
