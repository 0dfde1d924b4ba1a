"""Which local files patterns name, here on this machine."""

import os
from pathlib import Path

import pytest

from tests.corpus.reading.samples import write
from trainer.corpus.reading.files import kind_of, list_files
from trainer.errors import DataError


def test_paths_and_globs_give_each_file_once_in_order(tmp_path: Path) -> None:
    """Would catch a document read twice because two patterns, or a link, name its file."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.jsonl", "a.txt", "deep/er/c.md", "[odd].json"):
        write(tmp_path / name, b"x")
    (tmp_path / "z.txt").symlink_to(tmp_path / "a.txt")
    patterns = ["b.jsonl", "**/*.*", "./deep/../a.txt", "[odd].json"]
    files = list_files([f"{tmp_path}/{pattern}" for pattern in patterns])
    names = [os.path.relpath(file.path, tmp_path) for file in files]
    assert names == ["[odd].json", "a.txt", "b.jsonl", "deep/er/c.md"]
    assert {file.bytes for file in files} == {1}
    assert files == list_files([f"{tmp_path}/{pattern}" for pattern in reversed(patterns)])


def test_the_version_follows_content_and_time(tmp_path: Path) -> None:
    """Would catch a rebuilt input taken for the old one."""
    path = write(tmp_path / "a.txt", b"x")
    before = list_files([str(path)])
    assert list_files([str(path)]) == before
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    touched = list_files([str(path)])
    assert touched != before
    write(path, b"xy")
    os.utime(path, ns=(1, int(touched[0].version.partition("-")[2])))
    assert list_files([str(path)]) != touched


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("nothing.txt", "nothing.txt names no file: mend the path or the glob"),
        ("*.parquet", "names no file"),
        ("folder", r"folder is a folder: give files, or a glob such as .*/folder/\*\*/\*\.jsonl"),
        ("x.docx", r"is not one of \.jsonl, \.ndjson, \.json, \.parquet, .*\.gz or \.zst: convert"),
        ("x.gz", "is not one of"),
        ("x.parquet.gz", "Parquet is compressed inside"),
        ("dangling.txt", r"cannot be read \(No such file"),
    ],
)
def test_what_names_no_readable_file_is_one_line(tmp_path: Path, pattern: str, told: str) -> None:
    """Would catch an input that is left out in silence."""
    (tmp_path / "folder").mkdir()
    for name in ("x.docx", "x.gz", "x.parquet.gz"):
        write(tmp_path / name, b"x")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(DataError, match=told) as caught:
        list_files([f"{tmp_path}/{pattern}"])
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("corpus.files: ")


def test_a_folder_under_a_glob_is_passed_over(tmp_path: Path) -> None:
    """Would catch a glob that stops at its first folder."""
    (tmp_path / "folder").mkdir()
    write(tmp_path / "x.txt", b"x")
    assert len(list_files([f"{tmp_path}/*"])) == 1


def test_a_name_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    """Would catch a document whose id cannot be written down."""
    write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")), b"x")
    with pytest.raises(DataError, match="its name is not Unicode"):
        list_files([f"{tmp_path}/*"])


def test_names_tell_kind_and_compression() -> None:
    """Would catch capitals, queries of web addresses, or a suffix read from the wrong end."""
    assert kind_of("/a.b/C.JSONL.GZ") == ("jsonl", ".gz")
    assert kind_of("https://host/x.warc.gz?token=a.txt") == ("warc", ".gz")
    # As Common Crawl names its texts.
    assert kind_of("s3://crawl/wet/CC-MAIN-20240220211055-00000.warc.wet.gz") == ("warc", ".gz")
    assert kind_of("s3://bucket/x?.md") == ("text", "")
    with pytest.raises(DataError, match="is not one of"):
        kind_of("https://host/download?x.txt")


def test_an_unknown_scheme_is_named() -> None:
    """Would catch ftp:// taken for a folder called "ftp:"."""
    with pytest.raises(DataError, match="ftp:// is not read; use a local path, s3://, https://"):
        list_files(["ftp://host/x.txt"])
