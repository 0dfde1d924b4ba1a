"""Questions about facts, and about things that do not exist, in one of several wordings each."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.evaluate.judging.expected import AskedAbout, ExpectedAnswer
from trainer.evaluate.world_facts.invented import subjects
from trainer.evaluate.world_facts.tables import table
from trainer.evaluate.world_facts.world import (
    WorldFact,
    expected,
    facts_of,
    named_answers,
    subjects_of,
)

_AT_ONCE = 64
"""Names that are looked up in a corpus together."""


@dataclass(frozen=True)
class FactQuestion:
    """A question of a kind about a subject.

    `fact`: what is right, None where the subject does not exist.
    """

    id: str
    kind: str
    subject: str
    text: str
    fact: WorldFact | None = None

    @property
    def passages(self) -> tuple[str, ...]:
        """Sentences that tell the answer; of what does not exist, its name."""
        if self.fact is None:
            return (self.subject,)
        best = self.fact.right[0]
        told = [one.replace("{}", self.subject) for one in wordings(self.kind, ".")]
        return tuple(one.replace("[]", best).rstrip(".") for one in told)


def expected_of(shown: Mapping[str, Any]) -> ExpectedAnswer:
    """What is right in answer to a question that an item shows by kind, subject and question."""
    (fact,) = [one for one in facts_of(shown["kind"]) if one.subject == shown["subject"]]
    return expected(fact, shown["question"])


def about_of(shown: Mapping[str, Any]) -> AskedAbout:
    """What an item asks about, which it shows by kind and subject, among the things of its kind."""
    kind, subject = shown["kind"], shown["subject"]
    name = subject.partition(" ")[2] if kind == "person" else subject
    return AskedAbout(name, subjects_of(kind), named_answers(kind))


def wordings(kind: str, form: str) -> list[str]:
    """How a kind is asked ("?") or stated ("."): {} stands for the subject, [] for the answer."""
    return [text for name, sign, text in table("wordings") if (name, sign) == (kind, form)]


def known(kind: str, seed: int, count: int) -> list[FactQuestion]:
    """Questions about `count` facts of a kind, or as many as there are, drawn by the seed."""
    facts = facts_of(kind)
    draws = random.Random(f"{seed}/{kind}/known")
    chosen = draws.sample(facts, min(count, len(facts)))
    return [_question(kind, fact.subject, fact, draws) for fact in chosen]


def unknown(
    kind: str,
    seed: int,
    count: int,
    occurrences: Callable[[Sequence[str]], list[int]] | None = None,
) -> list[FactQuestion]:
    """Questions about `count` things of a kind that do not exist, drawn by the seed.

    `occurrences`: how many documents of a corpus hold each text; what any holds is left out.
    """
    draws = random.Random(f"{seed}/{kind}/wordings")
    found: list[FactQuestion] = []
    names = subjects(kind, seed)
    while len(found) < count:
        batch = [name for name, _ in zip(names, range(_AT_ONCE), strict=False)]
        if not batch:
            break
        held = [0] * len(batch) if occurrences is None else occurrences(batch)
        free = [name for name, times in zip(batch, held, strict=True) if not times]
        found += [_question(kind, name, None, draws) for name in free[: count - len(found)]]
    return found


def _question(
    kind: str, subject: str, fact: WorldFact | None, draws: random.Random
) -> FactQuestion:
    number, text = draws.choice(list(enumerate(wordings(kind, "?"))))
    exists = "unknown" if fact is None else "known"
    asked = text.replace("{}", subject)
    return FactQuestion(
        f"{exists}/{kind}/{subject}/{number}", kind, subject, asked[0].upper() + asked[1:], fact
    )
