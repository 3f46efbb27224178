from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch

pytest.importorskip("huggingface_hub")
from huggingface_hub import constants

from dreamsplat.errors import FileProblem, InvalidInput, MissingDependency
from dreamsplat.hub.cache import cached
from dreamsplat.hub.explain import explained
from dreamsplat.hub.fetch import first_available, local_folder
from dreamsplat.hub.optional import require

COMMIT = "0123456789abcdef0123456789abcdef01234567"
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
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def put_in_cache(cache: Path, model: str, files: dict[str, bytes], revision: str = "main") -> Path:
    repository = cache / f"models--{model.replace('/', '--')}"
    write(repository / "refs", {revision: COMMIT.encode()})
    return write(repository / "snapshots" / COMMIT, files)


class _Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that fetching uses."""

    repositories: dict[str, dict[str, bytes]] = {}
    closed: set[str] = set()
    fetched: list[str] = []

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        parts = path.removeprefix("/api/models").strip("/").split("/")
        model, rest = "/".join(parts[:2]), parts[2:]
        files = self.repositories.get(model)
        if files is None:
            return self.answer(401, {"X-Error-Code": "RepoNotFound"})
        if model in self.closed:
            return self.answer(403, {"X-Error-Code": "GatedRepo"})
        if rest[1] not in ("main", COMMIT):
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        if rest[0] == "revision":
            return self.answer(200, body=json.dumps({"id": model, "sha": COMMIT, "siblings": []}).encode())
        if rest[0] == "tree":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
            return self.answer(200, body=json.dumps(tree).encode())
        name = "/".join(rest[2:])
        if self.command == "GET":
            self.fetched.append(name)
        etag = hashlib.sha1(files[name]).hexdigest()
        return self.answer(200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, files[name])

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    """A hub on this machine, with the settings of `_Hub`."""
    handler = type("Hub", (_Hub,), {"repositories": {}, "closed": set(), "fetched": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listening.server_port}")
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield handler
        listening.shutdown()


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
