"""A file that is read once, without a copy, has the right bytes whatever a server does."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.remote.servers import Fault, WebServer, web_server
from trainer.data.remote.location import Url
from trainer.data.remote.storage import Absent
from trainer.data.remote.streamed import StreamedFile
from trainer.data.remote.transfer import Attempts
from trainer.errors import DataError
from trainer.recipe.data import RemoteSection

CONTENT = random.Random(0).randbytes(2_500_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    (tmp_path / "a.tar").write_bytes(CONTENT)
    with web_server(tmp_path) as made:
        yield made


def read(server: WebServer, waits: list[float], attempts: int = 3) -> bytes:
    remote = RemoteSection(attempts=attempts, timeout_seconds=10.0)
    with StreamedFile(Url(server.url) / "a.tar", Attempts(remote, wait=waits.append)) as file:
        return file.read()


@pytest.mark.parametrize(
    ("faults", "starts"),
    [
        ([], [0]),
        ([Fault(status=503), Fault(status=429)], [0, 0, 0]),
        ([Fault(break_after=100), Fault(break_after=0)], [0, 100, 100]),
        ([Fault(break_after=70_000), Fault(ignore_range=True)], [0, 70_000]),
        ([Fault(break_after=2_400_000)], [0, 2_400_000]),
        # Much came between the failures: three in a row never were.
        (
            [*[Fault(status=503)] * 2, Fault(break_after=1_200_000), Fault(status=503)],
            [0, 0, 0, 1_200_000, 1_200_000],
        ),
    ],
)
def test_it_goes_on_where_it_broke_off(
    server: WebServer, faults: list[Fault], starts: list[int]
) -> None:
    """Would catch bytes lost or doubled at a break, and a server asked for all of it again."""
    server.faults["a.tar"] = list(faults)
    waits: list[float] = []
    assert read(server, waits) == CONTENT
    assert [start for _, start in server.requests] == starts
    assert len(waits) == len(starts) - 1


def test_it_gives_up_in_one_line(server: WebServer) -> None:
    """Would catch a file that ends early and passes for a whole one, or is asked for for ever."""
    server.always = Fault(break_after=100)
    with pytest.raises(DataError, match=r"/a\.tar did not come in 3 attempts: Connection broken"):
        read(server, [])
    server.always = Fault(status=404)
    with pytest.raises(Absent):
        read(server, [])


def test_another_file_in_its_place_is_found(server: WebServer) -> None:
    """Would catch the beginning of one file joined to the end of another."""
    server.faults["a.tar"] = [Fault(break_after=1000), Fault(change=lambda content: content[:-1])]
    with pytest.raises(DataError, match=r"a\.tar changed while it was read: it had 2500000 bytes"):
        read(server, [])
