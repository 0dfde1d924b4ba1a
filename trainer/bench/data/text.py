"""From text to shards, against the bare tokenizer over the same texts on all cores."""

import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.bench.data.corpus import MEDIAN_TOKENS, SEED, SHARD_TOKENS, SPREAD
from trainer.bench.data.ours import TokenWork
from trainer.errors import DataError

CHARACTERS_A_TOKEN = 4
VOCABULARY = 8192
TRAINING_TEXTS = 1000
BARE_BATCH = 1024


@dataclass(frozen=True)
class TextWorkload:
    """Texts by number of characters, and the tokenizer's folder."""

    characters: int
    tokenizer: str


def python_texts(characters: int) -> list[str]:
    """Python's own library, cut into documents as long as web pages are; fewer where it ends."""
    generator = np.random.default_rng(SEED)
    texts: list[str] = []
    total = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        left = path.read_text(encoding="utf-8", errors="replace")
        while left and total < characters:
            drawn = generator.lognormal(np.log(CHARACTERS_A_TOKEN * MEDIAN_TOKENS), SPREAD)
            texts.append(left[: max(int(drawn), 64)])
            left = left[len(texts[-1]) :]
            total += len(texts[-1])
    if not texts:
        raise DataError("bench data: Python's library has no source files here to tokenize")
    return texts


def save_tokenizer(folder: Path, characters: int) -> str:
    """Train a tokenizer on some of the texts; returns its folder."""
    from trainer.data.tokenizer import train_tokenizer

    train_tokenizer(python_texts(characters)[:TRAINING_TEXTS], VOCABULARY).save(folder)
    return str(folder)


def bare(workload: TextWorkload) -> TokenWork:
    """`tokenizers` alone, its ids never looked at."""
    from tokenizers import Tokenizer

    texts = python_texts(workload.characters)
    backend = Tokenizer.from_file(str(Path(workload.tokenizer) / "tokenizer.json"))
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True

    def work() -> int:
        for start in range(0, len(texts), BARE_BATCH):
            backend.encode_batch_fast(texts[start : start + BARE_BATCH], add_special_tokens=False)
        return sum(len(text.encode()) for text in texts)

    return work


def ours(workload: TextWorkload) -> TokenWork:
    """The builder's way: tokenized, written as shards, indexed, hashed and flushed to disk."""
    from trainer.corpus.build.writer import write_shards
    from trainer.data.tokenizer import load_tokenizer

    texts = python_texts(workload.characters)
    tokenizer = load_tokenizer(workload.tokenizer)

    def documents(first: int) -> Iterator[dict[str, str]]:
        for number, text in enumerate(texts[first:], start=first):
            yield {"id": f"python:{number}", "source": "python", "text": text}

    def work() -> int:
        with tempfile.TemporaryDirectory() as folder:
            write_shards(Path(folder), "train", 0, documents, tokenizer, SHARD_TOKENS)
        return sum(len(text.encode()) for text in texts)

    return work


CONTESTANTS: dict[str, Callable[[TextWorkload], TokenWork]] = {
    "lyceum: text to shards": ours,
    "tokenizers alone": bare,
}
