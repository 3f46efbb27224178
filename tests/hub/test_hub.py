from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("huggingface_hub")
from fake_hub import COMMIT, empty_cache, etag, serving
from huggingface_hub import constants

from dreamsplat.errors import FileProblem, InvalidInput, MissingDependency
from dreamsplat.hub.cache import cached
from dreamsplat.hub.explain import explained
from dreamsplat.hub.fetch import Wanted, first_available, listed, local_folder
from dreamsplat.hub.optional import require

FILES = ("unet/config.json", "unet/*.safetensors")
UNET = {"unet/config.json": b"{}", "unet/diffusion_pytorch_model.safetensors": b"weights"}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The hub's cache, empty; offline."""
    return empty_cache(tmp_path / "cache", monkeypatch)


@pytest.fixture
def server(monkeypatch):
    """A hub on this machine."""
    with serving(monkeypatch) as hub:
        yield hub


def put_in_cache(cache: Path, model: str, files: dict[str, bytes], revision: str = "main") -> Path:
    repository = cache / f"models--{model.replace('/', '--')}"
    write(repository / "refs", {revision: COMMIT.encode()})
    return write(repository / "snapshots" / COMMIT, files)


def refusal(model: str, revision: str | None = None, files=FILES) -> str:
    with pytest.raises(FileProblem) as caught:
        local_folder(model, revision, files)
    message = str(caught.value)
    assert message.startswith(f"{model}@{revision}" if revision else model) and "\n" not in message
    return message


def test_a_folder_is_taken_as_it_is(tmp_path):
    folder = write(tmp_path / "model", UNET)
    assert local_folder(str(folder), None, FILES) == folder


def test_what_a_folder_lacks_is_named(tmp_path):
    folder = write(tmp_path / "model", {"unet/diffusion_pytorch_model.bin": b""})
    assert "has diffusion_pytorch_model.bin instead of unet/config.json, unet/*.safetensors" in refusal(str(folder))
    (folder / "unet/diffusion_pytorch_model.bin").unlink()
    assert "has no unet/config.json, unet/*.safetensors. Expected a complete checkpoint" in refusal(str(folder))


def test_neither_a_folder_nor_a_hub_id_is_told_so():
    assert "no such folder, and not a hub id" in refusal("/no/such/folder")


def test_offline_the_message_says_what_is_missing_where_and_how_to_get_it(cache):
    expected = (
        f"unet/config.json, unet/*.safetensors missing in the cache {cache}, and HF_HUB_OFFLINE=1 is set. "
        "Run `hf download owner/name --revision v2` where there is a network, or name a local folder."
    )
    assert refusal("owner/name", "v2") == f"owner/name@v2: {expected}"
    assert "`hf download owner/name`" in refusal("owner/name")


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument:UserWarning")
def test_from_pretrained_offline_is_explained_alike(cache):
    diffusers = pytest.importorskip("diffusers")
    with pytest.raises(FileProblem, match="^owner/name: unet/config.json missing in the cache .* HF_HUB_OFFLINE=1"):
        with explained("owner/name", files=["unet/config.json"]):
            diffusers.UNet2DConditionModel.load_config("owner/name", subfolder="unet")


def test_a_cached_snapshot_needs_no_network(cache):
    snapshot = put_in_cache(cache, "owner/name", UNET)
    assert local_folder("owner/name", None, FILES) == snapshot
    assert cached("owner/name") == cached("owner/name", "main") == cached("owner/name", COMMIT) == snapshot
    assert cached("owner/name", "other") is None and cached("owner/other") is None


def test_of_an_incomplete_snapshot_only_the_rest_is_missing(cache):
    put_in_cache(cache, "owner/name", {"unet/config.json": b"{}"})
    assert ": unet/*.safetensors missing in the cache" in refusal("owner/name")


def test_only_what_is_asked_for_is_fetched_and_only_once(server, cache):
    others = {"unet/diffusion_pytorch_model.fp16.safetensors": b"", "unet/model.onnx": b"", "all.ckpt": b""}
    server.repositories["owner/name"] = UNET | others
    folder = local_folder("owner/name", None, FILES)
    assert (folder / "unet/diffusion_pytorch_model.safetensors").read_bytes() == b"weights"
    assert sorted(server.fetched) == sorted(UNET) and folder.is_relative_to(cache)
    assert local_folder("owner/name", None, FILES) == folder == cached("owner/name")
    assert len(server.fetched) == 2


def test_refusals_of_the_hub_are_told_apart(server):
    server.repositories |= {"owner/closed": UNET, "owner/open": {"unet/config.json": b"{}", "unet/weights.bin": b""}}
    server.closed.add("owner/closed")
    assert "no such repository on the hub: removed, renamed or private" in refusal("owner/gone")
    assert "accepted at https://huggingface.co/owner/closed; then run `hf auth login`" in refusal("owner/closed")
    assert "has no revision 'v9'" in refusal("owner/open", "v9")
    assert "has no unet/*.safetensors" in refusal("owner/open")


def test_without_a_connection_the_cache_and_the_command_are_named(server, cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert f"missing in the cache {cache}, and the hub cannot be reached. Run `hf download" in refusal("owner/name")


def test_of_equal_models_a_cached_one_comes_first_then_the_first_that_can_be_fetched(server, cache):
    server.repositories["b/model"] = server.repositories["c/model"] = UNET
    names = ("a/model", "b/model", "c/model")
    name, _ = first_available(names, None, FILES)
    assert name == "b/model"
    put_in_cache(cache, "d/model", UNET)
    assert first_available(("c/model", "d/model"), None, FILES)[0] == "d/model"


def test_if_none_is_available_each_reason_is_given(server, monkeypatch):
    none = "^None of a/model, b/model is available: a/model:"
    with pytest.raises(FileProblem, match=f"{none} no such.* [|] b/model: no such"):
        first_available(("a/model", "b/model"), None, FILES)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileProblem, match=f"{none} .*HF_HUB_OFFLINE=1[^|]*$"):
        first_available(("a/model", "b/model"), None, FILES)


@pytest.mark.parametrize(
    "problem", [OSError("no\nfile"), RuntimeError("size mismatch"), KeyError("width"), ValueError()]
)
def test_whatever_a_library_raises_becomes_one_line_with_the_name(problem):
    with pytest.raises(FileProblem, match="^owner/name@v1: .*") as caught, explained("owner/name", "v1"):
        raise problem
    assert "\n" not in str(caught.value) and caught.value.__cause__ is problem


@pytest.mark.parametrize("problem", [InvalidInput("ours"), torch.OutOfMemoryError("full"), KeyboardInterrupt()])
def test_our_own_errors_a_full_memory_and_interrupts_pass(problem):
    with pytest.raises(type(problem)) as caught, explained("owner/name"):
        raise problem
    assert caught.value is problem


def test_a_missing_package_is_named_with_its_command():
    assert require("json", "diffusion") is json
    with pytest.raises(MissingDependency, match=r'no_such_package.*`pip install "dreamsplat\[mesh\]"`'):
        require("no_such_package", "mesh")


# Downloads.


def test_weights_come_in_half_precision_only_where_they_are_wanted_and_there_are_such(server):
    plain, half = "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"
    server.repositories |= {"a/both": UNET | {half: b"half"}, "a/half": {"unet/config.json": b"{}", half: b"half"}}
    assert {f.filename for f in listed("a/both", Wanted(("a/both",), None, FILES, half=True))} >= {half}
    folder = local_folder("a/both", None, FILES)
    assert (folder / plain).is_file() and not (folder / half).exists()
    assert (local_folder("a/half", None, FILES) / half).is_file()
    # What is here already is not fetched in another precision.
    assert plain in {f.filename for f in listed("a/both", Wanted(("a/both",), None, FILES, half=True))}


@pytest.mark.parametrize("half", [False, True])
def test_all_shards_of_one_variant_come_with_their_index(server, half):
    def shards(variant: str, index: str) -> dict[str, bytes]:
        names = [f"diffusion_pytorch_model{variant}-0000{n}-of-00002.safetensors" for n in (1, 2)]
        content = json.dumps({"weight_map": dict(zip("ab", names, strict=True))}).encode()
        return {f"unet/diffusion_pytorch_model.safetensors.index{index}.json": content} | {
            f"unet/{name}": name.encode() for name in names
        }

    variants = {False: shards("", ""), True: shards(".fp16", ".fp16")}
    server.repositories["a/b"] = {"unet/config.json": b"{}"} | variants[False] | variants[True]
    folder = local_folder("a/b", None, FILES, half=half)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert found == {"unet/config.json", *variants[half]}


def test_a_stopped_download_goes_on_where_it_ended(server, cache):
    content = bytes(range(256)) * 40
    server.repositories["a/b"] = UNET | {"unet/diffusion_pytorch_model.safetensors": content}
    blob = cache / "models--a--b/blobs" / etag("x.safetensors", content)
    write(blob.parent, {f"{blob.name}.partial": content[:7000]})
    folder = local_folder("a/b", None, FILES)
    assert server.ranges == ["unet/diffusion_pytorch_model.safetensors bytes=7000-"]
    assert (folder / "unet/diffusion_pytorch_model.safetensors").read_bytes() == content
    assert not list(blob.parent.glob("*.partial"))


@pytest.mark.parametrize("partial", [b"?" * 3, b"?" * 7, b"?" * 30])
def test_what_is_damaged_never_enters_the_cache_and_is_fetched_again(partial, server, cache):
    server.repositories["a/b"] = UNET
    blob = cache / "models--a--b/blobs" / etag("x.safetensors", b"weights")
    write(blob.parent, {f"{blob.name}.partial": partial})
    if len(partial) <= len(b"weights"):
        assert "diffusion_pytorch_model.safetensors came damaged" in refusal("a/b")
        assert not blob.exists()
    folder = local_folder("a/b", None, FILES)
    assert (folder / "unet/diffusion_pytorch_model.safetensors").read_bytes() == b"weights"


def test_weights_that_the_hub_sends_damaged_are_refused(server, cache):
    server.repositories["a/b"] = UNET
    server.damaged.add("unet/diffusion_pytorch_model.safetensors")
    assert "came damaged, with the SHA-256" in refusal("a/b")
    assert not list(cache.rglob("*.safetensors"))


def test_a_repository_that_lacks_a_file_is_refused_before_anything_is_fetched(server):
    server.repositories["a/b"] = {"unet/diffusion_pytorch_model.safetensors": b"weights"}
    assert "has no unet/config.json" in refusal("a/b")
    assert server.fetched == []


@pytest.mark.parametrize(
    "name, reason",
    [
        ("pytorch_lora_weights.safetensors", "is a LoRA"),
        ("adapter_config.json", "is a LoRA"),
        ("learned_embeds.safetensors", "is a textual-inversion embedding"),
        ("dream_v2.safetensors", "Run `hf download a/b dream_v2.safetensors --local-dir .`, and name that file."),
    ],
)
def test_a_repository_of_another_thing_is_named_as_what_it_is(name, reason, server):
    server.repositories["a/b"] = {name: b"", "README.md": b""}
    assert reason in refusal("a/b")
    assert server.fetched == []
