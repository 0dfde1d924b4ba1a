"""A build says how many records are not in it, and prints nothing of its libraries."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.reading.samples import lines, write
from trainer.corpus.build.corpus import build_corpus
from trainer.recipe import CorpusSection

ROOT = Path(__file__).parents[3]


def section(path: Path) -> CorpusSection:
    return CorpusSection.model_validate(
        {
            "source": "text",
            "files": [str(path)],
            "vocab": 300,
            "workers": 1,
            "rules": None,
            "limits": {"malformed": 0.2},
        }
    )


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


def test_records_that_are_set_aside_are_said_once_with_a_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would catch records lost where only someone who opens the account would see it."""
    good = [
        {"text": f"The keeper of house {number} rose with the sun. " * 9} for number in range(20)
    ]
    bad = [b'{"text": ', {"txt": "no text"}, b'{"text": "\xff"}', {"text": None}]
    path = write(tmp_path / "a.jsonl", lines(*good, *bad))
    out = tmp_path / "out"
    build_corpus(section(path), None, out, progress=False)
    (line,) = warnings(caplog)
    assert line == (
        f"{out}: 4 of 24 records are not in it: 2 no text, 1 not JSON, 1 not UTF-8; see"
        f" {out / 'quarantine'}"
    )
    caplog.clear()
    build_corpus(section(write(tmp_path / "b.jsonl", lines(*good))), None, tmp_path / "all")
    assert warnings(caplog) == []


def test_a_page_without_prose_prints_nothing(tmp_path: Path) -> None:
    """Would catch trafilatura's four lines for each page without prose, and for none at all."""
    page = write(tmp_path / "x.html", b"<html><body></body></html>")
    script = f"""
from trainer.corpus.reading import Quarantine, ReadOptions, list_files, read_file
quarantine = Quarantine()
print(list(read_file(list_files([{str(page)!r}])[0], ReadOptions(), quarantine)))
print(dict(quarantine.tally.passed_over))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("[]\n{'page without prose': 1}\n", "")
