"""The same documents in every form that is measured: our shards, a flat file, Parquet."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.data.manifest import Manifest, Shard, total_split, write_manifest
from trainer.data.shards import seal_shard
from trainer.data.tar import PlainTarWriter
from trainer.errors import DataError
from trainer.files import cache_folder

SEED = 4
VOCABULARY = 50_257
MEDIAN_TOKENS, SPREAD = 400, 1.2
"""Of the log-normal lengths: half the documents have fewer, the longest of 100,000 over 50,000."""
SHARD_TOKENS = 1_000_000
FORM = 1  # changes when what is written does, so that an older corpus is not taken for this one
FORMS = ("shards", "flat", "parquet")


@dataclass(frozen=True)
class Workload:
    """What each contestant reads, the folder made by `make_corpus`, and what it must give."""

    folder: str
    tokens: int
    documents: int
    sequence_length: int
    rows: int
    block_shards: int

    @property
    def batches(self) -> int:
        """How many batches one pass over the corpus fills, at least one."""
        return max(self.tokens // (self.rows * self.sequence_length), 1)

    @property
    def arguments(self) -> dict[str, object]:
        """The arguments of our stream."""
        return {
            "sources": [[f"{self.folder}/shards", 1.0]],
            "sequence_length": self.sequence_length,
            "seed": SEED,
            "block_shards": self.block_shards,
        }


def document_lengths(tokens: int) -> np.ndarray:
    """Lengths of documents as web text has them, `tokens` in all, int64 [documents]."""
    generator = np.random.default_rng(SEED)
    lengths = np.empty(0, dtype=np.int64)
    while lengths.sum() < tokens:
        drawn = generator.lognormal(np.log(MEDIAN_TOKENS), SPREAD, 1 + tokens // MEDIAN_TOKENS)
        lengths = np.concatenate([lengths, np.maximum(drawn, 16).astype(np.int64)])
    return lengths[: int(np.searchsorted(np.cumsum(lengths), tokens)) + 1]


def make_corpus(tokens: int) -> Path:
    """The folder with a corpus of `tokens` tokens or a document more, made if it is not there.

    Raises DataError where it cannot be written.
    """
    folder = cache_folder("bench-data") / f"{tokens}-{FORM}"
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        if not folder.is_dir():
            partial.mkdir(parents=True)
            _write(partial, document_lengths(tokens))
            partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(
            f"{folder}: the benchmark's corpus cannot be written ({error.strerror}): set"
            " LYCEUM_CACHE to a folder with space"
        ) from error
    return folder


def _write(folder: Path, lengths: np.ndarray) -> None:
    """Shard by shard, so that no more than one is in memory."""
    for form in FORMS:
        (folder / form).mkdir()
    (folder / "shards" / "train").mkdir()
    generator = np.random.default_rng(SEED + 1)
    ends = np.cumsum(lengths)
    count = -(-int(ends[-1]) // SHARD_TOKENS)
    borders = np.searchsorted(ends, np.arange(count + 1) * SHARD_TOKENS)
    borders[-1] = len(lengths)
    shards = []
    with (folder / "flat" / "tokens.bin").open("wb") as flat:
        for number in range(count):
            first, last = int(borders[number]), int(borders[number + 1])
            own = lengths[first:last]
            tokens = generator.integers(1, VOCABULARY, int(own.sum())).astype("<u2")
            stops = np.cumsum(own)
            tokens[stops - 1] = tokens[stops - own] = 0
            tokens.tofile(flat)
            shards.append(_write_shard(folder / "shards", number, tokens, stops, first))
            _write_parquet(folder / "parquet" / f"part-{number:05d}.parquet", tokens, stops)
    splits = {"train": total_split(shards)}
    write_manifest(folder / "shards", Manifest("0" * 64, VOCABULARY, 0, "uint16", splits))


def _write_shard(
    folder: Path, number: int, tokens: np.ndarray, stops: np.ndarray, first: int
) -> Shard:
    name = f"train/shard-{number:05d}.tar"
    with (folder / name).open("wb") as file:
        tar = PlainTarWriter(file, "lyceum")
        for index, document in enumerate(np.split(tokens, stops[:-1]), start=first):
            about = {"id": f"bench:{index}", "source": "bench", "characters": 4 * len(document)}
            tar.add(f"{index:014d}.json", json.dumps(about).encode())
            tar.add(f"{index:014d}.tokens", document.tobytes())
        tar.close()
    return seal_shard(folder, name, "uint16")


def _write_parquet(path: Path, tokens: np.ndarray, stops: np.ndarray) -> None:
    import pyarrow
    import pyarrow.parquet

    offsets = np.concatenate([[0], stops]).astype(np.int32)
    column = pyarrow.ListArray.from_arrays(pyarrow.array(offsets), pyarrow.array(tokens))
    pyarrow.parquet.write_table(pyarrow.table({"tokens": column}), path)
