"""Files of questions: what an item may hold, and what is said of one that cannot be used."""

import gzip
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from trainer.errors import DataError
from trainer.questions.reading import read_questions
from trainer.questions.verifiers import verify
from trainer.questions.writing import question_lines

ITEMS: list[dict[str, Any]] = [
    {"id": "fr", "question": "What is the capital of France?", "answer": "Paris", "kind": "city"},
    {"prompt": "What is 6 times 7?", "answers": [42, "forty-two"], "verifier": "number"},
    {"question": "Who rules Zambodia?", "answer": None, "reason": "There is no such land."},
    {"question": "Which?", "answer": "A", "verifier": "choice", "options": {"choices": ["a", "b"]}},
    {"question": "A date?", "verifier": "regex", "pattern": r"\d+", "system": "Be brief."},
]


def written(path: Path, items: Sequence[dict[str, Any]]) -> str:
    """The items as a file of the form that its name says."""
    lines = "".join(json.dumps(item) + "\n" for item in items)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(items)), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text(json.dumps(items) if path.suffix == ".json" else lines)
    return str(path)


@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.jsonl.gz"])
def test_every_key_is_read_in_every_form_of_file(tmp_path: Path, name: str) -> None:
    """Would catch a key that is dropped, or an item that is known by another name elsewhere."""
    found = read_questions([written(tmp_path / name, ITEMS)])
    assert [one.id for one in found] == ["fr", *(f"{name}:{number}" for number in (2, 3, 4, 5))]
    assert [one.answers for one in found] == [("Paris",), ("42", "forty-two"), (), ("A",), ()]
    assert [one.answerable for one in found] == [True, True, False, True, True]
    verifiers = ["answer", "number", "answer", "choice", "regex"]
    assert [one.verifier for one in found] == verifiers
    assert (found[0].kind, found[2].reason) == ("city", "There is no such land.")
    assert (found[3].options["choices"], found[4].system) == (["a", "b"], "Be brief.")
    assert found[4].prompt.system == "Be brief."


def test_a_null_of_a_table_means_that_nobody_can_know(tmp_path: Path) -> None:
    """Would catch Parquet's null, which its reader leaves out, taken for a missing key."""
    items = [{"question": "A?", "answer": "Rome"}, {"question": "B?", "answer": None}]
    found = read_questions([written(tmp_path / "q.parquet", items)])
    assert [one.answerable for one in found] == [True, False]


def test_a_whole_number_of_a_table_is_one(tmp_path: Path) -> None:
    """Would catch every right answer judged wrong, where a table has 4.0 beside a null."""
    items = [{"question": f"{n}?", "answer": a} for n, a in enumerate([4.0, 2.5, 1919, "4.0"])]
    found = read_questions([written(tmp_path / "q.jsonl", items)], "number")
    assert [one.answers for one in found] == [("4",), ("2.5",), ("1919",), ("4.0",)]
    assert verify(found[0], "A cat has four legs.").outcome == "right"


def test_signs_that_are_no_part_of_a_word_are_left_to_words(tmp_path: Path) -> None:
    """Would catch answers refused that their words alone tell from others."""
    texts = ["1939-1945", "World War II", "Disney+", "Jean-Luc", "5 - 10", "No. 5"]
    items = [{"question": f"{n}?", "answer": one} for n, one in enumerate(texts)]
    items.append({"question": "Which?", "answer": "C++", "form": "name"})
    assert len(read_questions([written(tmp_path / "q.jsonl", items)])) == 7


def test_files_of_one_name_in_two_folders_are_read(tmp_path: Path) -> None:
    """Would catch questions without ids that are taken for one another, and refused."""
    files = [tmp_path / folder / "q.jsonl" for folder in "ab"]
    for file in files:
        file.parent.mkdir()
        written(file, ITEMS[1:3])
    found = [one.id for one in read_questions([str(tmp_path / "*" / "q.jsonl")])]
    assert found == ["q.jsonl:1", "q.jsonl:2", f"{files[1]}:1", f"{files[1]}:2"]


def test_a_verifier_for_all_is_that_of_items_that_name_none(tmp_path: Path) -> None:
    """Would catch the recipe's verifier that overrides the item's own."""
    items = [
        {"question": "A?", "answer": 4},
        {"question": "B?", "answer": "x", "verifier": "exact"},
    ]
    found = read_questions([written(tmp_path / "q.jsonl", items)], "number")
    assert [one.verifier for one in found] == ["number", "exact"]


def test_what_nothing_reads_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Would catch choices without their verifier, or a misspelt key, that pass in silence."""
    items = [
        {"question": f"{n}?", "answer": "x", "choices": ["x", "y"], "ide": n} for n in range(3)
    ]
    with caplog.at_level(logging.WARNING):
        read_questions([written(tmp_path / "q.jsonl", items)])
    (line,) = caplog.messages
    caplog.clear()
    listed = {"question": "Which?", "answer": "x", "options": ["x", "y"]}
    read_questions([written(tmp_path / "listed.jsonl", [listed])])
    assert caplog.messages[0].endswith("keys that nothing reads: options (1)")
    assert "ide (3)" in line and "choices, which verifier answer does not read (3)" in line


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        ([{"question": "A?"}], 'q.jsonl line 1: has no "answer"'),
        ([{"ask": "A?", "answer": "x"}], 'q.jsonl line 1: has no "question", but ask, answer'),
        ([{"question": "A?", "answer": {"text": "x"}}], "neither a text nor a number"),
        ([{"question": "A?", "answer": True}], "holds True"),
        ([{"question": 3, "answer": "x"}], '"question" is no string'),
        ([{"question": "A?", "answer": "x", "verifier": "judge"}], "'judge' is none of answer"),
        ([{"question": "A?", "answer": "x", "verifier": ["exact"]}], "['exact'] is none of answer"),
        ([{"question": "A?", "answer": []}], '"answer" is an empty list: write null'),
        (
            [{"question": "A?", "verifier": "regex", "pattern": "a", "ignore_case": "no"}],
            '"ignore_case" is neither true nor false',
        ),
        (
            [{"question": "A?", "answer": "x", "verifier": "number"}],
            "line 1: the answer 'x' has no",
        ),
        ([{"id": 1, "question": "A?", "answer": "x"}] * 2, "line 2: its id '1' is that of"),
        ([{"id": " ", "question": "A?", "answer": "x"}], 'line 1: "id" is empty'),
        (
            [{"question": "A?", "verifier": "regex"}],
            'line 1: has no "pattern" for verifier regex: give it, or "answer": null',
        ),
        ([{"question": "A?", "verifier": "json_schema"}], 'has no "schema" for verifier'),
        ([], "holds no question"),
        ([{"question": "A?", "answer": float("nan")}], "holds nan, which is no number"),
        ([{"question": "A?", "answer": [1, float("inf")]}], "holds inf, which is no number"),
        ([{"question": "A?", "answer": -5}], "without its '-': set its verifier to number"),
        ([{"question": "A?", "answer": "\u22125 degrees"}], "without its '-'"),
        ([{"question": "A?", "answer": "C++"}], "without its '++'"),
        (
            [{"question": "A?", "answer": "x"}, {"question": "A?", "answer": None}],
            "line 2: says that nobody can know the answer, and",
        ),
        (
            [{"question": "A?", "verifier": "choice", "answer": "x", "choices": ["x", None]}],
            "one of its choices is no text",
        ),
    ],
)
def test_an_item_that_cannot_be_used_is_named(
    tmp_path: Path, items: Sequence[dict[str, Any]], fault: str
) -> None:
    """Would catch a fault in a file of ten thousand items that nobody can find."""
    with pytest.raises(DataError) as raised:
        read_questions([written(tmp_path / "q.jsonl", items)])
    assert fault in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named_with_its_key(tmp_path: Path) -> None:
    """Would catch an error that sends its reader to data.mixture, where nothing is wrong."""
    with pytest.raises(DataError, match=r"^reinforce\.questions: .*none\.jsonl"):
        read_questions([str(tmp_path / "none.jsonl")], key="reinforce.questions")
    text = tmp_path / "data.mixture: q.txt"
    text.write_text("A?")
    with pytest.raises(DataError, match=r"^reinforce\.questions: .*data\.mixture: q\.txt holds no"):
        read_questions([str(text)], key="reinforce.questions")


def test_questions_that_were_read_are_written_as_they_were(tmp_path: Path) -> None:
    """Would catch a verifier lost on the way: a pattern read as an answer, or not at all."""
    first = read_questions([written(tmp_path / "q.jsonl", ITEMS)])
    (tmp_path / "again.jsonl").write_text(question_lines(first), encoding="utf-8")
    again = read_questions([str(tmp_path / "again.jsonl")])
    assert [replace(one, place="") for one in again] == [replace(one, place="") for one in first]
