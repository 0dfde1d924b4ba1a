"""S3: the same transfers through a server that was not made for us."""

import hashlib
import io
import multiprocessing
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.remote.servers import Fault, s3_server, upload, web_server
from trainer.data.remote import storage
from trainer.data.remote.location import Url
from trainer.data.remote.storage import Absent, read_range, s3_client
from trainer.data.remote.streamed import StreamedFile
from trainer.data.remote.transfer import Attempts, Wanted, download
from trainer.errors import DataError
from trainer.recipe.data import RemoteSection

CONTENT = random.Random(0).randbytes(200_000)
ONCE = RemoteSection(attempts=1, timeout_seconds=10)
FILE = Wanted(Url("s3://bucket/a/shard.tar"), hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A client made for one server or set of credentials is not used for the next."""
    s3_client.cache_clear()
    yield monkeypatch
    s3_client.cache_clear()


@pytest.fixture
def bucket(environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "shard.tar").write_bytes(CONTENT)
    with s3_server(environment) as url:
        upload(tmp_path, "bucket", "a/")
        yield url


def test_a_file_is_read_as_it_comes(bucket: str) -> None:
    """Would catch a stream that knows web servers alone."""
    with StreamedFile(FILE.url, Attempts(ONCE)) as file:
        assert file.read() == CONTENT


def test_a_file_comes_and_a_broken_one_goes_on(bucket: str) -> None:
    """Would catch a range that S3 understands otherwise."""
    for begun in (b"", CONTENT[:150_000], CONTENT[:-1]):
        file = io.BytesIO(begun)
        download(FILE, file, Attempts(ONCE))
        assert file.getvalue() == CONTENT
    answer = read_range(FILE.url, 150_000, ONCE)
    assert (answer.start, answer.total) == (150_000, len(CONTENT)), "the rest alone was sent"
    assert b"".join(answer.pieces) == CONTENT[150_000:]


def test_a_forked_worker_has_its_own_client(bucket: str, environment) -> None:
    """Would catch two processes that read each other's bytes from one connection."""
    fork = multiprocessing.get_context("fork")
    asked = fork.SimpleQueue()

    def noted(process: int, *rest: object) -> object:
        asked.put((process, os.getpid()))
        return s3_client(process, *rest)

    environment.setattr(storage, "s3_client", noted)
    answer = read_range(FILE.url, 0, ONCE)
    worker = fork.Process(target=read_range, args=(FILE.url, 0, ONCE))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0 and b"".join(answer.pieces) == CONTENT
    pairs = [asked.get(), asked.get()]
    assert all(process == asking for process, asking in pairs) and pairs[0] != pairs[1]


@pytest.mark.parametrize("url", ["s3://bucket/absent.tar", "s3://no-such-bucket/a/shard.tar"])
def test_an_absent_file_or_bucket_is_said_at_once(bucket: str, url: str) -> None:
    """Would catch retries of a wrong name."""
    with pytest.raises(Absent, match=rf"{url} is not there \(404\)"):
        download(Wanted(Url(url), "0" * 64, 5), io.BytesIO(), Attempts(RemoteSection(), wait=len))


def test_missing_credentials_are_one_line(bucket: str, environment) -> None:
    """Would catch a stack trace, and a search for a network problem."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.delenv(name)
    with pytest.raises(DataError) as caught:
        download(FILE, io.BytesIO(), Attempts(RemoteSection(), wait=len))
    line = str(caught.value)
    assert line.startswith(f"no credentials for {FILE.url}: set AWS_ACCESS_KEY_ID")
    assert "data.remote.anonymous" in line and "\n" not in line


def test_a_public_bucket_needs_no_credentials(bucket: str, environment) -> None:
    """Would catch data.remote.anonymous that signs all the same."""
    import boto3

    policy = (
        '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",'
        ' "Resource": "arn:aws:s3:::bucket/*"}]}'
    )
    boto3.client("s3").put_bucket_policy(Bucket="bucket", Policy=policy)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.delenv(name)
    file = io.BytesIO()
    download(FILE, file, Attempts(ONCE.model_copy(update={"anonymous": True})))
    assert file.getvalue() == CONTENT


def test_a_half_named_profile_is_one_line(environment, tmp_path: Path) -> None:
    """Would catch a stack trace for a profile that is not in the configuration."""
    environment.setenv("AWS_CONFIG_FILE", "/dev/null")
    environment.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(DataError, match="nobody"):
        download(FILE, io.BytesIO(), Attempts(ONCE))


def test_a_busy_or_dead_s3_is_left_after_our_attempts(bucket: str, environment, tmp_path) -> None:
    """Would catch botocore's own retries multiplied by ours, and an endless wait."""
    with web_server(tmp_path) as server:
        environment.setenv("AWS_ENDPOINT_URL", server.url)
        server.always = Fault(503)
        attempts = Attempts(RemoteSection(attempts=3, timeout_seconds=5), wait=lambda _: None)
        with pytest.raises(DataError, match="in 3 attempts: the server answered 503"):
            download(FILE, io.BytesIO(), attempts)
        assert len(server.requests) == 3
        server.always = Fault(403)
        with pytest.raises(DataError, match=r"may not be read .403.*AWS_ACCESS_KEY_ID"):
            download(FILE, io.BytesIO(), attempts)
        assert len(server.requests) == 4
    s3_client.cache_clear()
    with pytest.raises(DataError, match="in 3 attempts: Could not connect"):
        download(FILE, io.BytesIO(), attempts)


def test_a_silent_s3_is_left_after_the_timeout(bucket: str, environment, tmp_path: Path) -> None:
    """Would catch a hang in the middle of a body, where botocore's retries do not reach."""
    (tmp_path / "bucket/a").mkdir(parents=True)
    (tmp_path / "bucket/a/shard.tar").write_bytes(CONTENT)
    with web_server(tmp_path) as server:
        environment.setenv("AWS_ENDPOINT_URL", server.url)
        server.faults["bucket/a/shard.tar"] = [Fault(stall_after=100_000), Fault(break_after=9)]
        attempts = Attempts(RemoteSection(timeout_seconds=0.3), wait=lambda _: None)
        file = io.BytesIO()
        download(FILE, file, attempts)
        assert file.getvalue() == CONTENT
        assert [start for _, start in server.requests] == [0, 100_000, 100_009]
