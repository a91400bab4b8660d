"""A stand-in of the Hugging Face hub on this machine: what its client asks for, as the client's code has it."""

import base64
import hashlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = hashlib.sha1(b"the only commit").hexdigest()


class LocalHub:
    """Its repositories, and the requests that it got.

    Attributes:
        files: the files of each repository.
        gated, private: repositories that are refused, and those that are private.
        requests: method and path of each request.
        status: what every request is answered with, where it is not 0.
        address: of the server.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.requests: list[str] = []
        self.status = 0
        self.address = ""

    def fetched(self) -> list[str]:
        """The files that were downloaded."""
        return [line.rpartition("/")[2] for line in self.requests if line.startswith("GET") and "/resolve/" in line]


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    hub: LocalHub

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        repo = "/".join(path.removeprefix("/api/models/").strip("/").split("/")[:2])
        files = self.hub.files.get(repo)
        if self.hub.status:
            self.answer(self.hub.status, b"trouble")
        elif files is None:
            self.answer(401, b"{}", X_Error_Code="RepoNotFound")
        elif repo in self.hub.gated:
            self.answer(403, b"{}", X_Error_Code="GatedRepo")
        elif "/revision/" in path and path.rpartition("/")[2] not in ("main", COMMIT):
            self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
        elif path.startswith("/api/"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            self.json({"id": repo, "sha": COMMIT, "siblings": siblings, "private": repo in self.hub.private})
        else:
            data = files[path.rpartition("/")[2]]
            self.answer(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.hub.status:
            self.answer(self.hub.status, b"{}")
        elif path == "/api/repos/create":
            asked = json.loads(body)
            repo = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            if repo not in self.hub.files and (asked.get("private") or asked.get("visibility") == "private"):
                self.hub.private.add(repo)
            self.hub.files.setdefault(repo, {})
            self.json({"url": f"{self.hub.address}/{repo}", "private": asked.get("private")})
        elif path == "/api/validate-yaml":
            self.json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            names = [one["path"] for one in json.loads(body)["files"]]
            self.json({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
        else:
            repo = "/".join(path.removeprefix("/api/models/").split("/")[:2])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.hub.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.json({"commitUrl": f"{self.hub.address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, cache: Any) -> Generator[LocalHub]:
    """While inside, huggingface_hub's client talks to a stand-in, and keeps its files in a folder of its own."""
    from huggingface_hub import constants

    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfHub", (Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "ENDPOINT": hub.address,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(cache / "token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
