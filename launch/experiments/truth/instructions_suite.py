"""More instructions than the suite has: 525 prompts of 19 of its kinds, judged by its own checks.

The suite `instructions` has three prompts a kind, 132 in all, whose interval is wider than the
goal. Here each of 21 wordings meets 25 topics. None of them gives cause to decline.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainer.evaluate.respondent import Prompt, TextQuery
from trainer.evaluate.suites import instructions
from trainer.evaluate.suites.suite import FigureKind, Item, ItemRecord, SuiteContext

TOKENS = 64
REFUSED = re.compile(
    r"\bI(?:'m| am) (?:sorry|unable|not able)\b"
    r"|\bI (?:can't|cannot|couldn't|don't know|do not know)\b"
)
"""How models begin that do not do what they are asked, and some that do: "I can't wait ..."."""
BEGINNING = 90
"""Characters of an answer that it is looked for in."""
_HERE = Path(__file__)


def _lines(name: str) -> list[str]:
    return _HERE.with_name(name).read_text(encoding="utf-8").splitlines()


def _items(context: SuiteContext) -> list[Item]:
    """The prompts of one topic behind those of another, so that a limit leaves all kinds."""
    templates = [line.split("\t") for line in _lines("instruction_templates.tsv")]
    found = []
    for topic in _lines("instruction_topics.txt"):
        for kind, template, arguments in templates:
            prompt = template.replace("{}", topic)
            shown = {"kind": kind, "prompt": prompt, "arguments": json.loads(arguments)}
            found.append(Item(prompt, (TextQuery(Prompt(prompt), TOKENS),), shown))
    return found[: context.limit]


def _followed(record: ItemRecord) -> Sequence[float]:
    return (float(record["followed"]),)


def _refused(record: ItemRecord) -> Sequence[float]:
    beginning = record["answer"][:BEGINNING].replace("\u2019", "'")
    return (float(REFUSED.search(beginning) is not None),)


def _figures(context: SuiteContext) -> Mapping[str, FigureKind]:
    return {
        "followed": FigureKind(
            "instructions followed by the answer as it stands", _followed, better="higher"
        ),
        "refused": FigureKind(
            "answers that begin with an apology, or with what the model cannot do",
            _refused,
            better="lower",
        ),
    }


SUITE = replace(
    instructions.SUITE,
    name="many-instructions",
    items=_items,
    figures=_figures,
    rules=1,
    options={"tokens": TOKENS},
)
