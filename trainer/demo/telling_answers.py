"""What the demo prints of its real model: answers before and after, counted and compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainer.demo.asking import VerifiedAnswer
from trainer.demo.telling import on_a_line, say
from trainer.evaluate.intervals import Figure
from trainer.questions.question import Question
from trainer.report.reading.examinations import read_examinations

LONGEST_SHOWN = 110
"""Characters of an answer."""
MEASURED = {
    "known-unknown/hallucination": "made up, of what does not exist",
    "known-unknown/accuracy": "right, of what exists",
    "known-unknown/over_refusal": "declined, of what exists",
}
"""Figures of the suite, and what they mean."""
GOOD = "green"
_COLOURS = {"right": GOOD, "declined": "yellow", "wrong": "red", "made up": "red"}


def called(question: Question, answer: VerifiedAnswer) -> str:
    """An outcome as the demo calls it: what is wrong about what does not exist is made up."""
    return "made up" if answer.outcome == "wrong" and not question.answerable else answer.outcome


def print_side_by_side(
    console: Console,
    questions: Sequence[Question],
    before: Sequence[VerifiedAnswer],
    after: Sequence[VerifiedAnswer],
) -> None:
    """Print each question with both answers: those about what exists first."""
    for answerable, title in ((True, "exists"), (False, "does not exist")):
        table = Table(title=f"What {title}", title_justify="left", show_lines=True)
        for name in ("asked", "before", "after"):
            table.add_column(name, ratio=2 if name == "asked" else 3)
        for question, *answers in zip(questions, before, after, strict=True):
            if question.answerable is answerable:
                shown = [_shown(question, answer) for answer in answers]
                table.add_row(Text(question.text, style="bold"), *shown)
        console.print(table)


def print_counts(
    console: Console,
    questions: Sequence[Question],
    answers: Mapping[str, Sequence[VerifiedAnswer]],
) -> None:
    """Print how many answers of each model are right, declined, wrong and made up."""
    exist = sum(question.answerable for question in questions)
    table = Table()
    table.add_column("")
    columns = [(True, "right"), (True, "declined"), (True, "wrong")]
    columns += [(False, "declined"), (False, "made up")]
    for answerable, outcome in columns:
        of = f"{exist} that exist" if answerable else f"{len(questions) - exist} that do not"
        table.add_column(f"{outcome}, of {of}", justify="right")
    for name, given in answers.items():
        found = [
            (question.answerable, called(question, answer))
            for question, answer in zip(questions, given, strict=True)
        ]
        table.add_row(name, *(str(found.count(column)) for column in columns))
    console.print(table)


def print_measured(console: Console, run: Path) -> None:
    """Print what the run found of its base and of itself by `MEASURED`, where it measured both."""
    suites = [one for one in read_examinations(run) if not one.named]
    base = next((one.figures for one in suites if one.step is None), {})
    tuned = next((one.figures for one in reversed(suites) if one.step is not None), {})
    table = Table(title="Other questions, of the suite known-unknown", title_justify="left")
    for name in ("with its 95% interval", "before", "after"):
        table.add_column(name, justify="left" if name == "with its 95% interval" else "right")
    for name, means in MEASURED.items():
        if name in base and name in tuned:
            shown = [_with_interval(figures[name]) for figures in (base, tuned)]
            table.add_row(f"{means} ({base[name].items})", *shown)
    if table.row_count:
        console.print(table)


def print_costs(
    console: Console,
    questions: Sequence[Question],
    before: Sequence[VerifiedAnswer],
    after: Sequence[VerifiedAnswer],
) -> None:
    """Say what was right and is no longer, and what is still made up."""
    lost = [
        f'"{question.text}" ({now.outcome})'
        for question, then, now in zip(questions, before, after, strict=True)
        if question.answerable and then.outcome == "right" != now.outcome
    ]
    made_up = [
        f'"{question.text}"'
        for question, now in zip(questions, after, strict=True)
        if not question.answerable and now.outcome == "wrong"
    ]
    say(console, f"What it cost: right before, and no longer: {_listed(lost)}.")
    say(console, f"Still made up: {_listed(made_up)}.")


def _with_interval(figure: Figure) -> str:
    return f"{figure.value:.0%} ({figure.low:.0%} to {figure.high:.0%})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _shown(question: Question, answer: VerifiedAnswer) -> Text:
    outcome = called(question, answer)
    good = outcome == ("right" if question.answerable else "declined")
    text = on_a_line(answer.text, LONGEST_SHOWN) or "(nothing)"
    return Text.assemble((outcome, GOOD if good else _COLOURS[outcome]), ": ", text)
