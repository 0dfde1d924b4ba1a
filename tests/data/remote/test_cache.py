"""The cache is bounded, whole, shared, and forgives a process that is killed."""

import errno
import fcntl
import hashlib
import logging
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.remote.bound import used
from tests.data.remote.servers import Fault, WebServer, web_server
from trainer.data.remote import cache as cache_module
from trainer.data.remote.cache import GIB, Cache, CachedFile, NoRoom
from trainer.data.remote.location import Url
from trainer.data.remote.transfer import Attempts, Wanted
from trainer.errors import DataError
from trainer.recipe.data import RemoteSection

SIZE = 300_000
FILES = {f"shard-{number}.tar": random.Random(number).randbytes(SIZE) for number in range(6)}
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    with web_server(folder) as made:
        yield made


@pytest.fixture
def remote(tmp_path: Path) -> RemoteSection:
    """Room for three files and a half."""
    folder = str(tmp_path / "cache")
    return RemoteSection(cache=folder, cache_gib=3.5 * SIZE / GIB, attempts=3, timeout_seconds=10)


def wanted(server: WebServer, number: int) -> Wanted:
    name = f"shard-{number}.tar"
    digest = hashlib.sha256(FILES[name]).hexdigest()
    return Wanted(Url(server.url) / name, digest, SIZE)


def fetch(
    server: WebServer, remote: RemoteSection, number: int, patient: bool = True
) -> CachedFile:
    """Fetch a file; the bound is checked at every piece that arrives, and at the end."""

    def watch() -> bool:
        assert used(str(remote.cache)) <= remote.cache_gib * GIB
        return False

    kept = Cache(remote).fetch(wanted(server, number), Attempts(remote, cancelled=watch), patient)
    watch()
    assert kept.path.read_bytes() == FILES[f"shard-{number}.tar"]
    return kept


def present(server: WebServer, remote: RemoteSection) -> set[int]:
    """The files that are whole in the cache."""
    objects = Path(str(remote.cache)) / "objects"
    return {number for number in range(6) if (objects / wanted(server, number).sha256).exists()}


def test_a_file_that_comes_between_looking_and_fetching_is_not_fetched_again(
    server: WebServer, remote: RemoteSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch the race of two processes, of which one looks just before the other is done."""
    fetch(server, remote, 0).close()
    look = Cache._find
    missed: list[str] = []

    def look_too_early(cache: Cache, sha256: str) -> CachedFile | None:
        if missed:
            return look(cache, sha256)
        missed.append(sha256)
        return None

    monkeypatch.setattr(Cache, "_find", look_too_early)
    fetch(server, remote, 0).close()
    assert missed and server.count("shard-0.tar") == 1


def test_a_file_is_fetched_once(server: WebServer, remote: RemoteSection) -> None:
    """Would catch a cache that does not find what it holds."""
    for _ in range(3):
        fetch(server, remote, 0).close()
    assert server.count("shard-0.tar") == 1


def test_the_longest_unused_goes_first(server: WebServer, remote: RemoteSection) -> None:
    """Would catch an order by arrival, which throws away what every epoch begins with."""
    for number in (0, 1, 2, 0, 3):
        fetch(server, remote, number).close()
    assert present(server, remote) == {0, 2, 3}
    for number in (4, 5):
        fetch(server, remote, number).close()
    assert present(server, remote) == {3, 4, 5}


def test_what_is_open_stays(server: WebServer, remote: RemoteSection) -> None:
    """Would catch a shard removed under its reader, in this process or in another."""
    held = fetch(server, remote, 0)
    for number in (1, 2, 3, 4):
        fetch(server, remote, number).close()
        assert 0 in present(server, remote)
    held.close()
    fetch(server, remote, 5).close()
    assert 0 not in present(server, remote), "negative control: closed, it goes"


def hold(server: WebServer, remote: RemoteSection, number: int, held, release) -> None:
    kept = fetch(server, remote, number)
    held.set()
    release.wait(60)
    kept.close()


def test_what_another_process_has_open_stays(server: WebServer, remote: RemoteSection) -> None:
    """Would catch eviction that knows the readers of its own process only."""
    held, release = FORK.Event(), FORK.Event()
    reader = FORK.Process(target=hold, args=(server, remote, 0, held, release))
    reader.start()
    assert held.wait(60)
    for number in (1, 2, 3, 4):
        fetch(server, remote, number).close()
    assert 0 in present(server, remote)
    release.set()
    reader.join(60)
    fetch(server, remote, 5).close()
    assert reader.exitcode == 0 and 0 not in present(server, remote)


def test_without_room_it_ends_in_a_line(server: WebServer, remote: RemoteSection, caplog) -> None:
    """Would catch a cache that grows past its bound, or waits for ever for its own process."""
    held = [fetch(server, remote, number) for number in range(3)]
    with pytest.raises(NoRoom):
        fetch(server, remote, 3, patient=False)
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(
        NoRoom, match=r"no room for .*shard-3.tar .* raise data.remote.cache_gib to"
    ):
        Cache(remote).fetch(wanted(server, 3), Attempts(remote, wait, lambda: now[0]))
    assert 600 <= now[0] < 601 and len(held) == 3
    assert "waiting for other readers" in caplog.text


def test_room_that_others_give_back_is_taken(server: WebServer, remote: RemoteSection) -> None:
    """Would catch a reader that gives up though another is about to be done."""
    held = [fetch(server, remote, number) for number in range(3)]
    attempts = Attempts(remote, wait=lambda _: held[1].close())
    Cache(remote).fetch(wanted(server, 3), attempts).close()
    assert present(server, remote) == {0, 2, 3}


def test_a_file_larger_than_the_cache_is_refused(server: WebServer, remote: RemoteSection) -> None:
    """Would catch everything else thrown away for a file that cannot fit."""
    fetch(server, remote, 0).close()
    small = remote.model_copy(update={"cache_gib": 0.5 * SIZE / GIB})
    with pytest.raises(DataError, match=r"data.remote.cache_gib is .*: raise it"):
        fetch(server, small, 1)
    assert present(server, remote) == {0}


def test_readers_share_what_one_of_them_fetched(server, remote: RemoteSection) -> None:
    """Would catch a rank that waits until the one that fetched a shard has read it to its end."""
    reached, release, done = threading.Event(), threading.Event(), threading.Event()
    server.faults["shard-0.tar"] = [Fault(stall_after=1000, reached=reached, release=release)]
    held: list[CachedFile] = []

    def read() -> None:
        held.append(fetch(server, remote, 0))
        if len(held) == 3:
            done.set()

    readers = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    readers[0].start()
    assert reached.wait(60)
    for reader in readers[1:]:
        reader.start()
    release.set()
    assert done.wait(60), "all three hold it at once"
    held.append(fetch(server, remote, 0))
    assert server.count("shard-0.tar") == 1 and len(held) == 4


def fetch_all(server: WebServer, remote: RemoteSection, start, numbers: list[int]) -> None:
    start.wait(60)
    for number in numbers:
        fetch(server, remote, number).close()


def test_two_processes_download_a_file_once(server: WebServer, remote: RemoteSection) -> None:
    """Would catch every rank of a node fetching the whole corpus for itself."""
    start = FORK.Barrier(4)
    readers = [
        FORK.Process(target=fetch_all, args=(server, remote, start, [0, 1, 2])) for _ in range(4)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
        assert reader.exitcode == 0
    assert [server.count(f"shard-{number}.tar") for number in range(3)] == [1, 1, 1]


def test_processes_in_each_other_s_way_keep_the_bound(server, remote: RemoteSection) -> None:
    """Would catch two processes that both take the last room, and files removed too early."""
    start = FORK.Barrier(3)
    orders = [[*range(6)] * 2, [*range(5, -1, -1)] * 2, [3, 0, 5, 1, 4, 2] * 2]
    readers = [FORK.Process(target=fetch_all, args=(server, remote, start, o)) for o in orders]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
        assert reader.exitcode == 0
    assert used(str(remote.cache)) <= remote.cache_gib * GIB


def fetch_and_be_killed(server: WebServer, remote: RemoteSection) -> None:
    def after_some() -> bool:
        if used(str(remote.cache)) > SIZE // 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    Cache(remote).fetch(wanted(server, 0), Attempts(remote, cancelled=after_some))


def test_a_killed_download_is_gone_on_with(server: WebServer, remote: RemoteSection) -> None:
    """Would catch a lock, a reservation or half a file that outlives kill -9."""
    victim = FORK.Process(target=fetch_and_be_killed, args=(server, remote))
    victim.start()
    victim.join(60)
    assert victim.exitcode == -signal.SIGKILL and present(server, remote) == set()
    left = used(str(remote.cache))
    assert 0 < left < SIZE
    fetch(server, remote, 0).close()
    assert server.requests == [("/shard-0.tar", 0), ("/shard-0.tar", left)]


def test_what_a_killed_process_reserved_is_given_to_others(server, remote: RemoteSection) -> None:
    """Would catch a cache that shrinks with every killed download."""
    victim = FORK.Process(target=fetch_and_be_killed, args=(server, remote))
    victim.start()
    victim.join(60)
    held = [fetch(server, remote, number) for number in (1, 2, 3)]
    assert len(held) == 3 and present(server, remote) == {1, 2, 3}


def test_a_reservation_counts_before_its_bytes_are_there(server, remote: RemoteSection) -> None:
    """Would catch downloads that begin together and overfill the cache together."""
    reached, release = threading.Event(), threading.Event()
    server.faults["shard-0.tar"] = [Fault(stall_after=1000, reached=reached, release=release)]
    slow = threading.Thread(target=lambda: fetch(server, remote, 0).close())
    slow.start()
    assert reached.wait(60)
    held = [fetch(server, remote, number) for number in (1, 2)]
    with pytest.raises(NoRoom):
        fetch(server, remote, 3, patient=False)
    release.set()
    slow.join(60)
    assert present(server, remote) == {0, 1, 2} and len(held) == 2


def test_damage_on_the_disk_is_mended(server: WebServer, remote: RemoteSection, caplog) -> None:
    """Would catch a flipped bit of the cache that is trained on, and one that ends the run."""
    kept = fetch(server, remote, 0)
    content = bytearray(kept.path.read_bytes())
    content[5] ^= 1
    kept.path.write_bytes(content)
    kept.close()
    with caplog.at_level(logging.WARNING):
        fetch(server, remote, 0).close()
    assert server.count("shard-0.tar") == 2 and "is damaged: fetching it again" in caplog.text


def test_a_full_disk_is_one_line(server: WebServer, remote: RemoteSection, monkeypatch) -> None:
    """Would catch a stack trace, and a lock that a failed process keeps."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*_: object) -> None:
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "download", refuse)
        with pytest.raises(DataError, match="No space left on device; free space there, lower"):
            fetch(server, remote, 0)
    fetch(server, remote, 0).close()


def test_a_folder_that_cannot_be_made_is_one_line(server, remote, tmp_path: Path) -> None:
    """Would catch a stack trace for a cache folder on a path that is a file."""
    (tmp_path / "file").touch()
    elsewhere = remote.model_copy(update={"cache": str(tmp_path / "file/cache")})
    with pytest.raises(DataError, match=r"name another folder as data.remote.cache"):
        fetch(server, elsewhere, 0)


@pytest.mark.parametrize("digest", ["../../../etc/passwd", "", "A" * 64, "0" * 63])
def test_a_checksum_is_no_path(server: WebServer, remote: RemoteSection, digest: str) -> None:
    """Would catch a manifest from elsewhere that writes outside the cache."""
    with pytest.raises(DataError, match="damaged sha256"):
        Cache(remote).fetch(Wanted(Url(server.url), digest, 5), Attempts(remote))
    assert server.requests == []


def test_a_source_that_fails_leaves_no_lock(server: WebServer, remote: RemoteSection) -> None:
    """Would catch an error that makes every later attempt wait."""
    server.always = Fault(404)
    with pytest.raises(DataError, match="is not there"):
        fetch(server, remote, 0)
    server.always = None
    fetch(server, remote, 0).close()
    (file,) = (Path(str(remote.cache)) / "objects").iterdir()
    with file.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_folder_follows_the_environment(monkeypatch, tmp_path: Path) -> None:
    """Would catch shards written to a home folder that a cluster keeps small."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path))
    assert cache_module.shard_cache(RemoteSection()) == tmp_path / "shards"
    assert cache_module.shard_cache(RemoteSection(cache="/x/y")) == Path("/x/y")
    monkeypatch.delenv("LYCEUM_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_module.shard_cache(RemoteSection()) == tmp_path / "home/.cache/lyceum/shards"
