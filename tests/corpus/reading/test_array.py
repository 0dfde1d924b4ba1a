"""JSON arrays read as a stream."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.reading.samples import PACKERS, options, peak_mib, read, write
from trainer.corpus.reading import array
from trainer.errors import DataError

RECORDS = [
    {"id": "a", "text": 'brackets ]} and "quotes" and \\'},
    {"text": "[{", "deep": {"list": [1, {"x": [[]]}, "]"]}},
    {"text": "é\u2028\n"},
]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 2**18])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_gives_its_objects(
    tmp_path: Path, indent: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch brackets inside strings that end a record, and borders of chunks."""
    monkeypatch.setattr(array, "CHUNK", chunk)
    for ascii_only in (True, False):
        told = "\n " + json.dumps(RECORDS, indent=indent, ensure_ascii=ascii_only) + "\n"
        path = write(tmp_path / "x.json", told.encode())
        documents, quarantine = read(path)
        assert [document.text for document in documents] == [x["text"] for x in RECORDS]
        assert [document.id for document in documents] == ["a", f"{path}:2", f"{path}:3"]
        assert quarantine.rows == []


@pytest.mark.parametrize("packing", PACKERS)
def test_one_object_or_several_are_read_too(tmp_path: Path, packing: str) -> None:
    """Would catch a file of one object, or JSON lines called .json, being refused."""
    one = write(tmp_path / f"one.json{packing}", PACKERS[packing](json.dumps(RECORDS[0]).encode()))
    several = "\n".join(json.dumps(record) for record in RECORDS).encode()
    many = write(tmp_path / f"many.json{packing}", PACKERS[packing](several))
    assert [document.id for document in read(one)[0]] == ["a"]
    assert len(read(many)[0]) == 3


texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.lists(st.dictionaries(texts, texts, max_size=3)), st.integers(1, 9))
@settings(max_examples=60)
def test_any_array_is_split_as_json_splits_it(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, str]], chunk: int
) -> None:
    """Would catch a string that ends too soon or too late, wherever a chunk's border falls."""
    records = [{**record, "text": str(number)} for number, record in enumerate(records)]
    path = write(tmp_path_factory.mktemp("any") / "x.json", json.dumps(records).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array, "CHUNK", chunk)
        documents, quarantine = read(path)
    assert [document.text for document in documents] == [record["text"] for record in records]
    assert quarantine.tally.malformed == 0


def test_a_bad_element_is_set_aside_and_reading_goes_on(tmp_path: Path) -> None:
    """Would catch one bad element that costs all behind it."""
    content = b'[{"text": "a"}, {"text": bad}, 5, , {"text": "\xff"}, {"text": "b"}]'
    path = write(tmp_path / "x.json", content)
    documents, quarantine = read(path)
    assert [(document.text, document.id) for document in documents] == [
        ("a", f"{path}:1"),
        ("b", f"{path}:6"),
    ]
    assert [(row["record"], row["reason"]) for row in quarantine.rows] == [
        (2, "not JSON"),
        (3, "no text"),
        (4, "not JSON"),
        (5, "not UTF-8"),
    ]
    assert f"offset {content.index(bytes([255]))} " in quarantine.rows[3]["detail"]


def test_an_element_over_the_limit_is_set_aside_unread(tmp_path: Path) -> None:
    """Would catch a giant element, or the array, held whole."""
    giant = [b'{"text": "', *[b"x" * 2**20] * 60, b'"}']
    path = write(tmp_path / "x.json", [b'[{"text": "a"},', *giant, b',{"text": "b"}]'])
    documents, quarantine = read(path, options(record_mib=1))
    assert [document.text for document in documents] == ["a", "b"]
    assert [(row["record"], row["reason"]) for row in quarantine.rows] == [(2, "too large")]
    assert quarantine.rows[0]["bytes"] == 60 * 2**20 + 12
    peak, told = peak_mib(path, "record_mib=1")
    assert told == "2 1"
    # A record of 1 MiB and slack; the file has 60.
    assert peak < 20
    assert peak_mib(path, "record_mib=64")[0] > 60, "an element that is held is seen"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'[{"text": "a"}, {"text": "b"}', "in the middle of a record"),
        (b'[{"text": "a"}, {"text": "b', "in the middle of a record"),
        (b'[{"text": "a"}}, {"text": "b"}]', "a bracket too many"),
        (b'[{"text": "a"}] {"text": "b"}', "behind the end of the array"),
        (b'{"text": "a"}\n{"text": "b"\n{"text": "c"}', "in the middle of a record"),
        (b"[", "in the middle of a record"),
    ],
)
def test_an_array_without_its_end_is_an_error(tmp_path: Path, content: bytes, told: str) -> None:
    """Would catch the rest of a file lost behind a bracket."""
    with pytest.raises(DataError, match=told):
        read(write(tmp_path / "x.json", content))


@pytest.mark.parametrize("content", [b'{"text": "a', b"{", b"5", b"text"])
def test_a_file_of_one_bad_object_is_one_bad_record(tmp_path: Path, content: bytes) -> None:
    """Would catch one bad file among a million stopping the build."""
    documents, quarantine = read(write(tmp_path / "x.json", content))
    assert (documents, quarantine.tally.malformed, quarantine.tally.records) == ([], 1, 1)


@pytest.mark.parametrize("content", [b"", b" \n", b"[]", b"[ ]\n"])
def test_an_empty_array_is_an_empty_file(tmp_path: Path, content: bytes) -> None:
    """Would catch a crash, or a record made of nothing."""
    documents, quarantine = read(write(tmp_path / "x.json", content))
    assert (documents, quarantine.tally.empty_files) == ([], 1)
