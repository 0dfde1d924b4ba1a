"""Raw objects out of files: each with the place where a reader finds it again."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.corpus.reading.samples import PACKERS, lines, write
from tests.resident import fresh_process
from trainer.conversations.records import read_examples
from trainer.errors import DataError

TURNS = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}


def places(path: Path) -> list[str]:
    return [str(example.place) for example in read_examples([str(path)])]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_examples([str(path)]))
    return str(caught.value)


@pytest.mark.parametrize("suffix", PACKERS)
def test_lines_are_numbered_as_an_editor_does(tmp_path: Path, suffix: str) -> None:
    """Would catch numbers from 0, or blank lines that are not counted."""
    content = b"\xef\xbb\xbf" + lines(TURNS, b"", TURNS)
    path = write(tmp_path / f"a.jsonl{suffix}", PACKERS[suffix](content))
    assert places(path) == [f"{path} line 1", f"{path} line 3"]


@pytest.mark.parametrize("content", [json.dumps([TURNS, TURNS]), json.dumps(TURNS) * 2])
def test_elements_are_numbered(tmp_path: Path, content: str) -> None:
    """Would catch an array whose elements have no place of their own."""
    path = write(tmp_path / "a.json", content.encode())
    assert places(path) == [f"{path} record 1", f"{path} record 2"]


def test_parquet_keeps_structs_without_the_nulls_of_other_rows(tmp_path: Path) -> None:
    """Would catch a column of structs flattened, and fields that only other rows have."""
    called = {"role": "assistant", "content": "Yes", "name": "clock"}
    rows = [TURNS, {"messages": [called], "system": "Be brief."}]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=1)
    found = list(read_examples([str(path)]))
    assert [str(example.place) for example in found] == [f"{path} row 1", f"{path} row 2"]
    assert found[0].record == TURNS
    assert found[1].record["messages"] == [called]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'{"messages": [', "not JSON (Expecting value: line 2 column 1 (char 15))"),
        (b"[1]", "not a JSON object but an array: give an object each"),
        (b"3", "not a JSON object but a number: give an object each"),
        (b'{"a": "\xff"}', "byte 0xff at offset"),
        (b'{"a": "\\ud800"}', "lone surrogate \\ud800 is no Unicode text: mend it"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, raw: bytes, told: str) -> None:
    """Would catch a line that is skipped without a word, or an error without its number."""
    path = write(tmp_path / "a.jsonl", lines(TURNS, raw, TURNS))
    assert refusal(path).startswith(f"{path} line 2: {told}")
    faults: list[DataError] = []
    kept = list(read_examples([str(path)], faults.append))
    assert len(kept) == 2 and len(faults) == 1


def test_a_row_that_is_not_text_is_named(tmp_path: Path) -> None:
    """Would catch a whole file called damaged for one string."""
    column = pyarrow.array([b"a", b"\xff"]).view(pyarrow.binary()).cast(pyarrow.binary())
    text = pyarrow.StringArray.from_buffers(2, *column.buffers()[1:])
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"prompt": text}), path)
    assert refusal(path) == f"{path} row 2: holds a string that is not UTF-8: convert it"


def test_files_that_hold_no_examples_are_refused(tmp_path: Path) -> None:
    """Would catch an error that sends the reader to another section of the recipe."""
    text = write(tmp_path / "a.txt", b"Hi")
    assert refusal(text) == (
        f"data.mixture: {text} holds no examples: give .jsonl, .json or .parquet"
    )
    missing = tmp_path / "b.jsonl"
    assert refusal(missing) == f"data.mixture: {missing} names no file: mend the path or the glob"
    broken = write(tmp_path / "c.parquet", b"PAR1 and no more")
    assert refusal(broken).startswith(f"{broken}: not Parquet, damaged or cut short")


def test_a_text_that_stands_in_many_rows_is_refused_in_little_memory(tmp_path: Path) -> None:
    """Would catch batches sized by what is stored: 1,024 rows of one text of a MiB, before anyone
    counts.
    """
    turns = [[{"role": "user", "content": "x" * 2**20}, {"role": "assistant", "content": "Yes"}]]
    path = tmp_path / "a.parquet"
    with pyarrow.parquet.ParquetWriter(path, pyarrow.table({"messages": turns}).schema) as writer:
        writer.write_table(pyarrow.table({"messages": turns * 400}))
    script = f"""
import pyarrow.parquet
from tests.resident import growth_mib
from trainer.conversations.records import read_examples
from trainer.errors import DataError
def read():
    try:
        for _ in read_examples([{str(path)!r}]):
            pass
    except DataError as error:
        print(error)
print(growth_mib(read))
"""
    refused, grown = fresh_process(script).splitlines()
    assert "as a zip bomb does" in refused
    # Seven rows as Arrow and as strings, and the text's page and dictionary.
    assert float(grown) < 64
