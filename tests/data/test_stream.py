"""The stream gives every token once an epoch, in an order that only its arguments change."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.corpora import END_OF_TEXT, numbered_corpus, random_documents, write_corpus
from trainer.data.batch import IGNORE, Batch
from trainer.data.stream import Stream
from trainer.errors import DataError, RecipeError

CORPUS = st.lists(st.lists(st.integers(2, 60), min_size=1, max_size=12), min_size=1, max_size=5)
SHAPE = {"sequence_length": st.integers(2, 40), "block_shards": st.integers(1, 6)}


@contextmanager
def numbered_streams(*corpora: list[list[int]], weights=None, **arguments: Any) -> Iterator[Any]:
    """A maker of equal streams over corpora of these lengths; a token tells its place."""
    with tempfile.TemporaryDirectory() as folder:
        opened: dict[Path, Any] = {}
        sources = []
        for number, lengths in enumerate(corpora):
            place = Path(folder) / f"corpus-{number}"
            opened[place] = numbered_corpus(place, lengths, first=(number + 1) * 10**8)
            sources.append((str(place), weights[number] if weights else 1.0))
        yield lambda **changes: Stream(
            sources,
            open_shard=lambda place, shard, dtype: opened[place](place, shard, dtype),
            **{**arguments, **changes},
        )


def take(stream: Stream, sequences: int, global_batch: int = 1) -> list[list[int]]:
    """The tokens of the next sequences, a list each."""
    rows: list[list[int]] = []
    for _ in range(0, sequences, global_batch):
        rows += stream.next(global_batch, range(global_batch)).tokens.tolist()
    return rows


def one_epoch(stream: Stream) -> list[Batch]:
    batches = []
    while not stream.ends_epoch():
        batches.append(stream.next(1, [0]))
    return batches


@given(corpus=CORPUS, **SHAPE, packing=st.sampled_from(["best_fit", "none"]))
@settings(max_examples=40, deadline=None)
def test_every_token_is_a_label_once_an_epoch(
    corpus: list[list[int]], sequence_length: int, block_shards: int, packing: str
) -> None:
    """Catches text lost or repeated: at a cut, a block's end, a shard's end or an epoch's end."""
    with numbered_streams(
        corpus, sequence_length=sequence_length, block_shards=block_shards, packing=packing
    ) as make:
        stream = make()
        for _epoch in range(2):
            batches = one_epoch(stream)
            labels = torch.cat([batch.labels.flatten() for batch in batches])
            found = sorted(labels[labels != IGNORE].tolist())
            expected, first = [], 10**8
            for part in corpus:
                for length in part:
                    expected += range(first + 1, first + length)
                    first += length + 1
                first += 1
            assert found == expected
            stream.next(1, [])
            stream.load_state(next_epoch(stream))


def next_epoch(stream: Stream) -> dict[str, Any]:
    """The state at the start of the epoch that the stream has just entered."""
    state = stream.state()
    state["sources"][0]["sequence"] = 0
    return state


@given(corpus=CORPUS, **SHAPE)
@settings(max_examples=40, deadline=None)
def test_no_row_crosses_documents(
    corpus: list[list[int]], sequence_length: int, block_shards: int
) -> None:
    """Catches a label from the next document, and positions that run on over a border."""
    with numbered_streams(
        corpus, sequence_length=sequence_length, block_shards=block_shards
    ) as make:
        for batch in one_epoch(make()):
            tokens, labels, positions = batch.tokens[0], batch.labels[0], batch.position_ids[0]
            real = labels != IGNORE
            assert torch.equal(labels[real], tokens[real] + 1)
            inside = real & (positions > 0)
            inside[0] = False
            before = torch.roll(tokens, 1)
            assert torch.equal(tokens[inside], before[inside] + 1)
            # A position continues the one before it or is 0: there is no other mask.
            steps = positions[1:] - positions[:-1]
            assert positions[0] == 0 and ((steps == 1) | (positions[1:] == 0)).all()
            padding = positions[~real]
            assert torch.equal(padding, torch.arange(len(padding)))
            assert (tokens[~real] == END_OF_TEXT).all() and (real[:-1] | ~real[1:]).all()


@given(corpus=CORPUS, **SHAPE, ranks=st.integers(1, 4), resume=st.integers(0, 4), data=st.data())
@settings(max_examples=40, deadline=None)
def test_samples_do_not_depend_on_ranks_or_resumes(
    corpus: list[list[int]], sequence_length: int, block_shards: int, ranks: int, resume: int, data
) -> None:
    """Catches an order that remembers how it was read: elastic resume would train on other data."""
    with numbered_streams(
        corpus, corpus[:1], sequence_length=sequence_length, block_shards=block_shards
    ) as make:
        batch, steps = 2 * ranks, 5
        expected = take(make(), steps * batch)
        assert take(make(), steps * batch, batch) == expected
        streams, found = [make() for _ in range(ranks)], []
        for step in range(steps):
            if step == resume:
                state = json.loads(json.dumps(streams[-1].state()))
                streams = [make() for _ in range(ranks)]
                for stream in streams:
                    stream.load_state(state)
            rows = data.draw(st.permutations(range(batch)))
            whole = torch.empty(batch, sequence_length, dtype=torch.int64)
            for rank, stream in enumerate(streams):
                mine = rows[rank::ranks]
                made = stream.next(batch, mine)
                assert made.first_sequence == step * batch
                whole[mine] = made.tokens
            found += whole.tolist()
        assert found == expected


def test_a_state_is_a_few_integers_a_source() -> None:
    """Catches a state that grows with what was read."""
    with numbered_streams([[30] * 20] * 9, [[9] * 50], sequence_length=16) as make:
        stream = make()
        small = len(json.dumps(stream.state()))
        take(stream, 500)
        assert len(json.dumps(stream.state())) < small + 30


def test_seeds_and_epochs_give_other_orders_and_the_same_seed_the_same() -> None:
    """Catches an ignored seed, and epochs that repeat each other."""
    with numbered_streams([[20] * 30] * 4, sequence_length=19, block_shards=2) as make:
        first, again, other = (take(make(seed=seed), 120) for seed in (7, 7, 8))
        assert first == again != other
        assert sorted(first) == sorted(other)
        stream = make(seed=7)
        epochs = [take(stream, 120) for _ in range(3)]
        assert all(sorted(epoch) == sorted(first) for epoch in epochs)
        assert len({json.dumps(epoch) for epoch in epochs}) == 3


@given(weights=st.lists(st.integers(1, 20), min_size=2, max_size=5))
@settings(max_examples=20, deadline=None)
def test_sources_share_the_stream_by_their_weights(weights: list[int]) -> None:
    """Catches a small corpus that, on its nth epoch, is read more or less than it should."""
    corpora = [[[12] * (5 + number)] for number in range(len(weights))]
    with numbered_streams(*corpora, weights=weights, sequence_length=11) as make:
        rows = take(make(), 100)
        counts = np.zeros(len(weights))
        for after, row in enumerate(rows, start=1):
            counts[row[0] // 10**8 - 1] += 1
            assert np.abs(counts - np.array(weights) / sum(weights) * after).max() < 1


@pytest.mark.parametrize("documents", [[[2]], [[2, 2]], [[500]], [[2], [3], [40]]])
def test_tiny_corpora_work(tmp_path: Path, documents: list[list[int]]) -> None:
    """Catches a corpus smaller than a block, a row or a batch: one document, one of two tokens."""
    written = [random_documents(part, seed=number) for number, part in enumerate(documents)]
    corpus = write_corpus(tmp_path / "corpus", written)
    stream = Stream([(str(corpus), 1.0)], sequence_length=64, block_shards=8)
    labels = torch.cat([batch.labels.flatten() for batch in one_epoch(stream)])
    expected = [token for part in written for document in part for token in document[1:]]
    assert sorted(labels[labels != IGNORE].tolist()) == sorted(expected)
    assert stream.next(32, range(32)).tokens.shape == (32, 64)


def test_tokens_come_from_the_shards_as_written(tmp_path: Path) -> None:
    """Catches an assembly that is right for lengths and wrong for bytes, in both stored types."""
    lengths = [2, 17, 90, 5, 33]
    sources = []
    for token_dtype in ("uint16", "uint32"):
        documents = [random_documents(lengths, seed) for seed in (1, 2)]
        folder = write_corpus(tmp_path / token_dtype, documents, token_dtype=token_dtype)
        sources.append((str(folder), 1.0))
    expected = {tuple(document) for part in documents for document in part}
    batch = Stream(sources, sequence_length=100, block_shards=1).next(8, range(8))
    found = set()
    for tokens, labels, positions in zip(
        batch.tokens, batch.labels, batch.position_ids, strict=True
    ):
        starts = [*torch.nonzero(positions == 0).flatten().tolist(), 100]
        for start, stop in pairwise(starts):
            if labels[start] != IGNORE:
                found.add((*tokens[start:stop].tolist(), int(labels[stop - 1])))
    assert found == expected


def test_an_empty_or_missing_split_is_refused(tmp_path: Path) -> None:
    """Catches a stream that would wait for ever for its first sequence."""
    corpus = write_corpus(tmp_path / "corpus", [random_documents([9])])
    for split in ("validation", "test"):
        with pytest.raises(DataError, match=f"no documents in its {split} split"):
            Stream([(str(corpus), 1.0)], split)


def test_corpora_of_two_tokenizers_are_refused(tmp_path: Path) -> None:
    """Catches a mixture in which one id means two things."""
    one = write_corpus(tmp_path / "one", [random_documents([9])])
    two = write_corpus(tmp_path / "two", [random_documents([9])], tokenizer="0" * 64)
    with pytest.raises(DataError) as caught:
        Stream([(str(one), 1.0), (str(two), 1.0)])
    assert str(one) in str(caught.value) and str(two) in str(caught.value)


def test_a_bad_weight_is_refused(tmp_path: Path) -> None:
    """Catches a weight that reaches the arithmetic."""
    corpus = write_corpus(tmp_path / "corpus", [random_documents([9])])
    with pytest.raises(RecipeError, match="weight 0"):
        Stream([(str(corpus), 0)])


def test_a_state_of_other_data_is_refused(tmp_path: Path) -> None:
    """Catches a resume that goes on in a corpus that was rebuilt: the same position, other text."""
    one = write_corpus(tmp_path / "one", [random_documents([9, 9])])
    two = write_corpus(tmp_path / "two", [random_documents([9, 9], seed=1)])
    stream, other = (Stream([(str(folder), 1.0)]) for folder in (one, two))
    stream.next(3, [])
    moved = write_corpus(tmp_path / "moved", [random_documents([9, 9])])
    same = Stream([(str(moved), 1.0)])
    same.load_state(stream.state())
    assert same.state() == stream.state(), "the same data at another place is the same data"
    with pytest.raises(DataError, match=f"is in other data than {two}: "):
        other.load_state(stream.state())
    both = Stream([(str(one), 1.0), (str(two), 1.0)])
    with pytest.raises(DataError, match=f"is in other data than {two}: "):
        both.load_state(stream.state())
    with pytest.raises(DataError, match="is in other data than the mixture: "):
        same.load_state(both.state())


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("sources"),
        lambda state: state.update(sequences=7),
        lambda state: state["sources"][0].update(epoch=-1),
        lambda state: state["sources"][0].update(block="x"),
        lambda state: state["sources"][0].pop("sequence"),
    ],
)
def test_a_damaged_state_is_refused(tmp_path: Path, damage) -> None:
    """Catches a position that is made up where a saved one cannot be read."""
    corpus = write_corpus(tmp_path / "corpus", [random_documents([9])])
    stream = Stream([(str(corpus), 1.0)])
    state = stream.state()
    damage(state)
    with pytest.raises(DataError, match="damaged"):
        stream.load_state(state)


def test_a_damaged_shard_stops_the_stream_before_a_wrong_batch(tmp_path: Path) -> None:
    """Catches a wrong batch: what comes before the damage is right, what comes after is nothing."""
    documents = [random_documents([30] * 8, seed) for seed in range(6)]
    corpus = write_corpus(tmp_path / "corpus", documents)

    def make() -> Stream:
        return Stream([(str(corpus), 1.0)], sequence_length=29, block_shards=1)

    intact = take(make(), 48)
    stream = make()
    stream.skip(24)
    damaged_name = stream.advance()[0]._shards[0].name
    with (corpus / damaged_name).open("r+b") as file:
        file.seek(700)
        file.write(b"\x07")
    stream = make()
    assert take(stream, 24) == intact[:24]
    with pytest.raises(DataError, match=damaged_name):
        stream.next(1, [0])


def test_a_token_that_the_model_has_no_row_for_is_refused(tmp_path: Path) -> None:
    """Catches an index error of the embedding, steps later, that names no document."""
    write_corpus(tmp_path, [[[END_OF_TEXT, 6, END_OF_TEXT], [END_OF_TEXT, 9, END_OF_TEXT]]])
    whole = Stream([(str(tmp_path), 1.0)], sequence_length=4, packing="none", vocab=10)
    assert len(take(whole, 2)) == 2
    with pytest.raises(DataError, match=r"train\.0\.1: holds token 9, and the model's embed"):
        take(Stream([(str(tmp_path), 1.0)], sequence_length=4, packing="none", vocab=9), 2)
