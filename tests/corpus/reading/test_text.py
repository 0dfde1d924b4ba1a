"""Plain text: a document a file."""

import hashlib
from pathlib import Path

import pytest

from tests.corpus.reading.samples import PACKERS, options, peak_mib, read, write
from trainer.corpus.reading.unicode import wide_unicode


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", [".txt", ".md"])
def test_a_file_is_a_document(tmp_path: Path, packing: str, kind: str) -> None:
    """Would catch line ends rewritten, or the byte order mark kept."""
    content = b"\xef\xbb\xbfone\r\ntwo\n\xc3\xa9 "
    path = write(tmp_path / f"x{kind}{packing}", PACKERS[packing](content))
    (document,), quarantine = read(path)
    assert (document.id, document.source) == (str(path), str(path))
    assert document.text == "one\r\ntwo\né "
    assert quarantine.tally.records == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"caf\xe9", "byte 0xe9 at offset 3 is not UTF-8"),
        (b"\xef\xbb\xbfcaf\xe9", "byte 0xe9 at offset 6 is not UTF-8"),
        ("a long enough text".encode("utf-16"), "UTF-16, not UTF-8: convert it"),
        ("a long enough text".encode("utf-16-be"), "UTF-16, not UTF-8: convert it"),
        ("a long enough text".encode("utf-32"), "UTF-32, not UTF-8: convert it"),
    ],
)
def test_a_file_in_another_encoding_is_set_aside(tmp_path: Path, content: bytes, told: str) -> None:
    """Would catch one such file among a million stopping the build, or read as rubbish."""
    path = write(tmp_path / "x.txt", content)
    documents, quarantine = read(path)
    assert documents == []
    (row,) = quarantine.rows
    assert row["detail"] == told and row["file"] == str(path) and row["reason"] == "not UTF-8"
    assert quarantine.tally.first == f"{path}: {told}"


def test_utf_8_is_not_taken_for_utf_16() -> None:
    """Negative control: a few zeros, or letters of many bytes, do not make a text UTF-16."""
    for text in ("a", "a\0b", "plain text", "日本語", "\0\0 table\0of\0names\0"):
        assert wide_unicode(text.encode()) is None, text


def test_a_file_over_the_limit_is_set_aside_unread(tmp_path: Path) -> None:
    """Would catch a giant file held whole, or cut to the limit."""
    content = b"words " * (50 * 2**20 // 6)
    path = write(tmp_path / "x.txt", content)
    peak, told = peak_mib(path, "record_mib=1")
    assert told == "0 1"
    # A record of 1 MiB and slack; the file has 50.
    assert peak < 20
    assert peak_mib(path, "record_mib=64")[0] > 50, "a file that is held is seen"
    _, quarantine = read(path, options(record_mib=1))
    assert quarantine.rows[0]["bytes"] == len(content)
    assert quarantine.rows[0]["sha256"] == hashlib.sha256(content).hexdigest()
