"""A model as a Respondent: what suites ask is encoded, batched, and put to it at any layout."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.data.tokenizer import Tokenizer
from trainer.errors import LyceumError
from trainer.evaluate.generate import Draft, Generator, Vocabulary
from trainer.evaluate.opened import OpenedModel
from trainer.evaluate.prompts import PROMPT, PromptEncoder
from trainer.evaluate.respondent import (
    NOT_FINITE,
    ContinuationQuery,
    Pause,
    Query,
    Response,
    TextQuery,
    TokensQuery,
    Unanswered,
    WrittenAnswer,
    no_pause,
)
from trainer.evaluate.sampling import Sampling, draws_of
from trainer.evaluate.scoring import TokenRequest, TokenScorer
from trainer.model.transformer import LanguageModel
from trainer.parallel.agreement import Ranks
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe

TEXTS_TOGETHER, CACHED_TOKENS = 64, 8192
"""Texts that are written together, and the tokens of theirs whose keys are held, at most."""

LEFT = 16
"""Tokens of a prompt that what follows it is decoded behind."""

_MESSAGE = re.compile(r"(message \d+ \(\w+\)): ")


@dataclass(frozen=True)
class _Asked:
    """A query for text whose prompt is encoded."""

    number: int
    query: TextQuery | ContinuationQuery
    ids: Sequence[int]

    @property
    def sampling(self) -> Sampling:
        """How its tokens are drawn; how many, and the seed, are each draft's own."""
        query = self.query
        return Sampling(temperature=query.temperature, top_k=query.top_k, top_p=query.top_p)


class ModelRespondent:
    """A Respondent over a model: a checkpoint's, or that of a run in progress, at any layout.

    Collective: every rank constructs it and asks the same; all get the same answers, each consumed
    to the end. The prompt's form is `PromptEncoder`'s. A query becomes Unanswered where it has more
    tokens than the model reads, holds an id that the embedding has no row for, asks for an empty
    text, spells a special token in a chat, is refused by the template, or where the model's
    log-probabilities are not finite. Data-parallel replicas each answer a part of the queries
    (under ZeRO-3, whose replicas share the weights, all do the same).

    `chunks`: this rank's part of the model; `recipe`: its sizes and template; `layout`: the ranks'
    groups; `longest`: tokens of the longest text that it reads (None: the recipe's sequence
    length). Raises RecipeError for a chat template that cannot be used.
    """

    def __init__(
        self,
        chunks: list[LanguageModel],
        recipe: Recipe,
        layout: Layout,
        tokenizer: Tokenizer,
        longest: int | None = None,
    ) -> None:
        self._encoder = PromptEncoder(tokenizer, recipe)
        self._tokenizer = tokenizer
        self._layout = layout
        self._replicas = 1 if recipe.zero.stage == 3 else layout.data.size
        vocabulary = Vocabulary.of(self._encoder.speaking)
        apart = self._replicas > 1
        self.score = TokenScorer(chunks, recipe, layout, longest)
        self.write = Generator(chunks, recipe, layout, vocabulary, longest, apart)

    @classmethod
    def of(cls, model: OpenedModel) -> "ModelRespondent":
        """The respondent of an opened checkpoint."""
        return cls(model.chunks, model.recipe, model.layout, model.tokenizer, model.longest)

    @property
    def chats(self) -> bool:
        """Whether questions pass through a chat template."""
        return self._encoder.chats

    @property
    def longest(self) -> int:
        """Tokens of the longest text that it reads, the answer included."""
        return self.score.longest

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without what a text begins with."""
        return self._tokenizer.encode(text)

    def responses(self, queries: Sequence[Query]) -> Iterator[tuple[int, Response]]:
        """Yield (index of the query, its answer) as they are ready, the same on all ranks."""
        return self.paused_responses(queries, no_pause)

    def paused_responses(
        self, queries: Sequence[Query], pause: Pause
    ) -> Iterator[tuple[int, Response]]:
        """As `responses`; `pause` is called between two passes through the model.

        Where replicas write texts, each its own, it is only called between two batches of them.
        """
        requests: dict[int, TokenRequest] = {}
        asked: list[_Asked] = []
        for number, query in enumerate(queries):
            try:
                if isinstance(query, TextQuery):
                    asked.append(_Asked(number, query, self._encoder.ids(query.prompt)))
                elif isinstance(query, ContinuationQuery):
                    asked.append(_Asked(number, query, query.prompt))
                elif isinstance(query, TokensQuery):
                    requests[number] = query.tokens[: query.given], query.tokens[query.given :]
                else:
                    requests[number] = self._encoder.pair(query.prompt, query.text)
            except LyceumError as error:
                yield number, Unanswered(_reason(str(error).removeprefix(f"{PROMPT}: ")))
        numbers = list(requests)
        for index, likelihood in self.score.scored(list(requests.values()), pause):
            yield numbers[index], likelihood
        yield from self._written(asked, pause)

    def _written(self, asked: list[_Asked], pause: Pause) -> Iterator[tuple[int, Response]]:
        """The texts: batches of like length, of which each replica takes its own."""
        able = []
        for one in asked:
            if reason := self.write.fault(one.ids):
                yield one.number, Unanswered(reason)
            elif one.query.tokens <= 0:
                yield one.number, WrittenAnswer("", False, (), ())
            else:
                able.append(one)
        batches = self._batches(able)
        own, ranks = self._layout.data.rank % self._replicas, Ranks(self._layout.hosts)
        reports = self._layout.model.rank == self._layout.context.rank == 0
        reports = reports and self._layout.data.rank < self._replicas
        within = pause if self._replicas == 1 else no_pause
        for first in range(0, len(batches), self._replicas):
            pause()
            found = [
                [one.number, *self._answer(one, draft)]
                for batch in batches[first + own : first + own + 1]
                for one, draft in self._drafted(batch, within)
            ]
            for part in ranks.all_gather(found if reports else []):
                for number, *answer in part:
                    yield number, _response(answer)

    def _batches(self, asked: list[_Asked]) -> list[list[_Asked]]:
        """Queries that are answered together: one temperature, lengths alike, bounded memory."""

        def order(one: _Asked) -> tuple[float, int, float, int, Sequence[int]]:
            drawn = one.sampling
            settings = drawn.temperature, drawn.top_k, drawn.top_p
            return *settings, -len(one.ids) - one.query.tokens, tuple(one.ids)

        batches: list[list[_Asked]] = []
        rows = 0
        for one in sorted(asked, key=order):
            begins = not batches or len(batches[-1]) >= rows
            if begins or batches[-1][0].sampling != one.sampling:
                batches.append([])
                rows = CACHED_TOKENS // (len(one.ids) + one.query.tokens)
                rows = min(max(rows, 1), TEXTS_TOGETHER)
            batches[-1].append(one)
        return batches

    def _drafted(self, batch: list[_Asked], pause: Pause) -> Iterator[tuple[_Asked, Draft]]:
        drafts = [
            Draft(
                one.ids,
                self.write.room(one.ids, one.query.tokens),
                draws_of(one.query.seed, 0),
                _Stops(self._stops(one.query), self._text_of(one)),
                ends=self._tokenizer.ends if isinstance(one.query, ContinuationQuery) else None,
            )
            for one in batch
        ]
        self.write.finish(drafts, batch[0].sampling, nats=True, pause=pause)
        yield from zip(batch, drafts, strict=True)

    def _stops(self, query: TextQuery | ContinuationQuery) -> tuple[str, ...]:
        stops = tuple(stop for stop in query.stop if stop)
        if isinstance(query, ContinuationQuery):
            return stops
        return stops + self._encoder.stops(query.prompt)

    def _text_of(self, one: _Asked) -> Callable[[Sequence[int]], str]:
        # The last few decide how what follows is decoded, and cost little at every token.
        ids, query = one.ids[-LEFT:], one.query
        if isinstance(query, ContinuationQuery):
            return lambda tokens: self._tokenizer.decode_behind(ids, tokens)
        return lambda tokens: self._encoder.text(query.prompt, ids, tokens)

    def _answer(self, one: _Asked, draft: Draft) -> list[Any]:
        """(text, whether it ended, nats, tokens, end token) as JSON; or (why there is none,)."""
        if draft.failed:
            return [NOT_FINITE]
        text_of = self._text_of(one)
        text = text_of(draft.tokens)
        found = [at for stop in self._stops(one.query) if (at := text.find(stop)) >= 0]
        count = len(draft.tokens)
        if found:
            text = text[: min(found)]
            # The tokens of the text: those without which it is not whole.
            while count and len(text_of(draft.tokens[: count - 1])) >= len(text):
                count -= 1
        return [text, draft.ended, draft.nats[:count], draft.tokens, draft.end]


def _reason(line: str) -> str:
    """Why a prompt cannot be asked; items are counted by what stands before the first colon."""
    message = _MESSAGE.match(line)
    if message is None:
        return line
    return f"{message[1]} cannot be put to the model: {line[message.end() :]}"


def _response(answer: list[Any]) -> Response:
    if len(answer) == 1:
        return Unanswered(answer[0])
    text, ended, nats, tokens, end = answer
    return WrittenAnswer(text, ended, tuple(nats), tuple(tokens), end)


class _Stops:
    """Whether the newest token completes one of the texts at which an answer ends."""

    def __init__(self, stops: tuple[str, ...], text_of: Callable[[Sequence[int]], str]) -> None:
        self._stops = stops
        self._text_of = text_of
        # A token has a byte at least, or is no part of a text.
        self._reach = max((len(stop.encode()) for stop in stops), default=0) + 4

    def __call__(self, tokens: Sequence[int]) -> bool:
        """Of the whole text, but only where its end looks like it."""
        if not self._stops or not self._in(tokens[-self._reach :]):
            return False
        return len(tokens) <= self._reach or self._in(tokens)

    def _in(self, tokens: Sequence[int]) -> bool:
        text = self._text_of(tokens)
        return any(stop in text for stop in self._stops)
