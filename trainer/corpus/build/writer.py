"""Tokenize documents into WebDataset shards: the same documents give the same bytes, and an
interrupted write continues.
"""

import json
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainer.data.manifest import Shard, token_dtype_for
from trainer.data.shards import seal_shard
from trainer.data.tar import PlainTarWriter
from trainer.data.tokenizer import Tokenizer
from trainer.files import whole_file

ENCODED_AT_ONCE = 256
ENCODED_CHARACTERS = 1 << 21
"""Documents are encoded together up to so many, or so many characters: a token of a batch takes
some 40 bytes until it is stored, and books are not to be held by the hundred.
"""
ENCODED_AHEAD = 2
OWNER = "lyceum"

KEYS_A_BUCKET = 10**9

StoredDocument = Mapping[str, str]
"""A document: the keys `id`, `source` and `text`."""


class Sample(NamedTuple):
    """A document as stored: its name without extension, its JSON, its tokens (little-endian)."""

    key: str
    about: bytes
    tokens: bytes


def write_shards(
    folder: Path,
    split: str,
    bucket: int,
    documents: Callable[[int], Iterator[StoredDocument]],
    tokenizer: Tokenizer,
    shard_tokens: int,
) -> list[Shard]:
    """Write those shards of a split's bucket that do not exist yet; returns all of the bucket's.

    `documents(n)` yields the bucket's documents from number n on. A document is stored as its
    tokens with the end-of-text token at both ends. A shard ends with the document that brings it to
    `shard_tokens` or more. A tar has its final name only when it is whole and on disk.
    """
    (folder / split).mkdir(exist_ok=True)
    token_dtype = token_dtype_for(tokenizer.size)
    sealed: list[Shard] = []
    while (folder / _shard_name(split, bucket, len(sealed))).is_file():
        sealed.append(seal_shard(folder, _shard_name(split, bucket, len(sealed)), token_dtype))
    done = sum(shard.documents for shard in sealed)
    number = bucket * KEYS_A_BUCKET + done
    samples = (made for _, made in tokenized(documents(done), tokenizer, token_dtype, number))
    for first in samples:
        name = _shard_name(split, bucket, len(sealed))
        _write_shard(folder / name, first, samples, shard_tokens, token_dtype)
        sealed.append(seal_shard(folder, name, token_dtype))
    return sealed


class ShardWriter:
    """Writes samples, in the order given, into the shards of one bucket of a split.

    `token_dtype`: uint16 or uint32; `shard_tokens`: tokens from which a shard is full.
    """

    def __init__(
        self, folder: Path, split: str, token_dtype: str, shard_tokens: int, bucket: int = 0
    ) -> None:
        self._folder, self._split, self._token_dtype = folder, split, token_dtype
        self._bucket = bucket
        self._limit = shard_tokens * np.dtype(token_dtype).itemsize
        self._waiting: list[tuple[str, Sample]] = []
        self._size = 0
        self._sealed: list[Shard] = []

    @property
    def empty(self) -> bool:
        """Whether no sample was added."""
        return not (self._waiting or self._sealed)

    def give_up_first(self) -> list[Sample]:
        """Remove and return the samples of the smallest identity; an empty list where a shard was
        written already, or no other sample would remain.
        """
        smallest = min((identity for identity, _ in self._waiting), default=None)
        rest = [held for held in self._waiting if held[0] != smallest]
        if self._sealed or not rest:
            return []
        first = [sample for identity, sample in self._waiting if identity == smallest]
        self._waiting = rest
        return first

    def add(self, sample: Sample, identity: str) -> None:
        """Add a sample, whose content `identity` names; a full shard is written at once."""
        self._waiting.append((identity, sample))
        self._size += len(sample.tokens)
        if self._size >= self._limit:
            self._write()

    def close(self) -> list[Shard]:
        """Write the last shard; returns all shards, whole and on disk."""
        if self._waiting:
            self._write()
        return self._sealed

    def _write(self) -> None:
        (self._folder / self._split).mkdir(exist_ok=True)
        name = _shard_name(self._split, self._bucket, len(self._sealed))
        samples = (sample for _, sample in self._waiting)
        _write_shard(self._folder / name, next(samples), samples, self._limit, self._token_dtype)
        self._sealed.append(seal_shard(self._folder, name, self._token_dtype))
        self._waiting, self._size = [], 0


def _shard_name(split: str, bucket: int, number: int) -> str:
    return f"{split}/shard-{bucket:05d}-{number:05d}.tar"


def tokenized(
    records: Iterator[StoredDocument], tokenizer: Tokenizer, token_dtype: str, number: int
) -> Iterator[tuple[StoredDocument, Sample]]:
    """Each document, and as it is stored: under `number` and those that follow, the end-of-text
    token at both ends.
    """
    code = {"uint16": "H", "uint32": "I"}[token_dtype]
    end = tokenizer.end_of_text
    for batch, encoded in _encoded_ahead(records, tokenizer):
        for record, ids in zip(batch, encoded, strict=True):
            about = {
                "id": record["id"],
                "source": record["source"],
                "characters": len(record["text"]),
            }
            yield (
                record,
                Sample(
                    key=f"{number:014d}",
                    about=json.dumps(about, ensure_ascii=False).encode(),
                    # Half the time of an array made of a list.
                    tokens=struct.pack(f"<{len(ids) + 2}{code}", end, *ids, end),
                ),
            )
            number += 1


def _encoded_ahead(
    records: Iterator[StoredDocument], tokenizer: Tokenizer
) -> Iterator[tuple[list[StoredDocument], list[list[int]]]]:
    """Batches of documents with their token ids; the next ENCODED_AHEAD are encoded meanwhile."""
    waiting: deque[tuple[list[StoredDocument], Future[list[list[int]]]]] = deque()
    with ThreadPoolExecutor(max_workers=ENCODED_AHEAD) as pool:
        batches = _batches(records)
        while True:
            while len(waiting) <= ENCODED_AHEAD and (batch := next(batches, None)):
                texts = [record["text"] for record in batch]
                waiting.append((batch, pool.submit(tokenizer.encode_batch, texts)))
            if not waiting:
                return
            batch, encoded = waiting.popleft()
            yield batch, encoded.result()


def _batches(records: Iterator[StoredDocument]) -> Iterator[list[StoredDocument]]:
    """The documents in lists, each full with ENCODED_AT_ONCE or ENCODED_CHARACTERS."""
    batch: list[StoredDocument] = []
    characters = 0
    for record in records:
        batch.append(record)
        characters += len(record["text"])
        if len(batch) == ENCODED_AT_ONCE or characters >= ENCODED_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _write_shard(
    path: Path,
    first: Sample,
    rest: Iterator[Sample],
    shard_tokens: int,
    token_dtype: str,
) -> None:
    limit = shard_tokens * np.dtype(token_dtype).itemsize
    with whole_file(path) as file:
        tar = PlainTarWriter(file, OWNER)
        size = 0
        sample: Sample | None = first
        while sample is not None:
            tar.add(f"{sample.key}.json", sample.about)
            tar.add(f"{sample.key}.tokens", sample.tokens)
            size += len(sample.tokens)
            sample = next(rest, None) if size < limit else None
        tar.close()
