"""Of each sample the text that the recipe names, and an account of those that have none."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.reading.tars import Member, input_file, write_tar
from trainer.corpus.reading.quarantine import Quarantine
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import ReadOptions
from trainer.errors import RecipeError
from trainer.recipe.curation import Limits
from trainer.recipe.text_member import USUAL, text_members


def read(
    folder: Path, members: list[Member], written: str, **options: Any
) -> tuple[dict[str, str], Quarantine]:
    """The texts by key, and the quarantine."""
    path = write_tar(folder / "a.tar", members)
    chosen = ReadOptions(text_members=text_members(written, "key"), **options)
    with Quarantine() as quarantine:
        found = list(read_file(input_file(path), chosen, quarantine))
    assert all(raw.source == str(path) for raw in found)
    return {raw.id.removeprefix(f"{path}:"): raw.text for raw in found}, quarantine


ABOUT = {"text": "one", "meta": {"pages": ["p0", "p1"]}, "n": 3}
SAMPLE: list[Member] = [
    ("k/a.txt", b"plain"),
    ("k/a.JSON", json.dumps(ABOUT).encode()),
    ("k/a.seg.txt", b"segment"),
    ("k/a.md.gz", gzip.compress(b"two ") + gzip.compress(b"members")),
    ("k/a.meta.json.gz", gzip.compress(b'{"body": "zipped"}')),
]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("txt", "plain"),
        (".TXT", "plain"),
        ("seg.txt", "segment"),
        ("json", "one"),
        ("json[text]", "one"),
        ("json[meta][pages][1]", "p1"),
        ("md", "two members"),
        ("md.gz", "two members"),
        ("meta.json[body]", "zipped"),
        ("caption, md; txt", "two members"),
        (USUAL, "plain"),
    ],
)
def test_the_named_member_is_the_text(tmp_path: Path, written: str, text: str) -> None:
    """Would catch an extension of several parts cut at the wrong dot, or a field not followed."""
    assert read(tmp_path, SAMPLE, written)[0] == {"k/a": text}


@pytest.mark.parametrize("written", ["", "txt,", "txt[field]", "json[", "json[]", "two words"])
def test_what_names_no_member_is_one_line(written: str) -> None:
    """Would catch a typo that is looked for in every sample of a terabyte."""
    with pytest.raises(RecipeError, match=r"^data\.mixture\.0\.text: "):
        text_members(written, "data.mixture.0.text")


def test_samples_without_a_text_are_counted_by_what_they_hold(tmp_path: Path) -> None:
    """Would catch samples that leave no trace; and counts of which nobody can tell the reason."""
    members: list[Member] = [
        ("a.txt", b"one"),
        ("b.jpg", b""),
        ("b.cls", b""),
        ("c.jpg", b""),
        ("d.txt", b"two"),
        ("e.jpg", b""),
    ]
    texts, quarantine = read(tmp_path, members, "txt")
    assert texts == {"a": "one", "d": "two"}
    assert quarantine.tally.passed_over == {"without txt (cls, jpg)": 1, "without txt (jpg)": 2}
    assert (quarantine.tally.records, quarantine.tally.malformed) == (2, 0)


def test_names_of_any_bytes_are_written(tmp_path: Path) -> None:
    """Would catch a build that ends in a stack trace because one member's name is no UTF-8."""
    members: list[Member] = [("a\udcff.txt", b"one"), ("b.\udcfe", b""), ("c\udcff.txt", b"\xff")]
    texts, quarantine = read(tmp_path, members, "txt")
    assert texts == {"a\ufffd": "one"}
    tally = quarantine.tally.summary()
    assert tally["passed_over"] == {"without txt (\ufffd)": 1}
    assert json.dumps(tally, ensure_ascii=False).encode()


def test_kinds_without_end_do_not_fill_the_account(tmp_path: Path) -> None:
    """Would catch memory that grows with a set of which each sample has an extension of its own."""
    members: list[Member] = [(f"{n}.v{n}", b"") for n in range(200)]
    counts = read(tmp_path, members, "txt")[1].tally.passed_over
    assert counts.total() == 200 and len(counts) == 51
    assert counts["without txt"] == 150


def test_texts_that_cannot_be_read_are_set_aside(tmp_path: Path) -> None:
    """Would catch damage that passes for a text, or that stops a build for one sample."""
    members: list[Member] = [
        ("a.json", b'{"text": "good", "score": NaN}'),
        ("b.json", b"{"),
        ("c.json", b'{"text": 3}'),
        ("d.json", b'{"body": "b"}'),
        ("e.json", b'{"text": "\\ud800"}'),
        ("f.json", b'\xef\xbb\xbf{"text": "marked"}'),
        ("g.txt", b"\xff\xfea\0"),
        ("h.txt.gz", gzip.compress(b"zipped" * 99)[:-9]),
        ("i.txt", b"\xef\xbb\xbfmarked"),
        ("j.txt", bytes(2**20 + 1)),
        ("k.txt.gz", gzip.compress(bytes(2**20 + 1))),
    ]
    texts, quarantine = read(tmp_path, members, "txt, json", limits=Limits(record_mib=1))
    assert texts == {"a": "good", "f": "marked", "i": "marked"}
    assert quarantine.tally.reasons == {
        "not JSON": 1,
        "no text": 2,
        "not Unicode": 1,
        "not UTF-8": 1,
        "damaged": 1,
        "too large": 2,
    }
    assert quarantine.tally.first is not None and "sample b: json is not JSON" in (
        quarantine.tally.first
    )
    details = [row["detail"] for row in quarantine.rows]
    assert "sample d: json[text] is missing; fields: body" in details


def test_alternatives_may_be_fields_of_one_member(tmp_path: Path) -> None:
    """Would catch half of a set lost that names its text one way or the other, as energon's
    field_map may say (checked with its package: `text: json[text],json[body]` gives both).
    """
    members: list[Member] = [
        ("a.json", b'{"text": "one"}'),
        ("b.json", b'{"body": ["two"]}'),
        ("c.json", b'{"text": null, "body": []}'),
        ("c.txt", b"three"),
        ("d.json", b'{"other": 1}'),
        ("e.json", b"{"),
        ("e.txt", b"not instead of what cannot be read"),
        ("f.json.gz", gzip.compress(b'{"body": ["four"]}')),
        ("g.json", b'{"text": 5, "body": ["not instead of what is no text"]}'),
    ]
    texts, quarantine = read(tmp_path, members, "json[text], json[body][0], txt")
    assert texts == {"a": "one", "b": "two", "c": "three", "f": "four"}
    assert quarantine.tally.reasons == {"no text": 2, "not JSON": 1}
    assert "sample d: json[text] is missing; fields: other" in str(quarantine.tally.first)


@pytest.mark.parametrize("written", ["jsonl", "JSONL.gz", "part.ndjson", "txt, jsonl[text]"])
def test_a_member_of_many_documents_is_no_text(written: str) -> None:
    """Would catch lines of JSON trained on as they stand, braces and all."""
    with pytest.raises(RecipeError, match=r"^key: a member \..*holds several documents"):
        text_members(written, "key")


def test_excluded_samples_are_left_out(tmp_path: Path) -> None:
    """Would catch energon's exclusions read for nothing."""
    path = tmp_path / "a.tar"
    texts, quarantine = read(
        tmp_path,
        [("x/a.txt", b"one"), ("x/b.txt", b"two")],
        "txt",
        excluded=frozenset({f"{path}:x/a"}),
    )
    assert texts == {"x/b": "two"}
    assert quarantine.tally.passed_over == {"excluded": 1}
