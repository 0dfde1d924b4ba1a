"""A web server that knows ranges and can be told to fail, and an S3 server in memory."""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request."""

    status: int = 0
    """Answer this instead of the file."""
    headers: dict[str, str] = field(default_factory=dict)
    break_after: int | None = None
    """Close the connection after so many bytes of the body."""
    stall_after: int | None = None
    """Send nothing more after so many bytes, until `release`."""
    release: threading.Event | None = None
    reached: threading.Event | None = None
    """Set when the stall begins."""
    trickle: bool = False
    """Send single bytes, with pauses that no socket's timeout minds."""
    change: Callable[[bytes], bytes] = bytes
    """What becomes of the file."""
    ignore_range: bool = False
    shift_range: int = 0
    """Answer a range that begins so much later than asked."""


class WebServer:
    """Serves a folder; keeps a list of (path, first byte asked for), and what to do wrong."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.requests: list[tuple[str, int]] = []
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.always: Fault | None = None
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def count(self, path: str) -> int:
        """How often a file was asked for."""
        return sum(asked == f"/{path}" for asked, _ in self.requests)

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(ConnectionError):
                    server._serve(self)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        asked = re.match(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.requests.append((path, start))
        waiting = self.faults[path.lstrip("/")]
        fault = waiting.pop(0) if waiting else self.always or Fault()
        file = self.folder / path.lstrip("/")
        if fault.status or not file.is_file():
            request.send_response(fault.status or 404)
            for name, value in fault.headers.items():
                request.send_header(name, value)
            request.end_headers()
            return
        whole = fault.change(file.read_bytes())
        if asked and start >= len(whole):
            request.send_response(416)
            request.end_headers()
            return
        if asked and not fault.ignore_range:
            start += fault.shift_range
            body = whole[start:]
            request.send_response(206)
            last = len(whole) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{len(whole)}")
        else:
            body = whole
            request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        self._send(request, body, fault)

    def _send(self, request: BaseHTTPRequestHandler, body: bytes, fault: Fault) -> None:
        if fault.trickle:
            for number in range(len(body)):
                request.wfile.write(body[number : number + 1])
                if self.closing.wait(0.02):
                    return
        elif fault.stall_after is not None:
            request.wfile.write(body[: fault.stall_after])
            if fault.reached is not None:
                fault.reached.set()
            (fault.release or self.closing).wait(60)
            request.wfile.write(body[fault.stall_after :])
        else:
            request.wfile.write(body[: fault.break_after])


@contextmanager
def web_server(folder: Path) -> Iterator[WebServer]:
    server = WebServer(folder)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def s3_server(environment: pytest.MonkeyPatch) -> Iterator[str]:
    """An unmodified S3 server over HTTP that boto3's and our clients find; gives its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        environment.setenv(name, value)
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def upload(folder: Path, bucket: str, prefix: str = "") -> None:
    """Put every file of a folder into a bucket, which is made."""
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            client.upload_file(str(file), bucket, f"{prefix}{file.relative_to(folder)}")
