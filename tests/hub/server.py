"""A hub of our own: the answers that huggingface_hub asks for, from folders on this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories by name, as models/org/name or datasets/org/name; each one commit of a folder.

    `refused`: names and the error code that the hub answers with, as GatedRepo; `asked`: the paths
    of all requests.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refused: dict[str, str] = {}
        self.asked: list[str] = []

    def commit(self, name: str) -> str:
        return hashlib.sha1(name.encode()).hexdigest()

    def files(self, name: str) -> list[Path]:
        return sorted(path for path in (self.root / name).rglob("*") if path.is_file())


@contextmanager
def serving(root: Path) -> Iterator[tuple[Hub, str]]:
    """The hub of these folders and its address, as HF_ENDPOINT takes it."""
    hub = Hub(root)

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            hub.asked.append(path)
            status, headers, content = _answer_to(hub, path)
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


Answer = tuple[int, dict[str, str], bytes]


def _answer_to(hub: Hub, path: str) -> Answer:
    parts = path.split("/")
    if parts[0] == "api":
        kind, name, rest = parts[1], "/".join(parts[1:4]), parts[4:]
    else:
        kind = parts[0] if parts[0] == "datasets" else "models"
        inside = parts[1:] if kind == "datasets" else parts
        name, rest = "/".join([kind, *inside[:2]]), inside[2:]
    if code := hub.refused.get(name):
        return 403 if code == "GatedRepo" else 401, {"X-Error-Code": code}, b"{}"
    if not (hub.root / name).is_dir():
        return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
    commit = hub.commit(name)
    if len(rest) > 1 and rest[1] not in ("main", commit):
        return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
    if parts[0] == "api":
        return _described(hub, name, rest)
    file = hub.root / name / "/".join(rest[2:])
    if not file.is_file():
        return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
    content = file.read_bytes()
    tag = hashlib.sha256(content).hexdigest()
    return 200, {"ETag": f'"{tag}"', "X-Repo-Commit": commit}, content


def _described(hub: Hub, name: str, rest: list[str]) -> Answer:
    folder = hub.root / name
    files = [(path.relative_to(folder).as_posix(), path) for path in hub.files(name)]
    if rest and rest[0] == "tree":
        listed: Any = [
            {
                "type": "file",
                "path": file,
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for file, path in files
        ]
    else:
        listed = {
            "id": name.partition("/")[2],
            "sha": hub.commit(name),
            "siblings": [{"rfilename": file} for file, _ in files],
            "private": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
        }
    return 200, {"Content-Type": "application/json"}, json.dumps(listed).encode()
