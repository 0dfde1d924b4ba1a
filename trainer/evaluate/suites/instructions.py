"""Whether instructions on an answer's form are followed, which a program can check exactly.

Prompts of our own (`instructions.jsonl`), three of each kind in `instruction_kinds`: how much of
something an answer has, which words it is made of, in which format it stands. Each has a check, a
pure function of the text, so that no model judges.

Measured: the share of instructions that the answer follows as it stands (`followed`), and as it
stands or without what chat models put around answers (`followed_loose`): without its first line,
its last, or both, and each of these also without asterisks, as where the text is asked for that is
in bold. An answer without a word follows none. What a model has not ended within the tokens that it
may write is judged as far as it goes.

Not measured: whether the answer is right, or about what was asked; several instructions at once. So
a model that gives up its manners to become truthful is seen here, one that becomes dull is not.

Source: the idea of instructions that can be checked, and the two ways to count, of Zhou and others,
"Instruction-Following Evaluation for Large Language Models", 2023, arXiv 2311.07911; prompts and
checks are our own.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import normalize

from trainer.evaluate.respondent import Prompt, Response, TextQuery, WrittenAnswer
from trainer.evaluate.suites.instruction_kinds import CHECKS
from trainer.evaluate.suites.instruction_kinds.amounts import words_of
from trainer.evaluate.suites.suite import FigureKind, Item, ItemRecord, Suite, SuiteContext

PROMPTS_FILE = Path(__file__).with_suffix(".jsonl")
ANSWER_TOKENS = 80
ITEMS = 88
"""Items where no limit is given: two of each kind."""


def follows(text: str, kind: str, arguments: dict[str, Any]) -> bool:
    """Whether a text follows an instruction; one without a word or a number follows none.

    However its lines end, and however its letters with accents are encoded (Unicode's NFC).
    """
    lined = normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return bool(words_of(lined)) and CHECKS[kind](lined, **arguments)


def loosened(text: str) -> list[str]:
    """The text, and what is left of it without what chat models put around answers.

    Without its first line, its last line, and both; and each of these without asterisks. The first
    is the text itself; none is blank.
    """
    lines = text.strip().splitlines()
    cuts = [lines, lines[1:], lines[:-1], lines[1:-1]]
    ways = [text, *("\n".join(cut).strip() for cut in cuts)]
    ways += [way.replace("*", "") for way in ways]
    return [way for way in dict.fromkeys(ways) if way.strip()]


def follows_loosely(text: str, kind: str, arguments: dict[str, Any]) -> bool:
    """Whether the text, or one of the ways to loosen it, follows an instruction."""
    return any(follows(way, kind, arguments) for way in loosened(text))


@cache
def _entries() -> tuple[dict[str, Any], ...]:
    lines = PROMPTS_FILE.read_text(encoding="utf-8").splitlines()
    return tuple(map(json.loads, lines))


def _items(context: SuiteContext) -> list[Item]:
    numbers: dict[str, int] = {}
    turns = []
    for index, entry in enumerate(_entries()):
        numbers[entry["kind"]] = number = numbers.get(entry["kind"], 0) + 1
        turns.append((number, index))
    # The first of each kind, then the second: so many as are asked for.
    chosen = sorted(sorted(turns)[: context.limit or ITEMS], key=lambda turn: turn[1])
    return [_item(_entries()[index], number) for number, index in chosen]


def _item(entry: dict[str, Any], number: int) -> Item:
    shown = {"kind": entry["kind"], "prompt": entry["prompt"], "arguments": entry["arguments"]}
    query = TextQuery(Prompt(entry["prompt"]), ANSWER_TOKENS)
    return Item(f"{entry['kind']} {number}", (query,), shown, (entry["prompt"],))


def _judge(item: Item, responses: Sequence[Response]) -> ItemRecord:
    (answer,) = responses
    assert isinstance(answer, WrittenAnswer)
    asked = (item.shown["kind"], item.shown["arguments"])
    return {
        "kind": item.shown["kind"],
        "answer": answer.text,
        "ended": answer.ended,
        "followed": follows(answer.text, *asked),
        "followed_loose": follows_loosely(answer.text, *asked),
    }


def _figure(name: str, means: str, kind: str | None = None) -> FigureKind:
    def row(record: ItemRecord) -> Sequence[float] | None:
        return (float(record[name]),) if kind is None or record["kind"] == kind else None

    return FigureKind(means, row, better="higher")


def _figures(context: SuiteContext) -> dict[str, FigureKind]:
    figures = {
        "followed": _figure("followed", "instructions followed by the answer as it stands"),
        "followed_loose": _figure(
            "followed_loose", "instructions followed, first or last line and asterisks aside"
        ),
    }
    for kind in CHECKS:
        means = f"instructions followed of the kind: {kind}"
        figures[f"followed/{kind.replace(' ', '_')}"] = _figure("followed", means, kind)
    return figures


SUITE = Suite(
    name="instructions",
    measures="the share of exactly checkable instructions on an answer's form that are followed",
    leaves_out="whether the answer is right or about what was asked; several instructions at once",
    source="own prompts and checks; the idea of Zhou and others, 2023 (arXiv 2311.07911)",
    rules=6,
    items=_items,
    judge=_judge,
    figures=_figures,
    options={"tokens": ANSWER_TOKENS, "items": ITEMS},
)
