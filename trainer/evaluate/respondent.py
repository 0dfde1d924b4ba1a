"""What suites ask of a model, and what they get: text in, likelihoods and text out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Prompt:
    """What stands before an answer.

    `text`: a question, which the model's chat template puts into form, after the `system` prompt
    and the `shots`, earlier questions with their answers. A model without a template gets
    "Question: ..." and "Answer:" on lines of their own. With `plain` the text stands as it is,
    behind the start of a text alone, and is gone on with.
    """

    text: str
    plain: bool = False
    system: str | None = None
    shots: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class LikelihoodQuery:
    """Asks how likely `text` is behind the prompt.

    Behind a question it is the answer's text (a space stands before it where the form needs one);
    behind a plain prompt it goes on letter by letter, its own spaces included.
    """

    prompt: Prompt
    text: str


@dataclass(frozen=True)
class TokensQuery:
    """Asks how likely each token of a text is; nothing is put before it.

    The first `given` are not asked for, one at least. The last token is not read, so that there
    may be one more than the model's longest text has.
    """

    tokens: tuple[int, ...]
    given: int = 1


@dataclass(frozen=True)
class TextQuery:
    """Asks for at most `tokens` new tokens behind the prompt, up to the first of the `stop` texts.

    `temperature` 0 is greedy; the draws follow from `seed` alone, whatever else is asked. `top_k`,
    `top_p`: as in `sampling.Sampling`.
    """

    prompt: Prompt
    tokens: int = 64
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True)
class ContinuationQuery:
    """Asks for at most `tokens` new tokens behind ids, to which nothing is added.

    It ends where the model's own files say that a text does, not where a chat template ends a turn
    by another token. As a TextQuery otherwise.
    """

    prompt: tuple[int, ...]
    tokens: int = 64
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    top_k: int = 0
    top_p: float = 1.0


Query = LikelihoodQuery | TokensQuery | TextQuery | ContinuationQuery


@dataclass(frozen=True)
class Likelihood:
    """The answer to a LikelihoodQuery or TokensQuery.

    `nats`: the log-probability of each token that was asked for; `greedy`: whether each of them is
    the likeliest.
    """

    nats: tuple[float, ...]
    greedy: bool

    @property
    def total(self) -> float:
        """The log-probability of the whole text, in nats."""
        return sum(self.nats)


@dataclass(frozen=True)
class WrittenAnswer:
    """The answer to a TextQuery or ContinuationQuery.

    `text`: without what ended it; `ended`: whether the model, or a stop text, ended it; `nats`: the
    log-probability at temperature 1 of each token of the text; `tokens`: the ids that were written,
    those that spell a stop text included, without the one that ends a text, which is `end` (None
    where none came).
    """

    text: str
    ended: bool
    nats: tuple[float, ...]
    tokens: tuple[int, ...] = ()
    end: int | None = None


@dataclass(frozen=True)
class Unanswered:
    """In place of an answer: why there is none, as "too long: 2,100 tokens of 2,048"."""

    reason: str


NOT_FINITE = "the model's log-probabilities are not finite"
"""The reason of an item that found the model diverged."""

Response = Likelihood | WrittenAnswer | Unanswered


Pause = Callable[[], None]
"""Called between two parts of a long work, on all ranks at the same point."""


def no_pause() -> None:
    """A pause that goes on at once."""


class Respondent(Protocol):
    """A model that answers; collective over its layout's ranks, which all ask the same."""

    @property
    def chats(self) -> bool:
        """Whether questions pass through a chat template."""

    @property
    def longest(self) -> int:
        """Tokens of the longest text that it reads, the answer included."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without what a text begins with."""

    def responses(self, queries: Sequence[Query]) -> Iterator[tuple[int, Response]]:
        """Yield (index of the query, its answer) as they are ready, the same on all ranks.

        A query that the model cannot answer becomes Unanswered and loses no other.
        """


@runtime_checkable
class PausingRespondent(Respondent, Protocol):
    """A respondent that can be interrupted before its answers are there."""

    def paused_responses(
        self, queries: Sequence[Query], pause: Pause
    ) -> Iterator[tuple[int, Response]]:
        """As `responses`; calls `pause` between passes through the model, on all ranks alike.

        Replicas that write texts, each its own, call it between two batches of them. What `pause`
        raises ends it.
        """
