"""Made tokens stand in for a corpus: they must be one, with one document in each row."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from trainer.bench.tokens import made_corpus
from trainer.data.loader import Loader
from trainer.data.manifest import check_tokenizer, load_manifest
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import RecipeError


def rows_of(folder: Path, sequence_length: int, rows: int) -> tuple[torch.Tensor, ...]:
    """All rows of one pass: tokens, labels, positions."""
    arguments = {"sources": [(str(folder), 1.0)], "sequence_length": sequence_length, "seed": 3}
    loader = Loader(arguments, global_batch=rows, rows=range(rows), workers=0)
    batch = next(islice(loader, 1))
    loader.close()
    assert batch.padding == 0
    return batch.tokens, batch.labels, batch.position_ids


@pytest.mark.parametrize("vocab", [384, 70_000])
def test_each_row_is_one_document(tmp_path: Path, vocab: int) -> None:
    """Catches rows of two documents, whose mask peers do without, and ids cut off by the type."""
    made_corpus(tmp_path, sequence_length=64, vocab=vocab, rows=24)
    tokens, labels, positions = rows_of(tmp_path, 64, 24)
    assert torch.equal(positions, torch.arange(64).expand(24, -1))
    assert torch.equal(labels[:, :-1], tokens[:, 1:])
    assert (tokens[:, 0] == 0).all() and (labels[:, -1] == 0).all()
    inner = tokens[:, 1:]
    assert inner.min() >= 1 and inner.max() < vocab
    assert (inner > vocab // 4).any(), "the tail is drawn too"
    assert (inner == 1).sum() > (inner == 10).sum(), "frequent ones are more frequent"


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    """Catches two machines, or two sizes of a benchmark, that do not read the same tokens."""
    folders = [
        made_corpus(tmp_path / name, 32, 384, rows=8, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    first, same, other = (load_manifest(folder).splits for folder in folders)
    assert first == same
    assert first != other  # negative control


def test_the_tokenizer_is_the_corpus_own(tmp_path: Path) -> None:
    """Catches a folder that training would refuse."""
    made_corpus(tmp_path, 16, 384, rows=2)
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    check_tokenizer(load_manifest(tmp_path), tokenizer.fingerprint)
    assert (tokenizer.size, tokenizer.end_of_text) == (384, 0)


def test_a_row_too_short_is_refused(tmp_path: Path) -> None:
    """Catches an empty document that fails deep inside the packing."""
    with pytest.raises(RecipeError, match="sequence_length 2"):
        made_corpus(tmp_path, 1, 384, rows=2)
