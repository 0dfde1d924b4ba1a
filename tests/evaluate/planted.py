"""Planted models: respondents whose answers are known, so that a suite's figures are too."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.evaluate.corpora import SearchableText
from trainer.evaluate.examination import SuiteResult, examine, prepare
from trainer.evaluate.respondent import (
    Likelihood,
    LikelihoodQuery,
    Query,
    Response,
    TextQuery,
    TokensQuery,
    WrittenAnswer,
)
from trainer.evaluate.suites import load_suite
from trainer.evaluate.suites.suite import Suite, SuiteContext
from trainer.parallel.agreement import Ranks

VOCABULARY = 256
"""Planted models read UTF-8 bytes."""


def coin(text: str) -> float:
    """A number in (0, 1) that follows from the text alone."""
    digest = hashlib.sha256(text.encode()).digest()
    return (int.from_bytes(digest[:7], "little") + 0.5) / 256**7


def uniform(query: LikelihoodQuery) -> float:
    """The log-probability of a text where every byte is as likely as any other."""
    return -len(query.text.encode()) * math.log(VOCABULARY)


def by_chance(query: LikelihoodQuery) -> float:
    """A log-probability that means nothing, and is the same for the same query."""
    return math.log(coin(f"{query.prompt} {query.text}"))


def random_text(query: TextQuery) -> str:
    """A word that means nothing, and is the same for the same query."""
    return hashlib.sha256(repr(query).encode()).hexdigest()[:8]


@dataclass
class Planted:
    """Answers by functions: `writes` the text of an answer, `likes` a text's log-probability.

    `confidence`: the probability that it gives to what it writes, as a whole.
    """

    writes: Callable[[TextQuery], str] = random_text
    likes: Callable[[LikelihoodQuery], float] = by_chance
    confidence: Callable[[TextQuery], float] = lambda query: 0.5
    chats: bool = True
    longest: int = 1 << 20
    asked: list[Query] = field(default_factory=list)

    def encode(self, text: str) -> list[int]:
        """The bytes of the text."""
        return list(text.encode())

    def responses(self, queries: Sequence[Query]) -> Iterator[tuple[int, Response]]:
        """Answer each query, in order; they are kept in `asked`."""
        for index, query in enumerate(queries):
            self.asked.append(query)
            yield index, self.answer(query)

    def answer(self, query: Query) -> Response:
        """The answer to one query."""
        if isinstance(query, TokensQuery):
            asked = len(query.tokens) - query.given
            return Likelihood((-math.log(VOCABULARY),) * asked, greedy=False)
        if isinstance(query, LikelihoodQuery):
            return Likelihood((self.likes(query),), greedy=False)
        assert isinstance(query, TextQuery), "planted models read no ids to go on with"
        return WrittenAnswer(self.writes(query), True, (math.log(self.confidence(query)),))


def examined(
    suite: str | Suite,
    planted: Planted,
    *,
    seed: int = 0,
    limit: int | None = None,
    own: SearchableText | None = None,
    records: Path | None = None,
) -> SuiteResult:
    """What a suite finds of a planted model, by the runner that real models go through."""
    loaded = load_suite(suite) if isinstance(suite, str) else suite
    context = SuiteContext(planted, seed, limit, own, trained_on=own)
    ranks = Ranks()
    return examine(prepare(loaded, context, ranks), planted, ranks, records)
