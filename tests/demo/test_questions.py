"""Questions about documented names: right answers, wrong ones, and what is held out."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from trainer.conversations.forms import conversation_of
from trainer.conversations.pairs import pair_of
from trainer.conversations.records import read_examples
from trainer.demo.packages import source_files
from trainer.demo.questions import (
    Documented,
    QuestionFiles,
    documented_names,
    ensure_question_files,
    pairs_of,
    questions_of,
    summary_line,
)
from trainer.errors import DataError, RecipeError

SOURCE = '''
    """Looks after birds of all kinds. It has two functions."""
    raise SystemExit("this package was imported")

    def feed(bird, grams=20, *, twice=False):
        """Give a bird something to eat.

        The second paragraph is no summary.
        """

    def wash(bird: str, water: float = 1.5) -> None:
        """Wash a bird in clear water. It may bite."""

    def dry(bird):
        """Wash a bird in clear water."""

    def _hidden(bird):
        """Nobody is to ask what this function does."""

    class Nest:
        """A place that birds sleep in."""

        def lay(self, eggs=1):
            """Put eggs into this nest."""

        def wash(self):
            """Clean the nest of what birds leave."""
'''


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small package, and one of many functions; their import would fail loudly."""
    small, large = tmp_path / "site" / "birds", tmp_path / "site" / "flock"
    small.mkdir(parents=True)
    large.mkdir()
    (small / "__init__.py").write_text(textwrap.dedent(SOURCE))
    (small / "_private.py").write_text('def inside():\n    """Nobody is to ask for it, too."""\n')
    (small.parent / "egg.py").write_text('"""Holds a bird that nobody has seen so far."""')
    (large / "__init__.py").write_text(many_functions(150))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def many_functions(count: int) -> str:
    """A module of documented functions, all different."""
    parts = ['"""Calls birds by their numbers, one and all."""\nraise SystemExit("imported")\n']
    for number in range(count):
        arguments = ", ".join(f"a{n}" for n in range(number % 4))
        parts.append(
            f'def call_{number}({arguments}):\n    """Call bird number {number} to the nest."""\n'
        )
    return "\n".join(parts)


def names_of(package: str) -> dict[str, Documented]:
    return {one.name: one for one in documented_names(source_files([package]))}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answers_are_what_the_docstrings_and_headings_say(birds: None) -> None:
    """Catches answers of another name, second sentences, annotations and `self` in signatures."""
    answers = {
        (one.about.name, one.asked): one.answer
        for name in names_of("birds").values()
        for one in questions_of(name)
    }
    assert answers == {
        ("birds", "summary"): "Looks after birds of all kinds.",
        ("birds.feed", "summary"): "Give a bird something to eat.",
        ("birds.feed", "signature"): "`birds.feed(bird, grams=20, *, twice=False)`",
        ("birds.feed", "place"): "`feed` is in `birds`.",
        ("birds.wash", "summary"): "Wash a bird in clear water.",
        ("birds.wash", "signature"): "`birds.wash(bird, water=1.5)`",
        ("birds.Nest", "summary"): "A place that birds sleep in.",
        ("birds.Nest", "place"): "`Nest` is in `birds`.",
        ("birds.Nest.lay", "summary"): "Put eggs into this nest.",
        ("birds.Nest.lay", "signature"): "`birds.Nest.lay(eggs=1)`",
        ("birds.Nest.lay", "place"): "`lay` is in `birds`.",
        ("birds.Nest.wash", "summary"): "Clean the nest of what birds leave.",
        ("birds.Nest.wash", "signature"): "`birds.Nest.wash()`",
    }


def test_each_kind_of_name_is_asked_about_in_its_own_words(birds: None) -> None:
    """Catches a class that is asked for as a function, and a question that names no name."""
    kinds = {name: one.kind for name, one in names_of("birds").items()}
    assert kinds["birds"] == "module"
    assert kinds["birds.Nest"] == "class"
    assert kinds["birds.Nest.lay"] == "function"
    for one in names_of("birds").values():
        for question in questions_of(one):
            name = one.word if question.asked == "place" else one.name
            assert f"`{name}`" in question.text
            assert "module" not in question.text or one.kind == "module" or name == one.word


def test_no_name_is_both_trained_on_and_held_out(birds: None, tmp_path: Path) -> None:
    """Catches a held-out name whose other question, or whose answer, is trained on."""
    files = ensure_question_files(["flock"], tmp_path / "made", 1000)
    for path in (files.questions, files.pairs):
        sides = [{one["about"] for one in lines(path(held_out))} for held_out in (False, True)]
        assert sides[1] and not sides[0] & sides[1]
    trained, held_out = (lines(files.questions(side)) for side in (False, True))
    asked = {name for one in trained for name in re.findall("`([^`]+)`", question_of(one))}
    held = {name for one in held_out for name in re.findall("`([^`]+)`", question_of(one))}
    assert held and not asked & held
    answers = [{one["messages"][1]["content"] for one in side} for side in (trained, held_out)]
    assert not answers[0] & answers[1]
    wrong = {one["rejected"][0]["content"] for one in lines(files.pairs(False))}
    assert not wrong & answers[1]


def question_of(record: dict[str, Any]) -> str:
    return str(record["messages"][0]["content"])


def test_about_a_tenth_is_held_out(birds: None, tmp_path: Path) -> None:
    """Catches a share that is nothing, or most of the names."""
    counts = ensure_question_files(["flock"], tmp_path / "made", 1000).counts()
    assert counts["names"] == 151
    # Of 151 draws at 0.1, four standard deviations.
    assert 1 <= counts["names held out"] <= 30


def test_a_wrong_answer_is_plausible_and_wrong(birds: None) -> None:
    """Catches pairs without a difference, and wrong signatures that all have the wrong name."""
    questions = [one for name in names_of("flock").values() for one in questions_of(name)]
    right = {one.text: one.answer for one in questions}
    answers = {(one.asked, one.answer) for one in questions}
    own_name = 0
    pairs = [pair for _, pair in pairs_of(questions)]
    assert len(pairs) > 200
    for pair in pairs:
        chosen, rejected = (pair[side][0]["content"] for side in ("chosen", "rejected"))
        assert chosen == right[pair["prompt"][0]["content"]]
        assert rejected != chosen
        if pair["asked"] == "signature" and rejected.startswith(f"`{pair['about']}("):
            own_name += 1
        else:
            assert (pair["asked"], rejected) in answers
    assert 0.3 < own_name / sum(pair["asked"] == "signature" for pair in pairs) < 0.7


def test_the_bytes_follow_from_the_sources(birds: None, tmp_path: Path) -> None:
    """Catches an order or a choice that changes from one making to the next."""
    made = [ensure_question_files(["flock"], tmp_path / name, 100) for name in "ab"]
    for held_out in (False, True):
        first, second = ([f.questions(held_out), f.pairs(held_out)] for f in made)
        assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert made[0].counts()["names"] == 100


def test_files_that_are_there_are_left_alone(birds: None, tmp_path: Path) -> None:
    """Catches a demo whose sets become other sets when it goes on."""
    files = ensure_question_files(["flock"], tmp_path / "made", 1000)
    before = files.questions(False).stat()
    assert ensure_question_files(["birds"], tmp_path / "made", 10) == files
    assert files.questions(False).stat().st_mtime_ns == before.st_mtime_ns


def test_the_sets_are_of_the_known_forms(birds: None, tmp_path: Path) -> None:
    """Catches a field that the readers of conversations and pairs do not know."""
    files: QuestionFiles = ensure_question_files(["flock"], tmp_path / "made", 1000)
    for held_out in (False, True):
        for example in read_examples([str(files.questions(held_out))], pytest.fail):
            assert len(conversation_of(example).messages) == 2
        for example in read_examples([str(files.pairs(held_out))], pytest.fail):
            assert pair_of(example).chosen.answer != pair_of(example).rejected.answer


def test_too_few_names_and_no_package_are_refused(birds: None, tmp_path: Path) -> None:
    """Catches a set without a held-out side, which nothing could be measured on."""
    with pytest.raises(DataError, match="egg: 1 documented names are too few"):
        ensure_question_files(["egg"], tmp_path / "made", 1000)
    with pytest.raises(RecipeError, match="no sources of a package 'dodo'"):
        ensure_question_files(["dodo"], tmp_path / "made", 1000)


@pytest.mark.parametrize(
    ("docstring", "summary"),
    [
        ("Return the sum\nof both numbers.\n\nMore.", "Return the sum of both numbers."),
        ("return a number, as a float", "Return a number, as a float."),
        ("Like :meth:`~torch.Tensor.add` in place.", "Like `add` in place."),
        ("Use :class:`a name <torch.Tensor>` instead of ``x``.", "Use `a name` instead of `x`."),
        ("Take words, e.g. Nouns, of a text. Then more.", "Take words, e.g. Nouns, of a text."),
        ("Version 2.5 of the protocol.", "Version 2.5 of the protocol."),
        ("join(path, *paths) -> str: join them all up.", None),
        ("Short.", None),
        ("See https://example.org for what this does.", None),
        ("What this does is shown as follows::", None),
        ("word " * 40, None),
        ("", None),
    ],
)
def test_summaries_are_plain_sentences(docstring: str, summary: str | None) -> None:
    """Catches markup, cut sentences and code among the answers."""
    assert summary_line(docstring) == summary
