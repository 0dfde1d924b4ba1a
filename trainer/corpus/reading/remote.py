"""Remote files through fsspec: s3://, https:// and http://."""

import asyncio
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO, cast

from trainer.data.remote.redirects import MOST, redirected
from trainer.errors import DataError
from trainer.recipe.data import Access

SCHEMES = ("s3", "https", "http")
CONNECT_SECONDS = 10
S3_LOGIN = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE with a profile in"
    " ~/.aws/credentials; for a public bucket set corpus.anonymous=true"
)


class Transient(DataError):
    """A failure of the network or a server that may pass."""


class Unreachable(DataError):
    """No server answers."""


def scheme_of(path: str) -> str | None:
    """The part before "://", in lower case; None for a local path."""
    scheme, separator, _ = path.partition("://")
    return scheme.lower() if separator else None


def filesystem(path: str, access: Access) -> Any:
    """The fsspec file system of a remote path.

    For S3, botocore finds credentials and AWS_ENDPOINT_URL as every AWS tool does. Raises
    DataError for another scheme, or a missing package.
    """
    scheme = scheme_of(path)
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise DataError(f"{path}: {scheme}:// is not read; use a local path, {known}")
    try:
        import fsspec

        if scheme == "s3":
            config = {"connect_timeout": CONNECT_SECONDS, "retries": {"max_attempts": 2}}
            return fsspec.filesystem(
                "s3", anon=access.anonymous, config_kwargs=config, use_listings_cache=False
            )
        import aiohttp

        # No deadline for a whole file, but for a connection and a silent server. What a server
        # declares as its own encoding stays as it is: .gz is unpacked here, within the limits.
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=60)
        client = {
            "timeout": timeout,
            "auto_decompress": False,
            "trace_configs": [_checked_redirects(access.private_redirects)],
        }
        headers = {"Accept-Encoding": "identity"}
        return fsspec.filesystem("http", client_kwargs=client, headers=headers)
    except ImportError as error:
        raise DataError(
            f"{path}: reading {scheme}:// needs {error.name}: install the extra lyceum[data]"
        ) from None


@cache  # fsspec knows its clients by what they are made with
def _checked_redirects(private: bool) -> Any:
    """Has aiohttp ask of every redirect whether it is followed."""
    import aiohttp

    async def begin(_session: Any, context: Any, request: Any) -> None:
        context.asked = str(request.url)

    async def check(_session: Any, context: Any, hop: Any) -> None:
        location = hop.response.headers.get("Location") or hop.response.headers.get("URI")
        if location is not None:
            present = str(hop.response.url)
            await asyncio.to_thread(redirected, context.asked, present, location, private)

    config = aiohttp.TraceConfig()
    config.on_request_start.append(begin)
    config.on_request_redirect.append(check)
    return config


def open_remote(path: str, access: Access, seekable: bool) -> BinaryIO:
    """Open a remote file as one stream, or with `seekable` for ranged reads.

    Raises DataError as `named_errors` does.
    """
    with named_errors(path):
        files = filesystem(path, access)
        if seekable or scheme_of(path) == "s3":
            return cast(BinaryIO, files.open(path, "rb"))
        # Block size 0 is fsspec's word for one request, read as it comes.
        return cast(BinaryIO, files.open(path, "rb", block_size=0))


@contextmanager
def named_errors(path: str) -> Iterator[None]:
    """Turn an error of network, server or credentials into a DataError that says what to do."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if _is_remote_error(error):
            raise _named(path, error) from None
        raise


def _is_remote_error(error: Exception) -> bool:
    """Whether the network, the server or the credentials failed, rather than our own code."""
    packages = ("botocore", "aiobotocore", "aiohttp", "s3fs", "fsspec")
    own = type(error).__module__.partition(".")[0]
    return own in packages or isinstance(error, OSError | TimeoutError)


def _named(path: str, error: Exception) -> DataError:
    if scheme_of(path) != "s3":
        # fsspec calls whatever happens over http a missing file.
        while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
    if isinstance(error, DataError):
        return error
    kind, message = type(error).__name__, " ".join(str(error).split()) or type(error).__name__
    status = getattr(error, "status", None)
    s3 = scheme_of(path) == "s3"
    if kind in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
        return DataError(f"{path}: no S3 credentials found ({message}): {S3_LOGIN}")
    if isinstance(error, PermissionError) or status in (401, 403):
        mend = S3_LOGIN if s3 else "check that the address can be read without logging in"
        return DataError(f"{path}: access refused ({message}): {mend}")
    if isinstance(error, FileNotFoundError) or status == 404:
        missing = "no such bucket or file" if s3 else "no such file"
        return DataError(f"{path}: {missing}: mend the path")
    if kind == "TooManyRedirects":
        return DataError(f"{path}: redirects more than {MOST} times: name the file's own address")
    unreachable = (
        *("ConnectorError", "DNSError", "EndpointConnectionError"),
        *("ConnectTimeoutError", "ConnectionTimeoutError"),
    )
    if kind.endswith(unreachable) or _is_unreachable(error):
        endpoint = " and AWS_ENDPOINT_URL" if s3 else ""
        return Unreachable(
            f"{path}: the host cannot be reached ({message}): check the address{endpoint} and the"
            " network"
        )
    # botocore has tried again by itself.
    passes = not s3 and (status is None or status >= 500 or status in (408, 425, 429))
    failure = Transient if passes else DataError
    return failure(f"{path}: reading failed ({kind}: {message}): run the build again")


def _is_unreachable(error: Exception) -> bool:
    numbers = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)
    return isinstance(error, OSError) and error.errno in numbers
