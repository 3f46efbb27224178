"""A hub on this machine: the part of the Hugging Face hub's interface that listing and fetching use."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves `repositories`; large files, as on the hub, are those in safetensors, known by their SHA-256."""

    repositories: dict[str, dict[str, bytes]] = {}
    closed: set[str] = set()
    damaged: set[str] = set()
    """Names of files that arrive with another last byte."""
    fetched: list[str] = []
    ranges: list[str] = []
    """Which parts of files were asked for."""

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
                {"type": "file", "path": name, "size": len(content), "oid": etag(name, content)}
                for name, content in files.items()
            ]
            return self.answer(200, body=json.dumps(tree).encode())
        return self.send_file("/".join(rest[2:]), files["/".join(rest[2:])])

    def send_file(self, name: str, content: bytes) -> None:
        headers = {"ETag": f'"{etag(name, content)}"', "X-Repo-Commit": COMMIT}
        if name in self.damaged:
            content = content[:-1] + b"?"
        asked = self.headers.get("Range")
        if self.command == "GET":
            self.fetched.append(name)
            if asked:
                self.ranges.append(f"{name} {asked}")
        if not asked:
            return self.answer(200, headers, content)
        start = int(asked.removeprefix("bytes=").split("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.answer(206, headers, content[start:])

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


def etag(name: str, content: bytes) -> str:
    """What the hub names a file's content by."""
    if name.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def empty_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this folder the hub's cache, and forbid the network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """Serve a hub and let nothing reach another one; its class holds what it serves and what was asked."""
    fresh = {"repositories": {}, "closed": set(), "damaged": set(), "fetched": [], "ranges": []}
    handler = type("Hub", (Hub,), fresh)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listening.server_port}")
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield handler
        listening.shutdown()
