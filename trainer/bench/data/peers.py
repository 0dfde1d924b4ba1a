"""The usual ways from stored tokens to batches: the same documents, rows and number of batches.

They cut the concatenated documents into rows: no padding, and no document borders either, which is
less work than ours. All make int64 tokens and labels, a batch at a time in the worker.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from trainer.bench.data.corpus import SEED, Workload
from trainer.bench.data.ours import TokenWork

SHUFFLE_BUFFER = 1000
"""Documents, of the peers that shuffle in a buffer: WebDataset's and datasets' own default."""


def memmap(workload: Workload, workers: int) -> TokenWork:
    """Random windows of a flat file of tokens, as nanoGPT reads it."""
    return _batches_of(_Windows(workload), workload, workers)


def webdataset(workload: Workload, workers: int) -> TokenWork:
    """`webdataset.WebDataset` over our shards, with its shuffle buffer."""
    import webdataset

    urls = sorted(str(path) for path in Path(workload.folder).glob("shards/train/*.tar"))
    samples = webdataset.WebDataset(urls, shardshuffle=100, seed=SEED, empty_check=False)
    documents = samples.shuffle(SHUFFLE_BUFFER).repeat().map(_tokens_of_sample)
    return _batches_of(_Chunked(documents, workload), workload, workers)


def datasets(workload: Workload, workers: int) -> TokenWork:
    """`datasets`, streaming Parquet with its shuffle buffer."""
    import datasets

    datasets.disable_progress_bars()
    files = sorted(str(path) for path in Path(workload.folder).glob("parquet/*.parquet"))
    streamed = datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)
    shuffled = streamed.shuffle(seed=SEED, buffer_size=SHUFFLE_BUFFER).repeat(None)
    return _batches_of(_Chunked(shuffled.with_format("numpy"), workload), workload, workers)


CONTESTANTS: dict[str, Callable[[Workload], TokenWork]] = {
    f"{name}, {workers} workers": partial(contestant, workers=workers)
    for name, contestant in (
        ("numpy memmap", memmap),
        ("webdataset", webdataset),
        ("HF datasets", datasets),
    )
    for workers in (0, 1)
}


def _batches_of(dataset: IterableDataset[Any], workload: Workload, workers: int) -> TokenWork:
    def work() -> int:
        loader = DataLoader(
            dataset,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=2 if workers else None,
        )
        tokens = 0
        for batch, _labels in islice(loader, workload.batches):
            tokens += batch.numel()
        return tokens

    return work


class _Windows(IterableDataset[Any]):
    def __init__(self, workload: Workload):
        self._path = Path(workload.folder) / "flat" / "tokens.bin"
        self._length, self._rows = workload.sequence_length, workload.rows

    def __iter__(self) -> Iterator[Any]:
        tokens = np.memmap(self._path, dtype="<u2", mode="r")
        generator = np.random.default_rng(SEED)
        while True:
            starts = generator.integers(0, len(tokens) - self._length, self._rows).tolist()
            yield tuple(
                torch.from_numpy(
                    np.stack([tokens[i + shift : i + shift + self._length] for i in starts]).astype(
                        np.int64
                    )
                )
                for shift in (0, 1)
            )


class _Chunked(IterableDataset[Any]):
    """Documents (objects with `tokens`) joined and cut into rows."""

    def __init__(self, documents: Iterable[Any], workload: Workload):
        self._documents = documents
        self._shape = workload.rows, workload.sequence_length

    def __iter__(self) -> Iterator[Any]:
        rows, length = self._shape
        needed = rows * length + 1
        held: list[np.ndarray] = []
        count = 0
        for document in self._documents:
            held.append(document["tokens"])
            count += len(held[-1])
            while count >= needed:
                joined = np.concatenate(held)
                whole = torch.from_numpy(joined[:needed].astype(np.int64))
                yield whole[:-1].view(rows, length), whole[1:].view(rows, length)
                # The last label is the next row's first token.
                held = [joined[needed - 1 :]]
                count = len(held[0])


def _tokens_of_sample(sample: dict[str, Any]) -> dict[str, np.ndarray]:
    return {"tokens": np.frombuffer(sample["tokens"], dtype="<u2")}
