"""Small corpora of known documents for the tests, made as the real ones are."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from trainer.data.manifest import Manifest, Shard, Split, total_split, write_manifest
from trainer.data.shards import seal_shard

END_OF_TEXT = 0
TOKENIZER = "f" * 64


def random_documents(lengths: Sequence[int], seed: int = 0, vocab: int = 5000) -> list[list[int]]:
    """One document a length: END_OF_TEXT at both ends, random tokens between."""
    generator = np.random.default_rng(seed)
    return [
        [END_OF_TEXT, *generator.integers(1, vocab, length - 2).tolist(), END_OF_TEXT]
        for length in lengths
    ]


def write_split(
    folder: Path, split: str, shards: Sequence[Sequence[Sequence[int]]], token_dtype: str
) -> Split:
    """Write each list of documents as one shard."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    sealed = []
    for number, documents in enumerate(shards):
        name = f"{split}/shard-{number:05d}.tar"
        with webdataset.TarWriter(str(folder / name), mtime=0) as writer:
            for index, tokens in enumerate(documents):
                about = {"id": f"{split}.{number}.{index}", "source": "test", "characters": 0}
                writer.write(
                    {
                        "__key__": f"{index:06d}",
                        "json": json.dumps(about).encode(),
                        "tokens": np.array(tokens, dtype=token_dtype).tobytes(),
                    }
                )
        sealed.append(seal_shard(folder, name, token_dtype))
    return total_split(sealed)


def write_corpus(
    folder: Path,
    train: Sequence[Sequence[Sequence[int]]],
    validation: Sequence[Sequence[Sequence[int]]] = (),
    token_dtype: str = "uint16",
    tokenizer: str = TOKENIZER,
) -> Path:
    """Write a corpus folder of the given documents, a list of lists of token lists a split."""
    splits = {
        "train": write_split(folder, "train", train, token_dtype),
        "validation": write_split(folder, "validation", validation, token_dtype),
    }
    write_manifest(folder, Manifest(tokenizer, 5000, END_OF_TEXT, token_dtype, splits))
    return folder


class NumberedDocuments:
    """An open shard that exists only as lengths: token p of document d is `first[d] + p`.

    The numbers of two documents never touch, so a token tells its document and its place in it.
    """

    def __init__(self, lengths: np.ndarray, first: int):
        self.lengths = lengths
        self._first = first + np.concatenate([[0], np.cumsum(lengths + 1)[:-1]]).astype(np.int64)

    def tokens(self, index: int, start: int, stop: int) -> np.ndarray:
        return np.arange(start, stop) + self._first[index]

    def metadata(self, index: int) -> dict[str, Any]:
        return {"id": str(self._first[index]), "source": "numbered"}

    def close(self) -> None:
        pass


def numbered_corpus(
    folder: Path, lengths: Sequence[Sequence[int]], first: int = 1_000_000
) -> Callable[[Path, Shard, str], NumberedDocuments]:
    """Write a manifest alone, with one shard a list of lengths; returns what opens its shards."""
    folder.mkdir(parents=True, exist_ok=True)
    shards, opened = [], {}
    for number, part in enumerate(lengths):
        name = f"train/shard-{number:05d}.tar"
        shards.append(Shard(name, 0, f"{first}-{number}", "", len(part), sum(part)))
        opened[name] = NumberedDocuments(np.array(part, dtype=np.int64), first)
        first += sum(part) + len(part) + 1
    splits = {"train": total_split(shards)}
    write_manifest(folder, Manifest(TOKENIZER, 2**31, END_OF_TEXT, "uint32", splits))
    return lambda _folder, shard, _dtype: opened[shard.name]
