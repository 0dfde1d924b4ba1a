"""The instructions suite: exact checks, and what planted models get."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.planted import Planted, examined
from tests.evaluate.suites.instruction_answers import ANSWERS
from trainer.evaluate.respondent import TextQuery
from trainer.evaluate.suites.instruction_kinds import CHECKS
from trainer.evaluate.suites.instructions import (
    ITEMS,
    PROMPTS_FILE,
    SUITE,
    follows,
    follows_loosely,
    loosened,
)

ENTRIES: list[dict[str, Any]] = [json.loads(line) for line in PROMPTS_FILE.open(encoding="utf-8")]

FULFILLED: dict[str, Any] = {
    "words at least": lambda least: "word " * least,
    "words at most": lambda most: "word",
    "words between": lambda least, most: "word " * least,
    "sentences": lambda number: "It is so. " * number,
    "paragraphs": lambda number: "It is so.\n\n" * number,
    "lines": lambda number: "a line\n" * number,
    "bullets": lambda number, mark: f"{mark} a point\n" * number,
    "numbered list": lambda number: "\n".join(f"{n + 1}. a point" for n in range(number)),
    "word n times": lambda word, number: f"{word} " * number,
    "letter n times": lambda letter, number: letter * number,
    "short words": lambda letters: "it is so",
    "no word twice": lambda least: " ".join(f"w{n}" for n in range(least)),
    "bold parts": lambda number: "**so** " * number,
    "placeholders": lambda number: "[name] " * number,
    "begins with": lambda start: f"{start} it is so",
    "ends with": lambda end: f"It is so. {end}",
    "contains words": lambda words: " ".join(words),
    "omits words": lambda words: "It is what it is.",
    "omits a letter": lambda letter: "A dog saw a cow.",
    "no commas": lambda: "It is so.",
    "no digits": lambda: "It is so.",
    "repeats the request": lambda request: f"{request} It is so.",
    "copies a text": lambda wanted: wanted,
    "one word": lambda: "so",
    "yes or no": lambda options: options[0],
    "one of several": lambda options: options[0],
    "a number only": lambda: "12",
    "sorted list": lambda least, words=None: "\n".join(sorted(words or "abcdefgh"[:least])),
    "reversed order": lambda words: " ".join(words),
    "language": lambda code: {
        "fr": "La maison est grande et le jardin est derrière elle.",
        "de": "Das Wasser ist klar, und wir trinken es jeden Tag.",
        "es": "Una escuela es un lugar donde los niños aprenden muchas cosas.",
    }[code],
    "same start of lines": lambda start, number: f"{start} so\n" * number,
    "postscript": lambda: "It is so.\nP.S. It really is.",
    "all capitals": lambda: "IT IS SO",
    "all lower case": lambda: "it is so",
    "title in angle brackets": lambda: "<A Title>\nIt is so.",
    "in quotation marks": lambda: '"It is so."',
    "two answers": lambda separator, number: f"One way.\n{separator}\nAnother way.",
    "JSON object": lambda keys: json.dumps(dict.fromkeys(keys, 1)),
    "JSON list": lambda number: json.dumps(["so" * (n + 1) for n in range(number)]),
    "CSV": lambda columns, rows: "\n".join([",".join("abcd"[:columns])] * rows),
    "heading": lambda level: f"{'#' * level} A title\nIt is so.",
    "code block": lambda language: f"```{language}\nx = 1\n```",
    "table": lambda columns, rows, heads=None: "\n".join(
        [f"|{'|'.join(heads or 'abcd'[:columns])}|", f"|{'---|' * columns}"]
        + ["| b " * columns] * rows
    ),
    "XML element": lambda tag: f"<{tag}>It is so.</{tag}>",
}
"""A writer for each kind: what follows an instruction with these arguments."""


def obeys(query: TextQuery) -> str:
    (entry,) = [one for one in ENTRIES if one["prompt"] == query.prompt.text]
    text: str = FULFILLED[entry["kind"]](**entry["arguments"])
    return text


@pytest.mark.parametrize("kind", sorted(CHECKS))
def test_a_check_takes_what_follows_and_nothing_that_all_but_does(kind: str) -> None:
    """Catches a check that counts wrongly, reads a part for the whole, or passes what is blank."""
    arguments, right, wrong = ANSWERS[kind]
    assert {text: follows(text, kind, arguments) for text in right} == dict.fromkeys(right, True)
    assert {text: follows(text, kind, arguments) for text in wrong} == dict.fromkeys(wrong, False)
    assert not any(follows(blank, kind, arguments) for blank in ("", " \n\t"))


@pytest.mark.parametrize(
    ("kind", "arguments", "right", "wrong"),
    [
        ("bullets", {"number": 1, "mark": "*"}, "* one", "- one"),
        ("sorted list", {"least": 2, "words": ["fig", "pear"]}, "fig\nPear", "ash\noak"),
        ("begins with", {"start": "Once"}, "Once, long ago", "Onceover"),
        (
            *("table", {"columns": 2, "rows": 1, "heads": ["fruit", "colour"]}),
            *("|Fruit|**Colour**|\n|-|-|\n|fig|red|", "|day|colour|\n|-|-|\n|fig|red|"),
        ),
        ("in quotation marks", {}, "\u201eSo ist es.\u201c", "\u201eSo ist es.\u201d"),
    ],
)
def test_an_argument_narrows_what_follows(
    kind: str, arguments: dict[str, Any], right: str, wrong: str
) -> None:
    """Catches a mark, a word or a border that is asked for and never looked at."""
    assert follows(right, kind, arguments) and not follows(wrong, kind, arguments)


def test_each_kind_has_prompts_and_answers() -> None:
    """Catches a kind that is never asked about, or never tested."""
    kinds = Counter(entry["kind"] for entry in ENTRIES)
    assert set(kinds) == set(CHECKS) == set(ANSWERS) == set(FULFILLED)
    assert len(CHECKS) >= 25 and min(kinds.values()) >= 3
    assert len({entry["prompt"] for entry in ENTRIES}) == len(ENTRIES)


def test_a_model_that_follows_everything_gets_all() -> None:
    """Catches an instruction that cannot be followed, and arguments that no check takes."""
    found = examined("instructions", Planted(obeys), limit=len(ENTRIES)).figures
    assert found["followed"].items == len(ENTRIES)
    assert {name: figure.value for name, figure in found.items()} == dict.fromkeys(found, 1.0)
    assert len(found) == 2 + len(CHECKS)


@pytest.mark.parametrize("text", ["", " \n", "\u2026", ".\n.\n.", "- .\n- !", "\U0001f642\n"])
def test_a_model_that_says_nothing_gets_nothing(text: str) -> None:
    """Catches instructions on what to leave out that an empty answer follows."""
    found = examined("instructions", Planted(lambda query: text)).figures
    assert found["followed"].value == found["followed_loose"].value == 0.0


def test_a_model_that_echoes_gets_what_an_echo_follows() -> None:
    """Catches checks that the request's own words pass: what is asked for stands in it."""
    found = examined("instructions", Planted(lambda query: query.prompt.text), limit=len(ENTRIES))
    passed = {name for name, figure in found.figures.items() if figure.value == 1.0}
    # These texts are short, hold the words, and are written without digits.
    assert passed == {
        f"followed/{name}" for name in ("contains_words", "words_at_most", "no_digits")
    }
    for name in ("JSON_object", "one_word", "language", "all_capitals", "copies_a_text", "bullets"):
        assert found.figures[f"followed/{name}"].value == 0.0, name


def test_a_random_model_is_near_nothing() -> None:
    """Catches checks that any text passes: a word of eight hex digits follows few instructions."""
    found = examined("instructions", Planted(), limit=len(ENTRIES)).figures["followed"]
    assert found.value < 0.25


def test_loosened_texts_are_without_what_stands_around() -> None:
    """Catches a first line, a last line, or marks that still decide, and blank texts."""
    text = "Sure! Here it is:\n\n*blue*\n\nTell me if you want more."
    assert follows_loosely(text, "one word", {}) and not follows(text, "one word", {})
    fenced = '```json\n{"name": 1}\n```'
    assert follows_loosely(fenced, "JSON object", {"keys": ["name"]})
    assert loosened("one line") == ["one line"]
    assert loosened("**") == ["**"]
    assert loosened("a\nb\nc") == ["a\nb\nc", "b\nc", "a\nb", "b"]
    # What follows strictly follows loosely: bold parts are lost where asterisks are taken away.
    assert follows_loosely("**a**", "bold parts", {"number": 1})


def test_a_limit_is_spread_over_the_kinds() -> None:
    """Catches a smaller number of items that leaves out the last kinds."""
    few = examined("instructions", Planted(obeys), limit=len(CHECKS)).figures
    assert [figure.items for figure in few.values()] == [len(CHECKS)] * 2 + [1] * len(CHECKS)
    whole = examined("instructions", Planted(obeys)).figures
    assert whole["followed"].items == ITEMS == 2 * len(CHECKS)
    assert SUITE.options["items"] == ITEMS


def test_answers_that_were_asked_for_otherwise_are_not_gone_on_with(tmp_path: Path) -> None:
    """Would catch a model's answers with thoughts before them among those without."""
    older = replace(SUITE, rules=5)
    assert examined(older, Planted(), limit=4, records=tmp_path).before == 0
    assert examined(SUITE, Planted(), limit=4, records=tmp_path).before == 0
    again = examined(SUITE, Planted(), limit=4, records=tmp_path)
    assert again.before == again.items  # negative control
