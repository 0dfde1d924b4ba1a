"""JSONL: which lines become documents, which are set aside, and where they are said to stand."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.reading.samples import PACKERS, lines, options, peak_mib, read, write
from trainer.corpus.reading import record as record_module
from trainer.corpus.reading.quarantine import Quarantine, RecordLocation
from trainer.corpus.reading.record import ReadOptions, read_record
from trainer.errors import DataError


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", [".jsonl", ".ndjson"])
def test_every_packing_gives_the_same_documents(tmp_path: Path, packing: str, kind: str) -> None:
    """Would catch a suffix that is not recognised, or text changed on the way."""
    content = lines(
        {"id": "a", "text": "one\n\u2028é"}, {"text": "two", "n": 3}, {"id": 7, "text": ""}
    )
    path = write(tmp_path / f"x{kind}{packing}", PACKERS[packing](content))
    documents, quarantine = read(path)
    assert [(document.id, document.text) for document in documents] == [
        ("a", "one\n\u2028é"),
        (f"{path}:2", "two"),
        ("7", ""),
    ]
    assert {document.source for document in documents} == {str(path)}
    assert (quarantine.tally.records, quarantine.tally.malformed) == (3, 0)


BAD = {
    b"{": ("not JSON", "not JSON: "),
    b'{"text": "a"} {"text": "b"}': ("not JSON", "Extra data"),
    b'["text"]': ("no text", "not an object"),
    b'"text"': ("no text", "not an object"),
    b"null": ("no text", "not an object"),
    b'{"body": "a"}': ("no text", '"text" is missing; fields: body (see corpus.text_key)'),
    b"{}": ("no text", "fields: none"),
    b'{"text": 5}': ("no text", '"text" is no string'),
    b'{"text": null}': ("no text", '"text" is no string'),
    b'{"text": ["a"]}': ("no text", '"text" is no string'),
    b'{"text": "a", "text": "b"}': ("no text", "stands there twice"),
    b'{"text": "\\ud800"}': ("not Unicode", "lone surrogate \\ud800 at character 0"),
    b'{"text": "caf\xe9"}': ("not UTF-8", "byte 0xe9 at offset 27 is not UTF-8"),
    b'{"text": "\xed\xa0\x80"}': ("not UTF-8", "byte 0xed at offset 24 is not UTF-8"),
    b'{"text": ' + b"[" * 100_000: ("not JSON", "recursion"),
    b'{"n": ' + b"9" * 5000 + b', "text": "a"}': ("not JSON", "4300"),
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[:30].decode("latin-1"))
def test_a_bad_line_is_set_aside_with_its_place_and_reading_goes_on(
    tmp_path: Path, bad: bytes
) -> None:
    """Would catch a line that stops the build, vanishes, or is named by the wrong number."""
    reason, detail = BAD[bad]
    content = b'{"text":"a"}\n\n' + bad + b'\n{"text":"b"}\n'
    path = write(tmp_path / "x.jsonl", content)
    documents, quarantine = read(path)
    assert [document.text for document in documents] == ["a", "b"]
    assert [document.id for document in documents] == [f"{path}:1", f"{path}:4"]
    (row,) = quarantine.rows
    assert (row["file"], row["line"], row["reason"]) == (str(path), 3, reason)
    assert detail in row["detail"]
    assert (quarantine.tally.records, quarantine.tally.malformed) == (3, 1)


def test_what_is_wrong_in_an_unused_field_does_not_cost_the_text(tmp_path: Path) -> None:
    """Would catch orjson's verdict (NaN, lone surrogates) being taken for the last word."""
    content = lines(
        b'{"text": "a", "score": NaN}',
        b'{"text": "b", "author": "\\udc00"}',
        b'{"text": "c", "id": "\\udc00"}',
        b'{"text": "d", "n": 1, "n": 2, "deep": {"text": "no"}}',
        b'{"text": "e", "n": 123456789012345678901234567890}',
    )
    path = write(tmp_path / "x.jsonl", content)
    documents, quarantine = read(path)
    assert [document.text for document in documents] == ["a", "b", "c", "d", "e"]
    assert documents[2].id == f"{path}:3"
    assert quarantine.tally.malformed == 0


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["text", "id", "x"]), inner),
    max_leaves=8,
)


@given(values, st.booleans())
def test_the_verdict_is_the_same_without_orjson(value: object, ascii_only: bool) -> None:
    """Would catch a corpus that depends on whether orjson is installed."""
    raw = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    place = RecordLocation("f", "line", 1)
    found = []
    for loads in (record_module.quick_loads, json.loads):
        quarantine = Quarantine()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(record_module, "quick_loads", loads)
            found.append((read_record(raw, place, 0, ReadOptions(), quarantine), quarantine.rows))
    assert found[0] == found[1]


def test_the_quick_reader_is_orjson() -> None:
    """Negative control of the test above: it compares two parsers, not json with itself."""
    assert record_module.quick_loads.__module__ == "orjson"
    assert "orjson" in sys.modules


def test_other_keys_are_used_where_asked(tmp_path: Path) -> None:
    """Would catch a fixed field name."""
    path = write(tmp_path / "x.jsonl", lines({"content": "a", "url": "u", "text": 1}))
    documents, _ = read(path, ReadOptions(text_key="content", id_key="url"))
    assert [(document.id, document.text) for document in documents] == [("u", "a")]


def test_a_byte_order_mark_is_no_part_of_the_first_record(tmp_path: Path) -> None:
    """Would catch the first line of a file from Windows being lost, or offsets that forget it."""
    content = b"\xef\xbb\xbf" + lines({"text": "a"}) + b'{"text": "\xff"}\r\n' + b'{"text": "b"}'
    documents, quarantine = read(write(tmp_path / "x.jsonl", content))
    assert [document.text for document in documents] == ["a", "b"]
    at = content.index(b'\xff"')
    assert f"offset {at} " in quarantine.rows[0]["detail"]


def test_a_byte_order_mark_within_a_file_is_no_part_of_a_record(tmp_path: Path) -> None:
    """Would catch the first record lost of each file that was put together with others."""
    mark = b"\xef\xbb\xbf"
    content = lines({"text": "a"}) + mark + lines({"text": "b"}) + mark + b'{"text": "\xff"}\n'
    documents, quarantine = read(write(tmp_path / "x.jsonl", content))
    assert [document.text for document in documents] == ["a", "b"]
    (row,) = quarantine.rows
    assert row["detail"] == f"byte 0xff at offset {content.index(bytes([255]))} is not UTF-8"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    """Would catch every line of such a file being called malformed JSON."""
    path = write(tmp_path / "x.jsonl", (lines({"text": "abcdef"}) * 3).decode().encode(encoding))
    with pytest.raises(DataError, match=rf"x\.jsonl: is {encoding[:6].upper()}, not UTF-8: conv"):
        read(path)


def test_a_line_over_the_limit_is_set_aside_unread(tmp_path: Path) -> None:
    """Would catch a giant line that is kept, cut into two records, or shifts what follows."""
    giant = b'{"text": "' + b"x" * 3_000_000 + b'"}'
    fits = b'{"text": "' + b"y" * (2**20 - 12) + b'"}'
    assert len(fits) == 2**20
    content = lines({"text": "a"}, giant, fits, b'{"text": "\xff"}', giant)
    path = write(tmp_path / "x.jsonl", content)
    documents, quarantine = read(path, options(record_mib=1))
    assert [document.text[:1] for document in documents] == ["a", "y"]
    assert [(row["line"], row["reason"]) for row in quarantine.rows] == [
        (2, "too large"),
        (4, "not UTF-8"),
        (5, "too large"),
    ]
    assert quarantine.rows[0]["bytes"] == len(giant) + 1
    assert f"offset {content.index(bytes([255]))} " in quarantine.rows[1]["detail"]
    assert quarantine.tally.records == 5


def test_memory_is_bounded_by_a_record_not_by_the_file(tmp_path: Path) -> None:
    """Would catch a file, or a line over the limit, being held whole."""
    record = lines({"text": "words and words " * 100})
    small = write(tmp_path / "small.jsonl", [record] * 1000)
    large = write(tmp_path / "large.jsonl", [record] * 100_000)
    line = write(tmp_path / "line.jsonl", [b'{"text": "', *[b"x" * 2**20] * 160, b'"}\n'])
    assert large.stat().st_size > 150e6
    base, _ = peak_mib(small)
    peak, told = peak_mib(large)
    assert told == "100000 0"
    # A few chunks of 256 KiB and the allocator's slack; the file has 160 MiB.
    assert peak - base < 16
    peak, told = peak_mib(line, "record_mib=4")
    assert told == "0 1"
    # The four MiB that fit, once more where they are joined, and slack.
    assert peak - base < 32
    assert peak_mib(line, "record_mib=200")[0] > 160, "a line that is held is seen"


def test_an_empty_file_is_counted_and_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch a crash, or silence, over a file that holds nothing."""
    for name, content in {"a.jsonl": b"", "b.jsonl": b"\n \n", "c.jsonl.gz": b""}.items():
        documents, quarantine = read(write(tmp_path / name, content))
        assert documents == []
        assert (quarantine.tally.files, quarantine.tally.empty_files) == (1, 1)
        assert f"{name} is empty" in caplog.text
