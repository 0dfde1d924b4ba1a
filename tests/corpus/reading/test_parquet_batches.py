"""Batches of Parquet rows: the same rows as pyarrow's own read, in bounded memory."""

import io
import random
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.corpus.reading import parquet_batches
from trainer.corpus.reading.parquet_batches import open_table, row_batches

CODECS = ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]
MESSAGES = pyarrow.list_(
    pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
)
KINDS = {
    "string": lambda texts: pyarrow.array(texts, pyarrow.string()),
    "large": lambda texts: pyarrow.array(texts, pyarrow.large_string()),
    "view": lambda texts: pyarrow.array(texts, pyarrow.string_view()),
    "category": lambda texts: pyarrow.array(texts, pyarrow.string()).dictionary_encode(),
}


def stored(table: pyarrow.Table, **settings: Any) -> io.BytesIO:
    file = io.BytesIO()
    parquet.write_table(table, file, **settings)
    return file


def rows(file: io.BytesIO, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return [
        row for batch in row_batches(open_table(file), file, columns) for row in batch.to_pylist()
    ]


def texts(dice: random.Random, count: int) -> list[str | None]:
    """Nulls, empty and repeated texts, and some of their own, tiny and large."""
    common = ["", "é\u2028", "again " * 50, "x" * 3000]
    kinds = [
        lambda: None,
        lambda: dice.choice(common),
        lambda: f"own {dice.random()} " * dice.choice([1, 1, 20, 400]),
    ]
    weights = [dice.random() for _ in kinds]
    return [dice.choices(kinds, weights)[0]() for _ in range(count)]


def messages(dice: random.Random, count: int) -> list[list[dict[str, Any]] | None]:
    contents = iter(texts(dice, 4 * count))
    return [
        None
        if dice.random() < 0.1
        else [
            {"role": dice.choice(["user", None, "assistant"]), "content": next(contents)}
            for _ in range(dice.randrange(4))
        ]
        for _ in range(count)
    ]


@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(sorted(KINDS)),
    batch_bytes=st.sampled_from([1, 4000, 100_000, 2**23]),
    written=st.fixed_dictionaries(
        {
            "compression": st.sampled_from(CODECS),
            "use_dictionary": st.booleans(),
            "dictionary_pagesize_limit": st.sampled_from([1, 2000, 2**20]),
            # Not less: of one row in pages of a few bytes pyarrow itself reads none (below).
            "data_page_size": st.sampled_from([100, 3000, 2**20]),
            "data_page_version": st.sampled_from(["1.0", "2.0"]),
            "version": st.sampled_from(["1.0", "2.6"]),
            "row_group_size": st.sampled_from([20, 1000]),
            "write_batch_size": st.sampled_from([1, 7, 1024]),
            "write_page_checksum": st.booleans(),
            "store_schema": st.booleans(),
        }
    ),
)
@settings(max_examples=25, deadline=None, database=None)
def test_the_rows_are_those_that_pyarrow_reads_at_once(
    seed: int, kind: str, batch_bytes: int, written: dict[str, Any]
) -> None:
    """Would catch rows lost, repeated or mixed up between batches, pages or dictionaries, and a
    writer's setting that changes what is read.
    """
    dice = random.Random(seed)
    count = dice.choice([0, 1, 40, 150])
    table = pyarrow.table(
        {
            "id": [f"{number:05d}" for number in range(count)],
            "text": KINDS[kind](texts(dice, count)),
            "messages": pyarrow.array(messages(dice, count), MESSAGES),
            "number": [None if dice.random() < 0.2 else number for number in range(count)],
        }
    )
    file = stored(table, **written)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_batches, "BATCH_BYTES", batch_bytes)
        assert rows(file) == parquet.read_table(file).to_pylist() == table.to_pylist()
        assert rows(file, ["text"]) == table.select(["text"]).to_pylist()


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
def test_other_encodings_are_read(encoding: str) -> None:
    """Would catch a header of a data page, with its statistics, taken for a dictionary's."""
    table = pyarrow.table({"text": texts(random.Random(0), 500)})
    file = stored(table, use_dictionary=False, column_encoding={"text": encoding})
    assert rows(file) == table.to_pylist()


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_batch_holds_what_a_dictionary_expands_to(
    compression: str, nested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch batches sized by what is stored: four bytes, of which a row makes 10,000."""
    monkeypatch.setattr(parquet_batches, "BATCH_BYTES", 100_000)
    column: list[Any] = ["x" * 10_000, "y"] * 300
    if nested:
        column = [[{"role": "user", "content": text}] for text in column]
    file = stored(pyarrow.table({"text": column, "id": ["i"] * 600}), compression=compression)

    def largest() -> int:
        return max(batch.nbytes for batch in row_batches(open_table(file), file))

    assert 30_000 < largest() <= 100_000
    monkeypatch.setattr(parquet_batches, "_longest_entry", lambda *_: 0)
    assert largest() > 1_000_000, "without the longest entry nothing bounds a batch"


def test_a_dictionary_of_one_row_group_does_not_size_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Would catch a table read row by row because one of its groups has a long text."""
    monkeypatch.setattr(parquet_batches, "BATCH_BYTES", 100_000)
    file = stored(pyarrow.table({"text": ["x" * 50_000] + ["y"] * 999}), row_group_size=500)
    sizes = [batch.num_rows for batch in row_batches(open_table(file), file)]
    assert sizes == [1] * 500 + [1, 256, 243]


@pytest.mark.parametrize("damage", ["sizes", "type", "endless"])
def test_a_damaged_header_of_a_dictionary_is_pyarrows_to_judge(damage: str) -> None:
    """Would catch a crash, a hang or a file read whole over a header that makes no sense."""
    file = stored(pyarrow.table({"text": ["a", "b"] * 100}), compression="none")
    start = parquet.read_metadata(file).row_group(0).column(0).dictionary_page_offset
    header = {
        # Type 2, and sizes of -1.
        "sizes": b"\x15\x04\x15\x01\x15\x01",
        "type": b"\x19" * 8,
        "endless": b"\x15\x04\x15" + b"\xff" * 6000,
    }[damage]
    content = file.getvalue()
    broken = io.BytesIO(content[:start] + header + content[start + len(header) :])
    with pytest.raises((OSError, ValueError)):
        rows(broken)


def test_rows_that_are_missing_are_not_passed_over() -> None:
    """Would catch rows lost in silence where pyarrow finds fewer than the metadata say, as it does
    of one nested row in pages of four bytes.
    """
    table = pyarrow.table({"messages": [[{"content": text} for text in ("one", "two", "three")]]})
    file = stored(table, data_page_size=4)
    if parquet.ParquetFile(file).read() == table:
        assert rows(file) == table.to_pylist()
    else:
        with pytest.raises(ValueError, match="row group 1 has 1 rows fewer than it should"):
            rows(file)


def test_a_column_that_is_named_like_the_arrow_schema_keeps_its_name() -> None:
    """Would catch a name in the file's metadata changed along with the key beside it."""
    table = pyarrow.table({"ARROW:schema": ["a"], "text": ["b"]})
    for store_schema in (True, False):
        file = stored(table, store_schema=store_schema)
        assert rows(file) == table.to_pylist()


def test_types_are_parquets_own(tmp_path: Path) -> None:
    """Would catch a column of categories read as a dictionary, which collects every text."""
    file = stored(pyarrow.table({kind: make(["a"]) for kind, make in KINDS.items()}))
    assert {field.type for field in open_table(file).schema_arrow} == {pyarrow.string()}
