"""A hub that speaks the protocol which huggingface_hub uses, with faults on request.

It needs the standard library alone, so that it also runs by itself, inside a cluster:
`python hub.py --listen 0.0.0.0:8080 --cdn hub --slow 20000000 OWNER/NAME=DIRECTORY`.
"""

import argparse
import hashlib
import json
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

GIVEN_TOKEN = "hf_ThisIsTheSecretOfTheTests"
PIECE = 1 << 20


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """A model repository with one commit; `lfs` files live on the hub's CDN."""

    files: dict[str, bytes]
    private: bool = False
    gated: bool = False
    claimed_sizes: dict[str, int] = field(default_factory=dict)
    names_only: bool = False

    @property
    def commit(self) -> str:
        digest = hashlib.sha1()
        for name, content in sorted(self.files.items()):
            digest.update(name.encode() + b"\0" + content)
        return digest.hexdigest()

    def siblings(self) -> list[dict[str, Any]]:
        if self.names_only:
            return [{"rfilename": name} for name in self.files]
        return [self._sibling(name, content) for name, content in self.files.items()]

    def tree(self) -> list[dict[str, Any]]:
        """The older listing, which huggingface_hub's own downloads ask for."""
        entries = []
        for sibling in self.siblings():
            entry = {"type": "file", "path": sibling["rfilename"], "oid": sibling["blobId"]}
            if "lfs" in sibling:
                entry["lfs"] = {**sibling["lfs"], "oid": sibling["lfs"]["sha256"]}
            entries.append(entry | {"size": sibling["size"]})
        return entries

    def _sibling(self, name: str, content: bytes) -> dict[str, Any]:
        size = self.claimed_sizes.get(name, len(content))
        sibling = {"rfilename": name, "size": size, "blobId": git_blob_id(content)}
        if is_lfs(name):
            sha256 = hashlib.sha256(content).hexdigest()
            sibling["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 130}
        return sibling


def is_lfs(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".onnx"))


@dataclass
class Fault:
    """What happens to the next `times` requests of `method` whose path ends in `suffix`."""

    method: str
    suffix: str
    times: int
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    cut_when: threading.Event | None = None
    reset: bool = False
    corrupt: bool = False


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0


class Hub:
    """The hub's state and log. `url` is the hub, `cdn` another origin of the same server."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, cdn: str = "localhost") -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.bytes_per_second: float | None = None
        self.before_close: Callable[[], None] = lambda: None
        hub = self

        class Bound(Handler):
            state = hub

        self._server = ThreadingHTTPServer((host, port), Bound)
        self._server.daemon_threads = False
        port = self._server.server_address[1]
        self.url, self.cdn = f"http://{host}:{port}", f"http://{cdn}:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self._open = True

    def fault(self, method: str, suffix: str, times: int = 1, **what: object) -> None:
        self.faults.append(Fault(method, suffix, times, **what))

    def gets(self, suffix: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == "GET" and seen.path.endswith(suffix)]

    def take_fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == method and path.endswith(fault.suffix):
                fault.times -= 1
                return fault
        return None

    def close(self) -> None:
        if self._open:
            self._open = False
            self.before_close()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    """`/api/models/…/revision/…`, `…/tree/…`, `/…/resolve/…` and, on the other origin, `/cdn/…`."""

    protocol_version = "HTTP/1.1"
    state: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def _route(self) -> None:
        path = urllib.parse.unquote(self.path.partition("?")[0])
        self.now = Seen(self.command, path, {name.lower(): value for name, value in self.headers.items()})
        self.state.seen.append(self.now)
        self.fault_now = self.state.take_fault(self.command, path)
        if self.fault_now and self.fault_now.status:
            self._error(self.fault_now.status, **self.fault_now.headers)
        elif path.startswith("/cdn/"):
            name, _, file = path.removeprefix("/cdn/").partition("/-/")
            self._content(self.state.repos[name].files[file])
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"))
        else:
            name, _, rest = path.removeprefix("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            self._resolve(name, revision, file)

    def _visible(self, name: str, revision: str) -> Repo | None:
        authorization = self.now.headers.get("authorization")
        if authorization not in {None, f"Bearer {GIVEN_TOKEN}"}:
            self._error(401, **{"X-Error-Message": "Invalid credentials in Authorization header"})
            return None
        repo = self.state.repos.get(name)
        if repo is None or (repo.private and not authorization):
            self._error(404 if authorization else 401, **{"X-Error-Code": "RepoNotFound"})
            return None
        if revision not in {"main", repo.commit}:
            self._error(404, **{"X-Error-Code": "RevisionNotFound"})
            return None
        return repo

    def _api(self, rest: str) -> None:
        call = "/tree/" if "/tree/" in rest else "/revision/"
        name, _, revision = rest.partition(call)
        repo = self._visible(name, revision)
        if repo is None:
            return
        if call == "/tree/":
            body: object = repo.tree()
        else:
            body = {"id": name, "modelId": name, "sha": repo.commit, "siblings": repo.siblings(), "tags": []}
        self._answer(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repo = self._visible(name, revision)
        if repo is None:
            return
        if repo.gated:
            status = 403 if "authorization" in self.now.headers else 401
            self._error(status, **{"X-Error-Code": "GatedRepo", "X-Repo-Commit": repo.commit})
            return
        content = repo.files.get(file)
        if content is None:
            self._error(404, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repo.commit})
            return
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{git_blob_id(content)}"'}
        if is_lfs(file):
            linked = {
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Location": f"{self.state.cdn}/cdn/{name}/-/{urllib.parse.quote(file)}?signature=signed",
            }
            self._answer(302, b"", headers | linked)
        else:
            self._content(content, headers)

    def _content(self, content: bytes, headers: dict[str, str] | None = None) -> None:
        if self.fault_now and self.fault_now.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        asked = self.now.headers.get("range")
        if asked:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            self._answer(206, content[start:], (headers or {}) | span)
        else:
            self._answer(200, content, headers or {})

    def _error(self, status: int, **headers: str) -> None:
        self._answer(status, b"", headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.fault_now.cut_after if self.fault_now else None
        body = body[:cut]
        for start in range(0, len(body), PIECE):
            self.wfile.write(body[start : start + PIECE])
            self.now.sent += len(body[start : start + PIECE])
            if self.state.bytes_per_second is not None:
                time.sleep(PIECE / self.state.bytes_per_second)
        if cut is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        if self.fault_now and self.fault_now.cut_when:
            self.fault_now.cut_when.wait(240)
        if self.fault_now and self.fault_now.reset:
            # Closing with a zero linger time sends RST in place of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


def read_directory(directory: Path) -> Repo:
    """Return a repository with all files below a directory."""
    files = {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }
    return Repo({name: content for name, content in files.items() if "__pycache__" not in name})


def main() -> None:
    """Serve directories until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--cdn", default="localhost", help="host name of the other origin")
    parser.add_argument("--slow", type=float, help="bytes a second")
    parser.add_argument("repos", nargs="+", metavar="OWNER/NAME=DIRECTORY")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    hub = Hub(host, int(port), options.cdn)
    hub.bytes_per_second = options.slow
    for repo in options.repos:
        name, _, directory = repo.partition("=")
        hub.repos[name] = read_directory(Path(directory))
    threading.Event().wait()


if __name__ == "__main__":
    main()
