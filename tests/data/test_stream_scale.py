"""Resuming deep in an epoch of billions of documents takes no work and no memory for them."""

import tracemalloc
from pathlib import Path

import numpy as np

from tests.data.corpora import NumberedDocuments
from tests.parity.ranks import on_ranks
from tests.work import lines_run
from trainer.data.batch import Batch
from trainer.data.manifest import Manifest, Shard, total_split, write_manifest
from trainer.data.remote.reader import fitting_read_ahead
from trainer.data.stream import Stream
from trainer.recipe.data import RemoteSection

SHARDS, DOCUMENTS, TOKENS = 100_000, 20_000, 10_000_000


def write_billions(folder: Path) -> None:
    """A manifest of 100,000 shards of 20,000 documents: 2 billion documents, 1e12 tokens."""
    shards = [
        Shard(f"train/shard-{n:05d}.tar", 10**8, f"{n:064x}", f"{n:064x}", DOCUMENTS, TOKENS)
        for n in range(SHARDS)
    ]
    split = total_split(shards)
    assert split.documents == 2 * 10**9
    write_manifest(folder, Manifest("a" * 64, 2**31, 0, "uint32", {"train": split}))


def open_imagined(_folder: Path, shard: Shard, _dtype: str) -> NumberedDocuments:
    """Documents of about 500 tokens whose lengths follow from the shard's number."""
    number = int(shard.sha256, 16)
    lengths = np.random.default_rng(number).lognormal(np.log(500) - 0.5, 1.0, DOCUMENTS)
    return NumberedDocuments(np.maximum(lengths, 2).astype(np.int64), first=0)


def resume_deep(folder: Path) -> tuple[int, int, list[int]]:
    """From a saved position: first sequence, lines to the first batch, peak bytes a block."""
    arguments = {"sources": [(str(folder), 1.0)], "sequence_length": 4096, "block_shards": 4}
    state = Stream(**arguments, open_shard=open_imagined).state()
    state["sequences"] = 3 * 10**8
    state["sources"][0].update(taken=3 * 10**8, since=3 * 10**8)
    state["sources"][0].update(epoch=1, block=17_000, sequence=5_000)

    streams: list[Stream] = []
    batches: list[Batch] = []

    def resume() -> None:
        streams.append(Stream(**arguments, open_shard=open_imagined))
        streams[0].load_state(state)
        batches.append(streams[0].next(64, range(8)))

    lines = lines_run(resume)
    (stream,), (first,) = streams, batches

    tracemalloc.start()
    peaks, state = [], first.state
    for block in range(17_001, 17_006):
        tracemalloc.reset_peak()
        while state["sources"][0]["block"] < block:
            state = stream.next(512, range(2)).state
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    return first.first_sequence, lines, peaks


def test_resuming_among_billions_of_documents_replays_nothing_and_memory_is_flat(
    tmp_path: Path,
) -> None:
    """Catches resume by replay, and anything kept a document instead of a shard."""
    write_billions(tmp_path)
    # On a rank of its own: here garbage collection would also go through what all tests have left.
    first_sequence, lines, peaks = on_ranks(1, resume_deep, tmp_path)[0]
    assert first_sequence == 3 * 10**8
    # Measured: 12 lines a shard, which reading the manifest takes.
    assert lines < 20 * SHARDS
    # The first block was planned before the measurement began; blocks differ by a percent or so.
    assert max(peaks[1:]) < 1.1 * min(peaks[1:]), f"peak bytes by block: {peaks}"
    # 80,000 documents a block, some 100 bytes each while planned; 2 billion would take 200 GB.
    assert max(peaks) < 32 * 2**20


def test_only_the_first_stream_walks_a_remote_manifest() -> None:
    """Catches a walk over all shards at every evaluation, where the steps wait for it."""
    shards = [Shard(f"{n}.tar", n, "", "", 1, 1) for n in range(10_000)]
    manifest = Manifest("a" * 64, 300, 0, "uint16", {"train": total_split(shards)})
    remote = RemoteSection(cache_gib=0.001, read_ahead=1000)
    found: list[int] = []

    def fit() -> None:
        found.append(fitting_read_ahead([manifest], "train", 4, remote))

    assert lines_run(fit) > len(shards)
    assert lines_run(fit) < len(shards) / 10  # mostly those of its warning
    block = sum(range(9_996, 10_000)) + 4 * shards[0].index_bytes  # the largest four, and indexes
    assert found == [int(0.001 * 2**30) // block - 2] * 2
