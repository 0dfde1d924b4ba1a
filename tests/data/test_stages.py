"""A stream whose sources end and whose weights change: exact, elastic, no more than asked."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.corpora import numbered_corpus, random_documents, write_corpus
from trainer.data.loader import Loader, validation_batches
from trainer.data.stream import Stream
from trainer.errors import DataError
from trainer.recipe import Recipe
from trainer.sources import corpus_folders, stream_arguments

LENGTHS = st.lists(
    st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=5
).filter(lambda shards: any(length > 1 for shard in shards for length in shard))
FIRST = 10**8


@contextmanager
def numbered(corpora: list[list[list[int]]], **arguments: Any) -> Iterator[Any]:
    """A maker of equal streams over corpora of these lengths; token n is of source n // FIRST."""
    with tempfile.TemporaryDirectory() as folder:
        opened, sources = {}, []
        for number, lengths in enumerate(corpora):
            place = Path(folder) / f"corpus-{number}"
            opened[place] = numbered_corpus(place, lengths, first=(number + 1) * FIRST)
            sources.append((str(place), 1.0 + number))
        yield lambda **changes: Stream(
            sources,
            open_shard=lambda place, shard, dtype: opened[place](place, shard, dtype),
            **{**arguments, **changes},
        )


def until_the_end(stream: Stream) -> list[list[int]]:
    """All rows that a stream has left."""
    rows: list[list[int]] = []
    while True:
        try:
            rows += stream.next(1, [0]).tokens.tolist()
        except DataError as error:
            assert str(error).startswith(f"the data ends at sequence {stream.sequences}: ")
            return rows


@given(
    corpora=st.lists(LENGTHS, min_size=1, max_size=3),
    epochs=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    block_shards=st.integers(1, 3),
    packing=st.sampled_from(["best_fit", "none"]),
)
@settings(max_examples=60, deadline=None)
def test_each_source_is_read_exactly_as_often_as_its_epochs_allow(
    corpora, epochs: list[int], block_shards: int, packing: str
) -> None:
    """Catches an epoch cut short or begun once more, with blocks that hold nothing at its end."""
    arguments = {"sequence_length": 16, "block_shards": block_shards, "packing": packing}
    with numbered(corpora, **arguments, epochs=epochs[: len(corpora)]) as make:
        stream = make()
        rows = until_the_end(stream)
        assert len(rows) == stream.sequences <= stream.most_sequences()
        for number, lengths in enumerate(corpora):
            counts: dict[int, int] = {}
            for row in rows:
                for token in row:
                    if token // FIRST == number + 1:
                        counts[token] = counts.get(token, 0) + 1
            # The last token of a document is a label only.
            assert len(counts) == sum(length - 1 for shard in lengths for length in shard)
            assert set(counts.values()) == {epochs[number]}


@given(
    corpora=st.lists(LENGTHS, min_size=2, max_size=3),
    epochs=st.lists(st.none() | st.integers(1, 2), min_size=3, max_size=3),
    firsts=st.lists(st.integers(0, 30), max_size=3, unique=True).map(sorted),
    resume=st.integers(0, 40),
    data=st.data(),
)
@settings(max_examples=80, deadline=None)
def test_a_resume_at_any_sequence_gives_the_same_rows(
    corpora, epochs, firsts: list[int], resume: int, data
) -> None:
    """Catches anything that a saved position forgets of stages, ends and borders."""
    weights = st.lists(st.integers(0, 9), min_size=len(corpora), max_size=len(corpora))
    curriculum = [(first, data.draw(weights.filter(any))) for first in firsts]
    with numbered(
        corpora, sequence_length=16, epochs=epochs[: len(corpora)], curriculum=curriculum
    ) as make:

        def take(stream: Stream, count: int) -> list[Any]:
            rows: list[Any] = []
            for _ in range(count):
                try:
                    rows.append(stream.next(1, [0]).tokens.tolist())
                except DataError as error:
                    rows.append(str(error))
            return rows

        whole = make()
        expected = take(whole, 50)
        stream = make()
        found = take(stream, resume)
        state = json.loads(json.dumps(stream.state()))
        again, skipped = make(), make()
        again.load_state(state)
        assert again.state() == state
        assert found + take(again, 50 - resume) == expected
        assert again.state() == whole.state()
        if all(isinstance(row, list) for row in expected[:resume]):
            skipped.skip(resume)
            assert skipped.state() == state


@pytest.mark.parametrize("seed", range(6))
def test_an_epoch_that_ends_with_empty_blocks_ends_before_them(seed: int) -> None:
    """Catches a capped source that, past blocks without a position, begins one epoch too many."""
    with numbered([[[9] * 4, [1], [1, 1], [1]]], sequence_length=8, block_shards=1) as make:
        assert len(until_the_end(make(seed=seed, epochs=[2]))) == 8
        stream = make(seed=seed)
        stream.skip(4)
        assert stream.ends_epoch()


def test_a_state_from_before_there_were_stages_still_loads() -> None:
    """Catches old checkpoints that cannot go on, or go on with other data."""
    with numbered([[[9] * 40], [[9] * 40]], sequence_length=8) as make:
        whole, stream = make(), make()
        whole.skip(27)
        stream.skip(20)
        old = stream.state()
        del old["border"]
        for source in old["sources"]:
            for key in ("weight", "since", "ended"):
                del source[key]
        assert list(old["sources"][0]) == ["corpus", "taken", "epoch", "block", "sequence"]
        stream = make()
        stream.load_state(old)
        stream.skip(7)
        assert stream.state() == whole.state()


def test_a_source_that_may_be_read_more_often_comes_back() -> None:
    """Catches an end that is remembered where the mend, more epochs, was followed."""
    with numbered([[[9] * 10], [[9] * 40]], sequence_length=8) as make:
        stream = make(epochs=[1, None])
        stream.skip(50)
        state = stream.state()
        assert state["sources"][0]["ended"] is not None
        more = make(epochs=[2, None])
        more.load_state(state)
        more.skip(9)
        given_ = [source["taken"] for source in more.state()["sources"]]
        assert given_ == [10 + 3, 40 + 6], "a third again, counted from the resume on"
        more.skip(100)
        assert more.state()["sources"][0]["taken"] == 20


def test_a_corpus_without_a_position_is_refused(tmp_path: Path) -> None:
    """Catches a stream that looks for its first sequence for ever."""
    corpus = write_corpus(tmp_path / "corpus", [[[0], [0]]])
    with pytest.raises(DataError, match="no document of two tokens"):
        Stream([(str(corpus), 1.0)])


@pytest.fixture
def two(tmp_path: Path) -> list[list[Any]]:
    """Two small corpora and their weights."""
    return [
        [str(write_corpus(tmp_path / name, [random_documents([30] * 6, seed)] * 2)), 1.0]
        for seed, name in enumerate(("one", "two"))
    ]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_workers_give_all_batches_before_the_end_and_then_the_line(two, workers: int) -> None:
    """Catches batches lost to a worker that runs ahead into the end, and a hang there."""
    arguments = {"sources": two, "sequence_length": 29, "epochs": [1, 2]}
    arguments["curriculum"] = [[10, [1.0, 3.0]]]
    stream = Stream(**arguments)
    total = 12 + 24
    expected = [stream.next(5, range(5)) for _ in range(total // 5)]
    loader, found = Loader(arguments, 5, range(5), workers), []
    with pytest.raises(DataError, match=f"the data ends at sequence {total}"):
        for batch in loader:
            found.append(batch)
    loader.close()
    assert [batch.state for batch in found] == [batch.state for batch in expected]
    assert all(
        mine.tokens.equal(theirs.tokens) for mine, theirs in zip(found, expected, strict=True)
    )


def test_a_run_that_the_data_cannot_fill_is_refused_at_once(two) -> None:
    """Catches a run that trains for a week before its data is found to be too little."""
    arguments = {"sources": two, "sequence_length": 29, "epochs": [1, 2]}
    most = Stream(**arguments).most_sequences()
    assert 36 <= most <= 2 * 36 + 3, "rows are at least half full but for one a block"
    Loader(arguments, 4, [0], 0, sequences=most)
    with pytest.raises(DataError, match=f"wants {most + 1} sequences"):
        Loader(arguments, 4, [0], 0, sequences=most + 1)
    Loader({**arguments, "epochs": [1, None]}, 4, [0], 0, sequences=10**9)


def test_validation_is_not_changed_by_epochs_and_curriculum(tmp_path: Path) -> None:
    """Catches a validation loss that moves when a stage begins or a source ends."""
    sources = [
        [
            str(
                write_corpus(tmp_path / name, [random_documents([9])], [random_documents([30] * 8)])
            ),
            1,
        ]
        for name in ("one", "two")
    ]
    plain = {"sources": sources, "sequence_length": 29}
    staged = {**plain, "epochs": [1, 1], "curriculum": [[3, [1.0, 0.0]]]}
    states = [
        [batch.state for batch in validation_batches(arguments, 100, 2, [0, 1])]
        for arguments in (plain, staged)
    ]
    assert states[0] == states[1] and len(states[0]) == 8


def recipe_over(folders: list[str], **data: Any) -> Recipe:
    mixture = [{"corpus": folder, "weight": 1.0} for folder in folders]
    return Recipe.from_keys(
        {
            "run": "run",
            "steps": 20,
            "sequence_length": 29,
            "model": {"layers": 4, "hidden": 64, "heads": 4, "ffn": 128, "vocab": 5000},
            "batch": {"sequences": 8},
            "optimizer": {"lr": 1e-2},
            "data": {"mixture": mixture, **data},
        }
    )


def test_steps_of_a_recipe_become_sequences_of_the_stream(two) -> None:
    """Catches a stage that begins at a step of another batch size, or with swapped weights."""
    folders = [folder for folder, _ in two]
    stages = [
        {"after_step": 0, "weights": {"two": 0.0, "one": 1.0}},
        {"after_step": 3, "weights": {"one": 1.0, "two": 3.0}},
    ]
    recipe = recipe_over(folders, curriculum=stages)
    arguments = json.loads(json.dumps(stream_arguments(recipe, folders)))
    assert arguments["curriculum"] == [[0, [1.0, 0.0]], [24, [1.0, 3.0]]]
    stream = Stream(**arguments)
    taken = []
    for _ in range(5):
        stream.skip(8)
        taken.append([source["taken"] for source in stream.state()["sources"]])
    assert taken == [[8, 0], [16, 0], [24, 0], [26, 6], [28, 12]]


def test_an_absent_corpus_is_named_by_its_entry(two, tmp_path: Path) -> None:
    """Catches a message that leaves open which of many corpora is meant, or comes late."""
    absent = str(tmp_path / "absent")
    recipe = recipe_over([two[0][0], absent])
    with pytest.raises(DataError, match=r"data\.mixture\.1\.corpus: no corpus at .*absent: build"):
        corpus_folders(recipe)
    assert corpus_folders(recipe_over([two[0][0]])) == [Path(two[0][0])]
