"""Files on other machines: a real S3 server (moto) and web servers, over HTTP on this machine."""

import functools
import gzip
import http.server
import random
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow
import pyarrow.parquet as parquet
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from tests.corpus.reading.samples import PACKERS, lines, options, read
from trainer.corpus.reading.files import InputFile, list_files
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import ReadOptions
from trainer.errors import DataError
from trainer.recipe.data import Access

CONTENT = lines(*({"id": f"d{number}", "text": f"text {number} " * 20} for number in range(2000)))
IDS = [f"d{number}" for number in range(2000)]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An S3 server that AWS_ENDPOINT_URL names, with a bucket and a login that are not real."""
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST")).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    S3FileSystem.clear_instance_cache()
    client = boto3.client("s3", endpoint_url=moto)
    client.create_bucket(Bucket="birds")
    for name, pack in PACKERS.items():
        client.put_object(Bucket="birds", Key=f"a/x.jsonl{name}", Body=pack(CONTENT))
    client.put_object(Bucket="birds", Key="b/y.txt", Body=b"heron", ACL="public-read")
    yield moto
    S3FileSystem.clear_instance_cache()


def test_s3_globs_give_files_with_size_and_version(s3: str) -> None:
    """Would catch a bucket listed wrongly or twice, or a new version taken for the old."""
    files = list_files(["s3://birds/**/*.*", "s3://birds/b/y.txt"])
    assert [file.path for file in files] == [
        "s3://birds/a/x.jsonl",
        "s3://birds/a/x.jsonl.gz",
        "s3://birds/a/x.jsonl.zst",
        "s3://birds/b/y.txt",
    ]
    assert files[0].bytes == len(CONTENT)
    assert all(file.version for file in files)
    assert list_files(["s3://birds/b/y.txt"]) == files[3:]
    boto3.client("s3", endpoint_url=s3).put_object(Bucket="birds", Key="b/y.txt", Body=b"egret")
    assert list_files(["s3://birds/b/y.txt"])[0].version != files[3].version


@pytest.mark.parametrize("packing", PACKERS)
def test_s3_files_are_read_as_local_ones(s3: str, packing: str) -> None:
    """Would catch a remote stream cut, repeated, or read by another path than a local one."""
    documents, _ = read(f"s3://birds/a/x.jsonl{packing}")
    assert [document.id for document in documents] == IDS
    assert documents[0].source == f"s3://birds/a/x.jsonl{packing}"


def test_parquet_is_read_from_s3(s3: str, tmp_path: Path) -> None:
    """Would catch a stream without jumps, which Parquet needs."""
    parquet.write_table(pyarrow.table({"text": IDS}), tmp_path / "x.parquet")
    body = (tmp_path / "x.parquet").read_bytes()
    boto3.client("s3", endpoint_url=s3).put_object(Bucket="birds", Key="x.parquet", Body=body)
    assert [document.text for document in read("s3://birds/x.parquet")[0]] == IDS


def test_a_bomb_on_s3_is_refused(s3: str) -> None:
    """Would catch limits that hold for local files only."""
    body = gzip.compress(b"\0" * (100 * 2**20))
    boto3.client("s3", endpoint_url=s3).put_object(Bucket="birds", Key="x.jsonl.gz", Body=body)
    with pytest.raises(DataError, match="zip bomb"):
        read("s3://birds/x.jsonl.gz", options(expansion=1, record_mib=1))


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("s3://birds/none.txt", "s3://birds/none.txt: no such bucket or file: mend the path"),
        ("s3://fishes/none.txt", "s3://fishes/none.txt: no such bucket or file"),
        ("s3://birds/*.parquet", "names no file"),
        ("s3://fishes/*.txt", "s3://fishes/.*(names no file|no such bucket)"),
        ("s3://birds/a", "s3://birds/a is a folder: give files, or a glob"),
    ],
)
def test_what_is_not_on_s3_is_named(s3: str, pattern: str, told: str) -> None:
    """Would catch a stack trace of botocore's, or an input that is left out in silence."""
    with pytest.raises(DataError, match=told) as caught:
        list_files([pattern])
    assert "\n" not in str(caught.value)


def test_missing_credentials_say_where_they_are_looked_for(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch "Unable to locate credentials" without a mend."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DataError, match=r"no S3 credentials found .*set AWS_ACCESS_KEY_ID and"):
        list_files(["s3://birds/b/y.txt"])
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"no S3 credentials found \(.*nobody.*\): .*AWS_PROFILE"):
        list_files(["s3://birds/b/y.txt"])


def test_a_public_bucket_is_read_without_credentials(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch `anonymous` forgotten in listing or in reading."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (file,) = list_files(["s3://birds/b/y.txt"], Access(anonymous=True))
    (document,) = read_file(file, ReadOptions(anonymous=True), Quarantine())
    assert document.text == "heron"
    with pytest.raises(DataError, match="no S3 credentials found"):
        list(read_file(file, ReadOptions(), Quarantine()))


def test_refused_access_says_so(s3: str) -> None:
    """Would catch a bucket that is not public reported as a missing file."""
    with pytest.raises(DataError, match=r"x\.jsonl: access refused \(.*\): set AWS_ACCESS_KEY_ID"):
        list_files(["s3://birds/a/x.jsonl"], Access(anonymous=True))


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_host_that_is_not_there_is_named(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a hang, or a stack trace, over a wrong address."""
    dead = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", dead)
    S3FileSystem.clear_instance_cache()
    with pytest.raises(DataError, match=r"cannot be reached .*AWS_ENDPOINT_URL"):
        list_files(["s3://birds/b/y.txt"])
    with pytest.raises(DataError, match=r"x\.txt: the host cannot be reached"):
        list_files([f"{dead}/x.txt"])


class Handler(http.server.SimpleHTTPRequestHandler):
    """Python's web server, silent; `mislabelled` sends .gz as an encoding, as many servers do;
    `cut` breaks the connection in the middle of a file.
    """

    mislabelled = False
    cut = False

    def log_message(self, *told: object) -> None:
        pass

    def end_headers(self) -> None:
        if self.mislabelled and self.path.endswith(".gz"):
            self.send_header("Content-Encoding", "gzip")
        super().end_headers()

    def copyfile(self, source: object, target: object) -> None:
        if self.cut:
            target.write(source.read(1000))  # type: ignore[attr-defined]
            self.close_connection = True
        else:
            super().copyfile(source, target)  # type: ignore[arg-type]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, type[Handler]]]:
    for name, pack in PACKERS.items():
        (tmp_path / f"x.jsonl{name}").write_bytes(pack(CONTENT))
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "x.parquet")
    handler = type("OwnHandler", (Handler,), {})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("mislabelled", [True, False])
@pytest.mark.parametrize("packing", PACKERS)
def test_web_files_are_read_as_local_ones(
    web: tuple[str, type[Handler]], packing: str, mislabelled: bool
) -> None:
    """Would catch a .gz that a server's label has unpacked before its limits are kept."""
    address, handler = web
    handler.mislabelled = mislabelled
    (file,) = list_files([f"{address}/x.jsonl{packing}?key=1"])
    assert file.version
    documents = list(read_file(file, ReadOptions(), Quarantine()))
    assert [document.id for document in documents] == IDS


def test_a_glob_works_where_the_server_lists(web: tuple[str, type[Handler]]) -> None:
    """Would catch listed pages lost, or a glob that finds nothing in silence."""
    address, _ = web
    files = list_files([f"{address}/*.jsonl*"])
    assert [file.path for file in files] == [
        f"{address}/x.jsonl{packing}" for packing in ("", ".gz", ".zst")
    ]
    with pytest.raises(DataError, match="a glob over http works only where the server lists"):
        list_files([f"{address}/none/*.jsonl"])


def test_what_is_not_on_the_web_is_named(web: tuple[str, type[Handler]]) -> None:
    """Would catch a server's page about its error read as a document."""
    with pytest.raises(DataError, match=r"none\.txt: no such file: mend the path"):
        list_files([f"{web[0]}/none.txt"])
    gone = InputFile(f"{web[0]}/none.txt", 5, "")
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        list(read_file(gone, ReadOptions(), Quarantine()))


def test_parquet_from_a_server_without_ranges_says_so(
    web: tuple[str, type[Handler]], tmp_path: Path
) -> None:
    """Would catch a puzzling error: Python's web server gives whole files only."""
    texts = [random.Random(number).randbytes(2000).hex() for number in range(3000)]
    parquet.write_table(
        pyarrow.table({"text": texts}), tmp_path / "x.parquet", use_dictionary=False
    )
    # What fits in fsspec's first request (5 MiB) needs no parts.
    assert (tmp_path / "x.parquet").stat().st_size > 6e6
    with pytest.raises(DataError, match=r"x\.parquet: the server cannot give parts of a file"):
        read(f"{web[0]}/x.parquet")


@pytest.mark.parametrize("packing", PACKERS)
def test_a_broken_connection_is_an_error(web: tuple[str, type[Handler]], packing: str) -> None:
    """Would catch the half of a file that came before the break taken for the whole."""
    address, handler = web
    (file,) = list_files([f"{address}/x.jsonl{packing}"])
    handler.cut = True
    with pytest.raises(DataError, match=r"x\.jsonl.*(reading failed|ends after)"):
        list(read_file(file, ReadOptions(), Quarantine()))
