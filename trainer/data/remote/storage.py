"""One ranged request for the bytes of a remote file, without retries."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

from trainer.data.remote.location import Url
from trainer.data.remote.redirects import FOLLOWED, hops, redirected
from trainer.errors import DataError
from trainer.recipe.data import RemoteSection

PIECE_BYTES = 1 << 18
INSTALL = "install the packages of lyceum's extra `data`"
S3_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or"
    " data.remote.anonymous=true for a public bucket"
)
_TRANSIENT = {408, 425, 429}


class Interrupted(Exception):
    """A transient failure; `wait_seconds` is what the server asks for (Retry-After)."""

    def __init__(self, reason: str, wait_seconds: float = 0.0):
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class OtherFile(Exception):
    """The file at the URL is not the expected one."""


class Absent(DataError):
    """There is no file at the URL, or none that may be read."""


@dataclass(frozen=True)
class Answer:
    """A server's response: the bytes of the file from offset `start` on, and its full size.

    `total` is None where the server does not state it. Reading `pieces` may raise Interrupted.
    """

    pieces: Iterator[bytes]
    start: int
    total: int | None
    close: Callable[[], None]


def read_range(url: Url, start: int, remote: RemoteSection) -> Answer:
    """Request the bytes of `url` from offset `start` on.

    A server may begin earlier; one that ignores the range begins at 0. Raises Interrupted for
    transient failures (no connection, a timeout, 408, 425, 429, 5xx), OtherFile where the file ends
    before `start`, Absent for 403 and 404, DataError for everything else, which a retry would not
    mend.
    """
    return (_read_s3 if url.scheme == "s3" else _read_http)(url, start, remote)


def _read_http(url: Url, start: int, remote: RemoteSection) -> Answer:
    try:
        import requests
    except ImportError:
        raise DataError(f"cannot read {url.shown}: {INSTALL}") from None
    # Compressed on the way, byte n would not be byte n of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        address = str(url)
        for _ in hops(address):
            # Each with the login that ~/.netrc has for its own host, none with another host's.
            response = requests.get(
                address,
                headers=headers,
                stream=True,
                timeout=remote.timeout_seconds,
                allow_redirects=False,
            )
            location = response.headers.get("Location")
            if response.status_code not in FOLLOWED or location is None:
                break
            response.close()
            address = redirected(str(url), address, location, remote.private_redirects)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise Interrupted(_innermost(error)) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {url.shown}: {_innermost(error)}") from None
    if response.status_code not in (200, 206):
        response.close()
        _refuse(url, response.status_code, response.headers.get("Retry-After"))
    return _answer(response.raw, start, response.status_code, response.headers, response.close)


def _read_s3(url: Url, start: int, remote: RemoteSection) -> Answer:
    try:
        from botocore import exceptions
    except ImportError:
        raise DataError(f"cannot read {url}: {INSTALL}") from None
    bucket, _, key = url.removeprefix("s3://").partition("/")
    wanted = {"Bucket": bucket, "Key": key} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        client = s3_client(os.getpid(), remote.timeout_seconds, remote.anonymous)
        found = client.get_object(**wanted)
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError):
        raise DataError(f"no credentials for {url}: {S3_CREDENTIALS}") from None
    except exceptions.ClientError as error:
        about = error.response["ResponseMetadata"]
        after = about.get("HTTPHeaders", {}).get("retry-after")
        _refuse(url, about["HTTPStatusCode"], after, error.response["Error"].get("Code", ""))
    except (exceptions.ParamValidationError, exceptions.ProfileNotFound, ValueError) as error:
        raise DataError(f"cannot read {url}: {_one_line(error)}") from None
    except (exceptions.BotoCoreError, exceptions.HTTPClientError) as error:
        raise Interrupted(_one_line(error)) from None
    about = found["ResponseMetadata"]
    headers = {name.title(): value for name, value in about["HTTPHeaders"].items()}
    # The stream below gives what has arrived; botocore's own waits until a piece is full, which
    # hides how slow a server is.
    stream = getattr(found["Body"], "_raw_stream", found["Body"])
    return _answer(stream, start, about["HTTPStatusCode"], headers, stream.close)


@lru_cache(maxsize=4)
def s3_client(process: int, timeout_seconds: float, anonymous: bool) -> Any:
    """A client of this process: a forked one must not use the connections of its parent.

    s3fs is not used because its event loop runs in a thread, and a fork has no such thread.
    """
    import botocore
    import botocore.session
    from botocore.config import Config

    config = Config(
        connect_timeout=timeout_seconds,
        read_timeout=timeout_seconds,
        # The transfer counts attempts, and its checksum is the manifest's.
        retries={"total_max_attempts": 1, "mode": "standard"},
        response_checksum_validation="when_required",
        signature_version=botocore.UNSIGNED if anonymous else None,
    )
    return botocore.session.Session().create_client("s3", config=config)


def _refuse(url: Url, status: int, retry_after: str | None, code: str = "") -> NoReturn:
    if status >= 500 or status in _TRANSIENT:
        seconds = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
        raise Interrupted(f"the server answered {status}", seconds)
    if status == 416:
        raise OtherFile("it is shorter than what came of it before")
    if status in (404, 410):
        raise Absent(f"{url.shown} is not there ({status}): upload it, or correct data.mixture")
    if status in (401, 403):
        mend = S3_CREDENTIALS if url.scheme == "s3" else "put user and password into ~/.netrc"
        raise Absent(
            f"{url.shown} may not be read ({status}; some servers say so of what is not there):"
            f" correct the name, or {mend}"
        )
    said = f"{status} {code}".strip()
    raise DataError(f"cannot read {url.shown}: the server answered {said}; correct data.mixture")


def _answer(
    stream: Any, start: int, status: int, headers: Any, close: Callable[[], None]
) -> Answer:
    length = headers.get("Content-Length")
    total = int(length) if length is not None and length.isdecimal() else None
    begin = 0
    if status == 206:
        found = re.match(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range") or "")
        if not found or int(found[1]) > start:
            close()
            raise Interrupted(f"the server sent another range than bytes from {start} on")
        begin = int(found[1])
        total = int(found[2]) if found[2] != "*" else None
    return Answer(_pieces(stream), begin, total, close)


def _pieces(stream: Any) -> Iterator[bytes]:
    """The bytes as they arrive."""
    from urllib3.exceptions import HTTPError

    read = getattr(stream, "read1", stream.read)
    try:
        while piece := read(PIECE_BYTES):
            yield piece
    except (HTTPError, OSError) as error:
        raise Interrupted(_innermost(error)) from None
    finally:
        with suppress(Exception):
            stream.close()


def _innermost(error: BaseException) -> str:
    """The cause without the wrapping of three libraries."""
    seen = error
    while True:
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        if not isinstance(inner, BaseException):
            return _one_line(seen)
        seen = inner


def _one_line(error: BaseException) -> str:
    first = error.args[0] if error.args else None
    text = " ".join((first if isinstance(first, str) else str(error)).split())
    # urllib3 begins some messages with the repr of a connection.
    return re.sub(r"^<[^>]*>: |^\w+\([^)]*\): ", "", text) or type(error).__name__
