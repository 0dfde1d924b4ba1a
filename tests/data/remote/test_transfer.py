"""A transfer brings the right bytes whatever a server does, or says in one line why not."""

import hashlib
import io
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.remote.servers import Fault, WebServer, web_server
from trainer.data.remote import transfer
from trainer.data.remote.location import Url
from trainer.data.remote.storage import Absent
from trainer.data.remote.transfer import Attempts, Wanted, download, read_whole
from trainer.errors import DataError
from trainer.recipe.data import RemoteSection

CONTENT = random.Random(0).randbytes(300_000)
NAME = "train/shard-00000.tar"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    (tmp_path / "train").mkdir()
    (tmp_path / NAME).write_bytes(CONTENT)
    with web_server(tmp_path) as made:
        yield made


class Waits(list[float]):
    """Attempts that write down the waits instead of waiting."""

    def attempts(self, attempts: int = 4, timeout_seconds: float = 10.0) -> Attempts:
        remote = RemoteSection(attempts=attempts, timeout_seconds=timeout_seconds)
        return Attempts(remote, wait=self.append)


def wanted(server: WebServer, content: bytes = CONTENT) -> Wanted:
    digest = hashlib.sha256(content).hexdigest()
    return Wanted(Url(server.url) / NAME, digest, len(content))


def fetch(server: WebServer, attempts: Attempts, begun: bytes = b"") -> bytes:
    file = io.BytesIO(begun)
    download(wanted(server), file, attempts)
    return file.getvalue()


def test_a_file_arrives_whole(server: WebServer) -> None:
    """Would catch bytes lost or doubled between the pieces."""
    waits = Waits()
    assert fetch(server, waits.attempts()) == CONTENT
    assert server.requests == [(f"/{NAME}", 0)] and waits == []


def test_a_broken_transfer_goes_on_where_it_broke(server: WebServer) -> None:
    """Would catch a transfer that begins again at zero, or skips what was never written."""
    server.faults[NAME] = [Fault(break_after=100_000), Fault(break_after=150_000)]
    assert fetch(server, Waits().attempts()) == CONTENT
    assert [start for _, start in server.requests] == [0, 100_000, 250_000]


def test_what_an_earlier_process_left_is_gone_on_with(server: WebServer) -> None:
    """Would catch a killed process's part thrown away, or left out of the checksum."""
    assert fetch(server, Waits().attempts(), CONTENT[:70_000]) == CONTENT
    assert [start for _, start in server.requests] == [70_000]
    assert fetch(server, Waits().attempts(), CONTENT) == CONTENT
    assert len(server.requests) == 1, "all was there"


@pytest.mark.parametrize("left", [b"x" * 70_000, CONTENT[:-1] + b"x", CONTENT + b"x"])
def test_a_wrong_part_is_thrown_away(server: WebServer, left: bytes) -> None:
    """Would catch a part of another file that spoils every later attempt."""
    assert fetch(server, Waits().attempts(), left) == CONTENT
    assert server.requests[-1] == (f"/{NAME}", 0)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(server: WebServer, status: int) -> None:
    """Would catch giving up at a rate limit, and coming back earlier than the server asks."""
    server.faults[NAME] = [Fault(status, {"Retry-After": "40"}), Fault(status)]
    waits = Waits()
    assert fetch(server, waits.attempts()) == CONTENT
    assert len(waits) == 2 and waits[0] == 40 and waits[1] <= 2


def test_a_server_that_ignores_the_range_is_read_from_its_beginning(server: WebServer) -> None:
    """Would catch the whole file appended to the part that is there."""
    server.always = Fault(ignore_range=True)
    server.faults[NAME] = [Fault(break_after=100_000)]
    assert fetch(server, Waits().attempts()) == CONTENT
    assert [start for _, start in server.requests] == [0, 100_000]


@pytest.mark.parametrize(("shift", "begins"), [(-10_000, 90_000), (10_000, 110_000)])
def test_another_range_than_asked_is_noticed(server: WebServer, shift: int, begins: int) -> None:
    """Would catch bytes written to the wrong place; an earlier begin is cut, a later refused."""
    server.faults[NAME] = [Fault(break_after=100_000), Fault(shift_range=shift)]
    waits = Waits()
    assert fetch(server, waits.attempts()) == CONTENT
    assert len(waits) == (1 if begins < 100_000 else 2)


def test_a_silent_server_is_left_after_the_timeout(server: WebServer) -> None:
    """Would catch a hang: the server keeps the connection and sends nothing."""
    server.faults[NAME] = [Fault(stall_after=0), Fault(stall_after=200_000)]
    assert fetch(server, Waits().attempts(timeout_seconds=2.0)) == CONTENT
    assert [start for _, start in server.requests] == [0, 0, 200_000]


def test_a_trickle_is_no_progress(server: WebServer) -> None:
    """Would catch a server that sends a byte now and then, so that no read ever times out."""
    server.always = Fault(trickle=True)
    with pytest.raises(DataError, match=r"did not come in 2 attempts: only \d+ bytes came in"):
        fetch(server, Waits().attempts(attempts=2, timeout_seconds=0.3))


def test_a_dead_server_is_one_line_after_the_attempts() -> None:
    """Would catch a hang, a stack trace, and a reason that nobody can act on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = Url(f"http://127.0.0.1:{unused.getsockname()[1]}/corpus")
        waits = Waits()
        with pytest.raises(DataError) as caught:
            download(Wanted(url, "0" * 64, 5), io.BytesIO(), waits.attempts(attempts=5))
    line = str(caught.value)
    assert line.startswith(f"{url} did not come in 5 attempts: ") and "refused" in line
    assert "data.remote.attempts" in line and "\n" not in line and len(waits) == 4


def test_waits_grow_and_are_spread(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a thousand readers that come back at the same moment, or after hours."""
    server.always = Fault(503)
    longest = [min(30.0, 0.5 * 2**n) for n in range(1, 12)]
    runs = [Waits() for _ in range(3)]
    for waits in runs:
        with pytest.raises(DataError, match="the server answered 503"):
            fetch(server, waits.attempts(attempts=12))
        assert len(waits) == 11
        assert all(0 <= wait <= most for wait, most in zip(waits, longest, strict=True))
    assert runs[0] != runs[1] != runs[2]
    drawn: list[float] = []
    monkeypatch.setattr(
        random.SystemRandom, "uniform", lambda _, low, high: drawn.append(high) or 0
    )
    with pytest.raises(DataError):
        fetch(server, Waits().attempts(attempts=12))
    assert drawn == longest


def test_training_randomness_is_left_alone(server: WebServer) -> None:
    """Would catch waits drawn from the generator that the training draws from."""
    server.faults[NAME] = [Fault(503)] * 3
    random.seed(1)
    expected = random.random()
    random.seed(1)
    fetch(server, Waits().attempts())
    assert random.random() == expected


def test_progress_makes_up_for_failures(server: WebServer, monkeypatch) -> None:
    """Would catch a large shard that never comes because the line breaks every minute."""
    monkeypatch.setattr(transfer, "PROGRESS_BYTES", 50_000)
    server.always = Fault(break_after=60_000)
    assert fetch(server, Waits().attempts(attempts=2)) == CONTENT
    server.always = Fault(break_after=40_000)
    with pytest.raises(DataError, match="in 2 attempts: Connection broken"):
        fetch(server, Waits().attempts(attempts=2))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_not_there_is_not_asked_for_again(server: WebServer, status: int) -> None:
    """Would catch minutes of retries for a wrong name or a missing permission."""
    server.always = Fault(status)
    waits = Waits()
    said = "is not there" if status == 404 else "may not be read"
    with pytest.raises(Absent, match=rf"{NAME} {said} \({status}") as caught:
        fetch(server, waits.attempts())
    assert len(server.requests) == 1 and waits == [] and "\n" not in str(caught.value)


def test_other_refusals_are_final(server: WebServer) -> None:
    """Would catch retries of a request that can never succeed."""
    server.always = Fault(400)
    with pytest.raises(DataError, match="the server answered 400"):
        fetch(server, Waits().attempts())
    assert len(server.requests) == 1


def flip(content: bytes) -> bytes:
    return content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]


def test_wrong_bytes_are_brought_again_once(server: WebServer) -> None:
    """Would catch a flipped bit that is trained on, or that ends a run needlessly."""
    server.faults[NAME] = [Fault(change=flip)]
    assert fetch(server, Waits().attempts()) == CONTENT
    assert [start for _, start in server.requests] == [0, 0]


def test_bytes_that_stay_wrong_are_named_with_both_checksums(server: WebServer) -> None:
    """Would catch an endless download of a shard that was altered at its source."""
    server.always = Fault(change=flip)
    file = io.BytesIO()
    with pytest.raises(DataError) as caught:
        download(wanted(server), file, Waits().attempts())
    line = str(caught.value)
    assert NAME in line and "\n" not in line
    for content in (CONTENT, flip(CONTENT)):
        assert hashlib.sha256(content).hexdigest()[:12] in line
    assert len(server.requests) == 2 and file.getvalue() == b"", "nothing wrong is left"


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"x"])
def test_another_size_is_an_altered_shard(server: WebServer, change) -> None:
    """Would catch a page of HTML, or a shortened shard, taken for a broken connection for ever."""
    server.always = Fault(change=change)
    with pytest.raises(DataError, match=r"was altered: it has \d+ bytes, the manifest says 300000"):
        fetch(server, Waits().attempts())
    assert len(server.requests) == 2


def test_a_source_that_shrank_is_not_asked_for_ever(server: WebServer) -> None:
    """Would catch a loop over 416, the answer to a range beyond the end of the file."""
    server.always = Fault(change=lambda content: content[:50_000])
    with pytest.raises(DataError, match="was altered: it has 50000 bytes"):
        fetch(server, Waits().attempts(), CONTENT[:70_000])


def test_a_transfer_that_nobody_wants_stops(server: WebServer) -> None:
    """Would catch gigabytes fetched for a stream that was closed."""
    given_up = threading.Event()
    server.faults[NAME] = [Fault(break_after=1000)]
    attempts = Attempts(RemoteSection(), lambda _: given_up.set(), cancelled=given_up.is_set)
    with pytest.raises(transfer.Cancelled):
        fetch(server, attempts)
    assert len(server.requests) == 1


def test_a_small_file_is_read_with_the_same_patience(server: WebServer) -> None:
    """Would catch a manifest that is read half, or once only."""
    server.faults[NAME] = [Fault(503), Fault(break_after=10)]
    assert read_whole(Url(server.url) / NAME, Waits().attempts()) == CONTENT
    with pytest.raises(Absent):
        read_whole(Url(server.url) / "absent", Waits().attempts())
