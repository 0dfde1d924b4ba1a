"""Our way from shards to batches, whole and in its parts; each returns the tokens it has handled.

A contestant is called with a workload and does what is not measured (imports, above all); what it
returns is measured.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trainer.bench.data.corpus import SEED, Workload

TokenWork = Callable[[], int]


def read(workload: Workload) -> TokenWork:
    """Every document by its place in the shards, checksums included."""
    readers = _readers(workload)

    def work() -> int:
        tokens = 0
        for open_reader in readers:
            reader = open_reader()
            for index, length in enumerate(reader.lengths.tolist()):
                tokens += len(reader.tokens(index, 0, length))
            reader.close()
        return tokens

    return work


def plan(workload: Workload) -> TokenWork:
    """Shuffle and pack the documents of every block, from their lengths."""
    from trainer.data.packing import plan_block

    lengths = [open_reader().lengths for open_reader in _readers(workload)]
    size = workload.block_shards
    blocks = [lengths[start : start + size] for start in range(0, len(lengths), size)]

    def work() -> int:
        tokens = 0
        for number, block in enumerate(blocks):
            made = plan_block(block, workload.sequence_length, "best_fit", SEED, (0, 0, number))
            tokens += int(made.table[:, 3].sum())
        return tokens

    return work


def assemble(workload: Workload) -> TokenWork:
    """Batches of documents that are in memory already, each block's plan included."""
    from trainer.data.stream import Stream

    documents = {}
    for open_reader in _readers(workload):
        reader = open_reader()
        lengths = reader.lengths.copy()
        documents[reader.shard.name] = _InMemory(
            lengths, [reader.tokens(i, 0, n) for i, n in enumerate(lengths.tolist())]
        )
        reader.close()
    stream = Stream(
        **workload.arguments,  # type: ignore[arg-type]
        open_shard=lambda _folder, shard, _dtype: documents[shard.name],
    )

    def work() -> int:
        rows = range(workload.rows)
        for _ in range(workload.batches):
            stream.next(workload.rows, rows)
        return _positions(workload)

    return work


def batches(workload: Workload, workers: int) -> TokenWork:
    """Packed batches as the training loop gets them, from a cold start of the loader."""
    from trainer.data.loader import Loader

    def work() -> int:
        loader = Loader(workload.arguments, workload.rows, range(workload.rows), workers)
        for _ in islice(loader, workload.batches):
            pass
        loader.close()
        return _positions(workload)

    return work


CONTESTANTS: dict[str, Callable[[Workload], TokenWork]] = {
    "lyceum: read": read,
    "lyceum: shuffle and plan": plan,
    "lyceum: plan and assemble": assemble,
    **{f"lyceum: batches, {n} workers": partial(batches, workers=n) for n in range(3)},
}


class _InMemory:
    def __init__(self, lengths: np.ndarray, documents: list[np.ndarray]):
        self.lengths = lengths
        self._documents = documents

    def tokens(self, index: int, start: int, stop: int) -> np.ndarray:
        return self._documents[index][start:stop]

    def metadata(self, index: int) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def _readers(workload: Workload) -> list[Callable[[], Any]]:
    from trainer.data.manifest import load_manifest
    from trainer.data.shards import ShardReader

    folder = Path(workload.folder) / "shards"
    manifest = load_manifest(folder)
    return [
        partial(ShardReader, folder, shard, manifest.token_dtype)
        for shard in manifest.splits["train"].shards
    ]


def _positions(workload: Workload) -> int:
    """What the batches hold; `bench_command` says how much of it is padding."""
    return workload.batches * workload.rows * workload.sequence_length
