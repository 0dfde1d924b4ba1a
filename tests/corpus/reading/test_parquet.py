"""Parquet: columns, rows that are set aside, damage, and tables that expand."""

import os
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet
import pyarrow.parquet.encryption as encryption
import pytest

from tests.corpus.reading.samples import options, peak_mib, read, write
from tests.resident import fresh_process
from trainer.corpus.reading.record import ReadOptions
from trainer.errors import DataError


def table(path: Path, columns: dict[str, Any], **settings: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path, **settings)
    return path


TEXTS = ["one", None, "", "é\u2028", "one"]
KINDS = {
    "strings": lambda: pyarrow.array(TEXTS),
    "large strings": lambda: pyarrow.array(TEXTS, pyarrow.large_string()),
    "dictionary": lambda: pyarrow.array(TEXTS).dictionary_encode(),
}


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_documents_over_row_groups(tmp_path: Path, kind: str, dictionary: bool) -> None:
    """Would catch numbers that begin anew in each row group, and a null that becomes a text."""
    columns = {"n": list(range(5)), "id": ["a", None, "c", "", "e"], "text": KINDS[kind]()}
    path = table(tmp_path / "x.parquet", columns, row_group_size=2, use_dictionary=dictionary)
    documents, quarantine = read(path)
    assert [(document.id, document.text) for document in documents] == [
        ("a", "one"),
        ("c", ""),
        (f"{path}:4", "é\u2028"),
        ("e", "one"),
    ]
    (row,) = quarantine.rows
    assert (row["row"], row["reason"], row["detail"]) == (2, "no text", '"text" is null')
    assert (quarantine.tally.records, quarantine.tally.malformed) == (5, 1)


def test_a_table_without_ids_gives_places(tmp_path: Path) -> None:
    """Would catch a crash where the id column is not there, or holds what is no id."""
    path = table(tmp_path / "x.parquet", {"text": ["a", "b"]})
    assert [document.id for document in read(path)[0]] == [f"{path}:1", f"{path}:2"]
    path = table(tmp_path / "y.parquet", {"text": ["a", "b"], "id": [1, 2]})
    assert [document.id for document in read(path)[0]] == ["1", "2"]
    path = table(tmp_path / "z.parquet", {"text": ["a"], "id": [[1.5]]})
    assert [document.id for document in read(path)[0]] == [f"{path}:1"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (
            {"n": [1], "body": ["a"]},
            r'no column "text"; columns: n \(int64\), body \(string\): set corpus.text_key=body',
        ),
        ({"text": [b"a"]}, r'column "text" holds binary, not strings; columns: text \(binary\)'),
        ({"text": [["a"]]}, r'column "text" holds list<.*>, not strings'),
        ({"text": [1], "t": ["a"]}, r'column "text" holds int64.*: set corpus.text_key=t'),
        ({"text": [None]}, r'column "text" holds null, not strings'),
    ],
)
def test_a_table_without_a_text_column_names_those_it_has(
    tmp_path: Path, columns: dict[str, Any], told: str
) -> None:
    """Would catch a wrong column that makes an empty corpus, row by row."""
    path = table(tmp_path / "x.parquet", columns)
    with pytest.raises(DataError, match=rf"x\.parquet: {told}"):
        read(path)


def test_a_name_with_a_dot_is_a_name(tmp_path: Path) -> None:
    """Would catch the part of another column, which pyarrow calls by the same name, or one column
    taken for another that its name begins.
    """
    columns = {
        "a": [{"b": "part"}],
        "text.en": ["dot"],
        "a.b": ["whole"],
        "id.x": [7],
        "text": ["text"],
        "id": ["i"],
    }
    path = table(tmp_path / "x.parquet", columns)
    for text, name, found in (
        ("a.b", "id.x", ("7", "whole")),
        ("text", "id", ("i", "text")),
        ("text.en", "a.b", ("whole", "dot")),
    ):
        (document,), _ = read(path, ReadOptions(text_key=text, id_key=name))
        assert (document.id, document.text) == found


def test_a_name_that_several_columns_have_is_no_text_column(tmp_path: Path) -> None:
    """Would catch a mend that leads nowhere: the column's own name."""
    columns = [pyarrow.array(["a"]), pyarrow.array(["b"]), pyarrow.array(["c"])]
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.Table.from_arrays(columns, ["text", "text", "body"]), path)
    with pytest.raises(DataError, match=r'"text" names several .*: set corpus.text_key=body'):
        read(path)


@pytest.mark.parametrize("plain_footer", [True, False])
def test_an_encrypted_table_is_said_to_be_one(tmp_path: Path, plain_footer: bool) -> None:
    """Would catch a user sent to fetch a file again that is whole."""
    key = b"0123456789abcdef"
    how = encryption.create_encryption_properties(key, plaintext_footer=plain_footer)
    path = table(tmp_path / "x.parquet", {"text": ["a"]}, encryption_properties=how)
    with pytest.raises(DataError, match=r"x\.parquet: is encrypted, which is not read"):
        read(path)


def test_the_named_column_is_read(tmp_path: Path) -> None:
    """Would catch a fixed column name."""
    path = table(tmp_path / "x.parquet", {"body": ["a"], "url": ["u"], "text": ["wrong"]})
    (document,), _ = read(path, ReadOptions(text_key="body", id_key="url"))
    assert (document.id, document.text) == ("u", "a")


@pytest.mark.parametrize("dictionary", [True, False])
def test_bad_bytes_and_large_cells_are_set_aside(tmp_path: Path, dictionary: bool) -> None:
    """Would catch one bad cell that costs its batch, or stops the build."""
    cells = [b"a", b"caf\xe9", b"x" * (2**20 + 1), b"y" * 2**20, b"b"]
    strings = pyarrow.array(cells, pyarrow.binary()).view(pyarrow.string())
    path = table(tmp_path / "x.parquet", {"text": strings}, use_dictionary=dictionary)
    documents, quarantine = read(path, options(record_mib=1))
    assert [document.text[:1] for document in documents] == ["a", "y", "b"]
    assert [(row["row"], row["reason"]) for row in quarantine.rows] == [
        (2, "not UTF-8"),
        (3, "too large"),
    ]
    assert quarantine.rows[0]["detail"] == "byte 0xe9 at offset 3 of its text is not UTF-8"


@pytest.mark.parametrize("damage", ["cut", "flipped", "no Parquet", "empty"])
def test_a_damaged_table_is_an_error(tmp_path: Path, damage: str) -> None:
    """Would catch a stack trace, or rows that end where the damage begins."""
    rows = {"text": [f"{number} " * 50 for number in range(20_000)]}
    settings = {"row_group_size": 5000, "compression": "zstd", "write_page_checksum": True}
    path = table(tmp_path / "x.parquet", rows, **settings)
    whole = path.read_bytes()
    # Into the strings of the second row group, where only the page's checksum tells.
    middle = parquet.read_metadata(path).row_group(1).column(0).dictionary_page_offset + 300
    content = {
        "cut": whole[:-10],
        "flipped": whole[:middle] + b"\xff" * 64 + whole[middle + 64 :],
        "no Parquet": b"text\n" * 100,
        "empty": b"",
    }[damage]
    if damage == "empty":
        assert read(write(path, content))[1].tally.empty_files == 1
        return
    with pytest.raises(DataError, match=r"x\.parquet: not Parquet, damaged or cut short"):
        read(write(path, content))


def test_a_table_without_rows_is_an_empty_file(tmp_path: Path) -> None:
    """Would catch a crash over a table that a filter left empty."""
    path = table(tmp_path / "x.parquet", {"text": pyarrow.array([], pyarrow.string())})
    documents, quarantine = read(path)
    assert (documents, quarantine.tally.empty_files) == ([], 1)


def test_a_string_that_stands_in_many_rows_is_refused_in_little_memory(tmp_path: Path) -> None:
    """Would catch a dictionary of one string unpacked into every row: 4 GiB out of 100 KB."""
    cells = pyarrow.DictionaryArray.from_arrays([0] * 4000, pyarrow.array(["x" * 2**20]))
    settings = {"dictionary_pagesize_limit": 2**24, "compression": "zstd"}
    path = table(tmp_path / "x.parquet", {"text": cells}, **settings)
    assert path.stat().st_size < 1e6
    peak, told = peak_mib(path, "expansion=10")
    assert "as a zip bomb does" in told
    # The one string a few times over (page, dictionary, document), and pyarrow's own.
    assert peak < 64


def test_memory_is_bounded_by_a_batch_not_by_the_table(tmp_path: Path) -> None:
    """Would catch a row group being held whole."""
    rows = [f"{number} " * 200 for number in range(2000)]
    small = table(tmp_path / "small.parquet", {"text": rows})
    columns = {"text": pyarrow.array(rows * 60), "other": pyarrow.array(rows * 60)}
    large = table(tmp_path / "large.parquet", columns, use_dictionary=False)
    base, _ = peak_mib(small)
    peak, told = peak_mib(large)
    assert told == "120000 0"
    # Pages of a MiB, a batch as Arrow and as strings, and the allocator's slack; the text has 110.
    assert peak - base < 24


def test_a_page_of_long_texts_is_held_thrice_at_most(tmp_path: Path) -> None:
    """Would catch a fourth copy, as bytes of Python's, of the pages that pyarrow makes of a
    thousand long texts whatever their size.
    """
    page = 24 * 2**20
    texts = [os.urandom(page // 2048).hex() for _ in range(2048)]
    path = table(tmp_path / "x.parquet", {"text": texts})
    peak, told = peak_mib(path)
    assert told == "2048 0"
    # As stored, decompressed, and the dictionary that the first thousand are; and a batch.
    assert peak < 3 * page / 2**20 + 24


def test_memory_is_the_same_for_any_size_as_pyarrow_writes_by_default(tmp_path: Path) -> None:
    """Would catch a row group's texts collected, which a dictionary page in front of them invites:
    four times their size.
    """
    size = 24 * 2**20
    texts = [os.urandom(1500).hex() for _ in range(2 * size // 3000)]
    half, whole = tmp_path / "half.parquet", tmp_path / "whole.parquet"
    table(half, {"text": texts[: len(texts) // 2]})
    table(whole, {"text": texts})
    (group,) = (parquet.read_metadata(whole).row_group(0),)
    assert group.column(0).has_dictionary_page and group.num_rows == len(texts)
    (first, _), (second, told) = peak_mib(half), peak_mib(whole)
    assert told == f"{len(texts)} 0"
    # Beside a batch a dictionary of 4 MiB (a MiB, and the rows that pyarrow writes at once) and a
    # page of 3, each as stored, decompressed and decoded.
    assert first < 48 and second < 48
    assert second - first < 8
    read = "parquet.ParquetFile(path, read_dictionary=['text']).iter_batches(256)"
    script = f"""
import pyarrow.parquet as parquet
import pyarrow.parquet.encryption as encryption
from tests.resident import growth_mib
path = {str(whole)!r}
print(growth_mib(lambda: [None for _ in {read}]))
"""
    assert float(fresh_process(script)) > 3 * 48, "the measure sees texts that are collected"
