"""Tokenized documents into WebDataset shards: the same documents give the same bytes, and a
stopped write continues.
"""

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from trainer.data.manifest import Shard, Split, token_dtype_for, total_split
from trainer.data.shards import seal_shard
from trainer.data.staging import StagedDocuments
from trainer.data.tokenizer import Tokenizer

ENCODED_AT_ONCE = 256
OWNER = "lyceum"

Sample = dict[str, str | bytes]


def write_split(
    folder: Path,
    split: str,
    documents: StagedDocuments,
    tokenizer: Tokenizer,
    shard_tokens: int,
    advance: Callable[[int], None] = lambda documents: None,
) -> Split:
    """Write the shards of one split that are not there yet; `advance` is told how many documents
    are done.

    A document is stored as its tokens with the end-of-text token at both ends. A shard is closed
    when it holds `shard_tokens` or more. A tar has its final name only when it is whole and on
    disk.
    """
    (folder / split).mkdir(exist_ok=True)
    token_dtype = token_dtype_for(tokenizer.size)
    sealed: list[Shard] = []
    while (folder / _shard_name(split, len(sealed))).is_file():
        sealed.append(seal_shard(folder, _shard_name(split, len(sealed)), token_dtype))
    done = sum(shard.documents for shard in sealed)
    advance(done)
    samples = _samples(documents.read(split, done), tokenizer, token_dtype, done)
    for first in samples:
        name = _shard_name(split, len(sealed))
        _write_shard(folder / name, first, samples, shard_tokens, token_dtype, advance)
        sealed.append(seal_shard(folder, name, token_dtype))
    return total_split(sealed)


def _shard_name(split: str, number: int) -> str:
    return f"{split}/shard-{number:05d}.tar"


def _samples(
    records: Iterator[dict[str, str]], tokenizer: Tokenizer, token_dtype: str, number: int
) -> Iterator[Sample]:
    dtype = np.dtype(token_dtype).newbyteorder("<")
    end = tokenizer.end_of_text
    while batch := list(islice(records, ENCODED_AT_ONCE)):
        encoded = tokenizer.encode_batch([record["text"] for record in batch])
        for record, ids in zip(batch, encoded, strict=True):
            about = {
                "id": record["id"],
                "source": record["source"],
                "characters": len(record["text"]),
            }
            yield {
                "__key__": f"{number:09d}",
                "json": json.dumps(about, ensure_ascii=False).encode(),
                "tokens": np.array([end, *ids, end], dtype=dtype).tobytes(),
            }
            number += 1


def _write_shard(
    path: Path,
    first: Sample,
    rest: Iterator[Sample],
    shard_tokens: int,
    token_dtype: str,
    advance: Callable[[int], None],
) -> None:
    # webdataset imports torch: seconds that a command which writes nothing does not pay.
    from webdataset.writer import TarWriter

    limit = shard_tokens * np.dtype(token_dtype).itemsize
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        # No encoder, a fixed time and fixed owners: the bytes depend on the documents alone.
        tar = TarWriter(file, encoder=False, mtime=0, user=OWNER, group=OWNER)
        size = 0
        sample: Sample | None = first
        while sample is not None:
            tar.write(sample)
            advance(1)
            size += len(sample["tokens"])
            sample = next(rest, None) if size < limit else None
        tar.close()
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
