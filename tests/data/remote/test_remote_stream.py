"""A stream over s3:// or http:// is the stream over the folder, from a small cache."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.corpora import random_documents, write_corpus
from tests.data.remote.bound import used
from tests.data.remote.servers import Fault, WebServer, s3_server, upload, web_server
from trainer.corpus.inspect.contents import inspect_corpus
from trainer.corpus.inspect.verify import verify_corpus
from trainer.data.batch import Batch
from trainer.data.loader import Loader, validation_batches
from trainer.data.manifest import load_manifest
from trainer.data.order import shard_order
from trainer.data.remote import cache as cache_module
from trainer.data.remote import transfer
from trainer.data.remote.cache import GIB
from trainer.data.remote.location import place
from trainer.data.remote.storage import s3_client
from trainer.data.stream import Stream
from trainer.data.tokenizer import load_tokenizer, train_tokenizer
from trainer.errors import DataError
from trainer.recipe.data import RemoteSection

TOKENIZER = train_tokenizer(["some text to learn from"] * 5, 260)
SHARDS = 8
BLOCK = 2
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long waits."""
    monkeypatch.setattr(transfer, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(cache_module, "ROOM_WAIT_SECONDS", 20.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train = [random_documents([300, 70, 550, 20, 180] * 6, seed) for seed in range(SHARDS)]
    validation = [random_documents([25, 11, 40], 99)]
    made = write_corpus(tmp_path / "served/corpus", train, validation)
    TOKENIZER.save(made / "tokenizer")
    return made


@pytest.fixture
def server(folder: Path) -> Iterator[WebServer]:
    with web_server(folder.parent) as made:
        yield made


@pytest.fixture(params=["http", "s3"])
def url(request, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The corpus behind a plain web server, and behind S3."""
    if request.param == "http":
        with web_server(folder.parent) as made:
            yield f"{made.url}/corpus"
        return
    s3_client.cache_clear()
    with s3_server(monkeypatch):
        upload(folder, "bucket", "corpus/")
        yield "s3://bucket/corpus"
    s3_client.cache_clear()


def room_for(blocks: float, folder: Path) -> float:
    """Bytes that so many of the largest blocks and the validation take up, with their indices."""
    splits = load_manifest(folder).splits
    stored = {
        name: sorted(shard.bytes + 4096 + 32 * shard.documents for shard in split.shards)
        for name, split in splits.items()
    }
    return blocks * sum(stored["train"][-BLOCK:]) + sum(stored["validation"])


def arguments(corpus: str, cache: Path, blocks: float, folder: Path, **remote: Any) -> dict:
    """A stream with room for so many blocks in its cache."""
    section = RemoteSection(
        cache=str(cache),
        cache_gib=room_for(blocks, folder) / GIB,
        **{"attempts": 2, "timeout_seconds": 20.0, **remote},
    )
    return {
        "sources": [[corpus, 1.0]],
        "sequence_length": 256,
        "seed": 3,
        "block_shards": BLOCK,
        "remote": section.model_dump(mode="json"),
    }


def taken(loader: Loader, count: int, watch: Callable[[], None] = lambda: None) -> list[Batch]:
    batches = []
    try:
        for batch in itertools.islice(loader, count):
            watch()
            batches.append(batch)
    finally:
        loader.close()
    return batches


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine.tokens, theirs.tokens) and torch.equal(mine.labels, theirs.labels)
        assert torch.equal(mine.position_ids, theirs.position_ids)
        assert mine.state == theirs.state


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_batches_are_the_local_ones(url, folder, tmp_path, workers: int) -> None:
    """Would catch an order, a state or a token that depends on where the corpus lies.

    Two epochs through a cache of four blocks' room, half the corpus; from the middle on as well.
    """
    local = arguments(str(folder), tmp_path / "unused", 1, folder)
    expected = taken(Loader(local, 4, [0, 3], 0), 130)
    assert expected[-1].state["sources"][0]["epoch"] == 2
    cache = tmp_path / "cache"
    made = arguments(url, cache, 3.2, folder)
    limit = made["remote"]["cache_gib"] * GIB
    assert limit < sum(s.bytes for s in load_manifest(folder).splits["train"].shards)

    def bounded() -> None:
        assert used(cache) <= limit

    assert_same(taken(Loader(made, 4, [0, 3], workers), 130, bounded), expected)
    middle = json.loads(json.dumps(expected[60].state))
    resumed = taken(Loader(made, 4, [0, 3], workers, state=middle), 20, bounded)
    assert_same(resumed, expected[61:81])
    assert len(list((cache / "objects").iterdir())) < 2 * SHARDS, "some were removed"


def test_validation_and_training_fit_together(server: WebServer, folder, tmp_path) -> None:
    """Would catch an evaluation that waits for room which the training holds."""
    made = arguments(f"{server.url}/corpus", tmp_path / "cache", 2.01, folder)
    stream = Stream(**made)
    stream.next(1, [0])
    batches = list(validation_batches(made, 4, 1, [0]))
    stream.close()
    local = list(validation_batches({**made, "sources": [[str(folder), 1.0]]}, 4, 1, [0]))
    assert_same(batches, local)


def shard_names(block: int) -> list[str]:
    order = shard_order(SHARDS, 3, 0, 0)[block * BLOCK : (block + 1) * BLOCK]
    return [f"corpus/train/shard-{number:05d}.tar" for number in order]


def test_the_next_block_comes_while_the_present_one_is_read(server, folder, tmp_path) -> None:
    """Would catch a first batch that waits for more than its block, and a GPU that waits later."""
    began, release = threading.Event(), threading.Event()
    for name in shard_names(1):
        server.faults[name] = [Fault(stall_after=10, reached=began, release=release)]
    made = arguments(f"{server.url}/corpus", tmp_path / "cache", 9, folder)
    stream = Stream(**made)
    first = stream.next(1, [0])
    assert began.wait(20), "the next block is asked for, with the first batch in hand"
    assert all(server.count(name) == 0 for name in shard_names(2)), "and the one after it is not"
    release.set()
    local = Stream(**{**made, "sources": [[str(folder), 1.0]]})
    assert_same(
        [first, *(stream.next(1, [0]) for _ in range(90))], [local.next(1, [0]) for _ in range(91)]
    )
    stream.close()


@pytest.mark.parametrize(("read_ahead", "blocks"), [(0, 9), (1, 2.9)])
def test_without_room_or_wish_nothing_is_fetched_ahead(
    server, folder, tmp_path, read_ahead: int, blocks: float
) -> None:
    """Would catch read-ahead that throws out what is about to be read."""
    made = arguments(
        f"{server.url}/corpus", tmp_path / "cache", blocks, folder, read_ahead=read_ahead
    )
    stream = Stream(**made)
    stream.next(1, [0])
    asked = {path.lstrip("/") for path, _ in server.requests if path.endswith(".tar")}
    assert asked == set(shard_names(0))
    stream.close()


def test_a_failure_ahead_is_no_failure(server: WebServer, folder, tmp_path) -> None:
    """Would catch a run ended by a source that was down while nobody needed it."""
    began = threading.Event()
    for name in shard_names(1):
        server.faults[name] = [Fault(404), Fault(stall_after=1, reached=began, release=began)]
    made = arguments(f"{server.url}/corpus", tmp_path / "cache", 9, folder)
    stream, local = Stream(**made), Stream(**{**made, "sources": [[str(folder), 1.0]]})
    found = [stream.next(1, [0]) for _ in range(100)]
    assert_same(found, [local.next(1, [0]) for _ in range(100)])
    stream.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_that_dies_is_one_line(server, folder, tmp_path, workers: int) -> None:
    """Would catch a hang or a wrong batch when the server goes away during the run."""
    for name in shard_names(2):
        server.faults[name] = [Fault(503)] * 50
    made = arguments(f"{server.url}/corpus", tmp_path / "cache", 9, folder, attempts=2)
    local = Stream(**{**made, "sources": [[str(folder), 1.0]]})
    good: list[Batch] = []
    with pytest.raises(DataError, match=r"did not come in 2 attempts: the server answered 503"):
        for batch in Loader(made, 1, [0], workers):
            good.append(batch)
            assert len(good) < 200
    assert_same(good, [local.next(1, [0]) for _ in range(len(good))])
    assert good[-1].state["sources"][0]["block"] == 1


def test_a_cache_without_room_for_its_blocks_is_refused_at_once(server, folder, tmp_path) -> None:
    """Would catch a run that stops at its first evaluation, or when one worker is ahead."""
    url = f"{server.url}/corpus"
    for blocks in (0.5, 1.99):
        with pytest.raises(DataError) as caught:
            Stream(**arguments(url, tmp_path / "cache", blocks, folder))
        line = str(caught.value)
        assert line.startswith("data.remote.cache_gib is ") and "\n" not in line
        assert f"need {room_for(2, folder) / GIB:.3g}" in line


@pytest.mark.parametrize("workers", [1, 3])
def test_the_least_room_is_enough_for_any_workers(server, folder, tmp_path, workers: int) -> None:
    """Would catch a worker that is ahead and one that is behind, each in need of the other's room.

    With room for one block, two workers were seen to wait for each other.
    """
    made = arguments(f"{server.url}/corpus", tmp_path / "cache", 2.001, folder)
    local = Loader({**made, "sources": [[str(folder), 1.0]]}, 4, [0], 0)
    assert_same(taken(Loader(made, 4, [0], workers), 100), taken(local, 100))


def test_a_manifest_that_is_not_there_is_one_line(server: WebServer, folder: Path) -> None:
    """Would catch a stack trace for a wrong URL, or for a server's page taken for a manifest."""
    with pytest.raises(DataError, match=r"nowhere/manifest.json is not there \(404\)"):
        load_manifest(f"{server.url}/nowhere")
    (folder / "manifest.json").write_text("<html>")
    with pytest.raises(DataError, match=r"corpus/manifest.json is not JSON"):
        load_manifest(f"{server.url}/corpus")


def test_a_tokenizer_comes_with_its_corpus(url: str) -> None:
    """Would catch a run that needs a local copy of the tokenizer of a remote corpus."""
    found = load_tokenizer(place(url) / "tokenizer")
    assert found.fingerprint == TOKENIZER.fingerprint and found.files == TOKENIZER.files
    with pytest.raises(DataError, match=r"tokenizer.json is not there"):
        load_tokenizer(url)


def test_what_reads_whole_corpora_asks_for_a_copy(url: str) -> None:
    """Would catch a path such as s3:/bucket in the report on a corpus that is said to be absent."""
    for check in (verify_corpus, inspect_corpus):
        with pytest.raises(DataError, match=f"{url} is remote, .* copy it"):
            check(Path(url))
