"""Generation from prompts at any parallel layout: the training schedule, one token a pass."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.data.tokenizer import Tokenizer
from trainer.errors import RecipeError
from trainer.evaluate.forward import ForwardPasses, PassRows, ReadLogits
from trainer.evaluate.growing_rows import GrowingRows
from trainer.evaluate.prefixes import shared_length, worth_a_stem
from trainer.evaluate.respondent import Pause, no_pause
from trainer.evaluate.sampling import Sampling, check_sampling, draws_of, sample
from trainer.model.transformer import LanguageModel
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe

PROMPT_TOKENS_TOGETHER, PROMPT_TOKENS_TOGETHER_ON_GPU = 2048, 16384
"""Tokens of prompts that pass through the model at a time, which bounds the memory."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer's ids that generation needs.

    `size`: the number of tokens (further rows of the embedding are padding); `start`: ids that a
    text begins with; `ends`: ids that end it; `blank`: the first id of a text that would be empty.
    """

    size: int
    start: tuple[int, ...]
    ends: frozenset[int]
    blank: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """The vocabulary of a tokenizer."""
        return cls(tokenizer.size, tokenizer.start, tokenizer.ends, tokenizer.end_of_text)


class Continuation(NamedTuple):
    """New token ids, without the one that ends the text; `ended`: whether that one came."""

    tokens: list[int]
    ended: bool


def _never(_tokens: list[int]) -> bool:
    return False


@dataclass
class Draft:
    """A text while it is written.

    `prompt`: what it goes on with, none empty; `room`: the most tokens that may follow; `draws`:
    what they are drawn with; `stops(tokens)`: whether the text is over with its newest token, the
    same on every rank. `tokens`: what is written, without the end token; `nats`: the
    log-probability of each at temperature 1, where it was asked for; `ended`: whether an end token,
    which is `end`, or `stops`, ended it; `failed`: whether log-probabilities that were asked for
    are not finite; `ends`: the end tokens, where they are not the vocabulary's.
    """

    prompt: Sequence[int]
    room: int
    draws: torch.Generator
    stops: Callable[[list[int]], bool] = _never
    tokens: list[int] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    ended: bool = False
    failed: bool = False
    ends: frozenset[int] | None = None
    end: int | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is written."""
        return self.ended or self.failed or len(self.tokens) >= self.room

    def take(self, token: int, nats: float, ends: frozenset[int]) -> None:
        """Add the next token, unless it ends the text."""
        self.ended = token in (ends if self.ends is None else self.ends)
        self.end = token if self.ended else None
        self.failed = not isfinite(nats)
        if not self.over:
            self.tokens.append(token)
            self.nats.append(nats)
            self.ended = self.stops(self.tokens)


class Generator:
    """Generates tokens. Collective: every rank constructs and calls it, with the same prompts.

    What all prompts of a batch begin with is read once, where it is long, and rows whose text is
    over leave the batch.

    `chunks`: this rank's part of the model; `recipe`: the model's sizes and sequence length;
    `layout`: the ranks' groups; `vocabulary`: of the model's tokenizer; `longest`: tokens of the
    longest text, prompt included (None: the recipe's sequence length); `apart`: each data-parallel
    replica is given prompts of its own (not under ZeRO-3, whose replicas share the weights).
    """

    def __init__(
        self,
        chunks: list[LanguageModel],
        recipe: Recipe,
        layout: Layout,
        vocabulary: Vocabulary,
        longest: int | None = None,
        apart: bool = False,
    ) -> None:
        self._forward = ForwardPasses(chunks, recipe, layout)
        self._layout = layout
        self._vocabulary = vocabulary
        self._longest = longest or recipe.sequence_length
        self._rows = recipe.model.vocab or vocabulary.size
        self._apart = apart
        on_gpu = layout.device.type == "cuda"
        self._budget = PROMPT_TOKENS_TOGETHER_ON_GPU if on_gpu else PROMPT_TOKENS_TOGETHER

    def __call__(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
        """The new token ids of each prompt, which `started` begins; all pass through together."""
        started = [self.started(prompt) for prompt in prompts]
        return [one.tokens for one in self.continued(started, sampling, max(len(prompts), 1))]

    def continued(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, together: int
    ) -> Iterator[Continuation]:
        """Yield each prompt's continuation, in order; nothing is put before a prompt.

        A text ends at an end token, after `sampling.tokens`, or where it and its prompt reach the
        model's longest text. `together`: prompts that pass through the model at a time. More are
        faster; with 1 nothing that stands beside a prompt can change its text, where otherwise sums
        in another order may decide between tokens that are nearly as likely. Raises RecipeError
        for a prompt that leaves no room, before any text, and for impossible sampling. Every rank
        must consume all.
        """
        self._check(prompts)
        copies: Counter[tuple[int, ...]] = Counter()
        for first in range(0, len(prompts), together):
            drafts = []
            for prompt in prompts[first : first + together]:
                draws = draws_of(sampling.seed, copies[tuple(prompt)])
                drafts.append(Draft(prompt, self.room(prompt, sampling.tokens), draws))
                copies[tuple(prompt)] += 1
            self.finish(drafts, sampling)
            for draft in drafts:
                yield Continuation(draft.tokens, draft.ended)

    def started(self, prompt: Sequence[int]) -> list[int]:
        """The prompt with the start of a text before it, or the blank token where it is empty."""
        return [*self._vocabulary.start, *prompt] or [self._vocabulary.blank]

    @property
    def longest(self) -> int:
        """The most tokens that a prompt may have, its start included."""
        return self._longest - 1

    @property
    def rows(self) -> int:
        """The embedding's rows: ids from this number on cannot be read."""
        return self._rows

    def room(self, prompt: Sequence[int], tokens: int) -> int:
        """How many of `tokens` may follow a prompt."""
        return max(min(tokens, self._longest - len(prompt)), 0)

    def stream(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Yield the new token ids of one prompt, without the one that ends the text.

        As `continued`, but nothing is put before the prompt. Every rank must consume all tokens.
        """
        self._check([prompt])
        draft = Draft(prompt, self.room(prompt, sampling.tokens), draws_of(sampling.seed, 0))
        for _ in self._steps([draft], sampling):
            if not draft.ended:
                yield draft.tokens[-1]

    def finish(
        self,
        drafts: Sequence[Draft],
        sampling: Sampling,
        nats: bool = False,
        pause: Pause = no_pause,
    ) -> None:
        """Write all drafts to their end, together; `nats`: with their log-probabilities.

        `pause` is called before every pass through the model.
        """
        for _ in self._steps(drafts, sampling, nats, pause):
            pass

    def fault(self, prompt: Sequence[int]) -> str:
        """Why a prompt cannot be read, in words; empty where it can."""
        if not prompt:
            return "no token stands before the text"
        if len(prompt) > self.longest:
            return f"too long: {len(prompt):,} tokens before the text, of {self.longest:,}"
        if (largest := max(prompt)) >= self._rows or min(prompt) < 0:
            return f"token {largest}, and the model's embedding has {self._rows:,} rows"
        return ""

    def _check(self, prompts: Sequence[Sequence[int]]) -> None:
        longest = max(map(len, prompts), default=0)
        if longest > self.longest:
            raise RecipeError(
                f"a prompt has {longest} tokens, its start included, and this model reads "
                f"{self.longest} at most; shorten the prompt"
            )
        # A tokenizer may have got tokens that its model has no row for.
        if (largest := max(map(max, filter(None, prompts)), default=0)) >= self._rows:
            raise RecipeError(
                f"a prompt holds token {largest}, and the model's embedding has {self._rows} rows;"
                " leave it out"
            )

    @torch.no_grad()
    def _steps(
        self,
        drafts: Sequence[Draft],
        sampling: Sampling,
        nats: bool = False,
        pause: Pause = no_pause,
    ) -> Iterator[None]:
        """Write the next token of every draft that is not over, until all are: a step each."""
        check_sampling(sampling.temperature, sampling.top_k, sampling.top_p)
        live = [draft for draft in drafts if not draft.over]
        if not live:
            return
        batches = self._batches(live, pause)
        logits = self._read_prompts(batches, pause)
        while True:
            chosen, known = self._choose(logits, live, sampling, nats)
            for draft, token, likelihood in zip(live, chosen.tolist(), known, strict=True):
                if not draft.over:
                    draft.take(token, likelihood, self._vocabulary.ends)
            yield
            writing = [row for row, draft in enumerate(live) if not draft.over]
            if not writing:
                return
            if len(batches) == 1 and len(writing) <= len(live) // 2:
                batches[0].select(writing)
                live, chosen = [live[row] for row in writing], chosen[writing]
            rows = sum(map(len, batches))
            pause()
            padded = torch.nn.functional.pad(chosen, (0, rows - len(chosen)))
            parts = zip(batches, padded.chunk(len(batches)), strict=True)
            logits = self._last_logits([batch.next_pass(tokens) for batch, tokens in parts])

    def _batches(self, drafts: Sequence[Draft], pause: Pause) -> list[GrowingRows]:
        """The prompts' rows: one batch, or as many micro-batches as the schedule takes at a time;
        behind a stem that is read here, where all begin alike.
        """
        prompts = [list(draft.prompt) for draft in drafts]
        room = max(draft.room for draft in drafts)
        device, multiple = self._layout.device, self._forward.multiple
        count = self._forward.together
        stem = 0
        if count == 1 and len(prompts) > 1 and not self._forward.rotary.by_length:
            # One token of each is left, whose logits are the first that are asked for.
            stem = min(shared_length(min(prompts), max(prompts)), min(map(len, prompts)) - 1)
        if worth_a_stem(stem, len(prompts)):
            one = GrowingRows([prompts[0][:stem]], stem, 0, device, multiple)
            for part in one.prompt_passes(self._budget):
                pause()
                self._forward.run([(part, *self._nothing())])
            longest = max(map(len, prompts))
            return [GrowingRows(prompts, longest, room, device, multiple, one.key_values)]
        rows = -(-len(prompts) // count)
        prompts += [prompts[0]] * (rows * count - len(prompts))
        longest = max(map(len, prompts))
        return [
            GrowingRows(prompts[first : first + rows], longest, room, device, multiple)
            for first in range(0, len(prompts), rows)
        ]

    def _read_prompts(self, batches: list[GrowingRows], pause: Pause) -> Tensor | None:
        """Run the prompts; returns the logits behind them, as `_last_logits`."""
        # One by one: making a pass says where its columns go, and the one before must have run.
        for part in zip(*(batch.prompt_passes(self._budget) for batch in batches), strict=True):
            pause()
            if all(batch.read for batch in batches):
                return self._last_logits(part)
            self._forward.run([(rows, *self._nothing()) for rows in part])
        raise AssertionError("a prompt has a token")

    def _nothing(self) -> tuple[Tensor, ReadLogits]:
        """No place to read logits at."""
        return torch.zeros(0, dtype=torch.int64, device=self._layout.device), self._whole

    def _last_logits(self, passes: Sequence[PassRows]) -> Tensor | None:
        """Logits after the last column, fp32 [rows, vocabulary], where this rank has it on the
        last stage; elsewhere None.
        """
        rows, columns = passes[0].tokens.shape
        last = int(self._forward.own_places(rows, columns)[-1])
        places, read = self._nothing()
        if last >= 0:
            places = torch.arange(last, last + rows, device=self._layout.device)
        found = self._forward.run([(one, places, read) for one in passes])
        if not found or last < 0:
            return None
        return found[0] if len(found) == 1 else torch.cat(found)

    def _whole(self, logits: Tensor, first: int) -> Tensor:
        """Logits over the whole vocabulary, fp32 [block, vocabulary], from this rank's."""
        logits, tensor = logits.float().contiguous(), self._layout.tensor
        if tensor.size == 1:
            return logits
        parts = [torch.empty_like(logits) for _ in range(tensor.size)]
        dist.all_gather(parts, logits, group=tensor.group)
        return torch.cat(parts, dim=-1)

    def _choose(
        self, logits: Tensor | None, drafts: Sequence[Draft], sampling: Sampling, nats: bool
    ) -> tuple[Tensor, list[float]]:
        """The next token of each draft, int64 [drafts], and its log-probability, or 0.

        Drawn by one rank, and broadcast to the others.
        """
        layout = self._layout
        # Of the context ranks the first holds the last token.
        chooses = layout.last_stage and layout.tensor.rank == layout.context.rank == 0
        if not self._apart:
            chooses = chooses and layout.data.rank == 0
        both = torch.zeros(2, len(drafts), dtype=torch.float64, device=layout.device)
        if chooses:
            assert logits is not None
            logits = logits[: len(drafts)]
            known = logits[:, : self._vocabulary.size]
            settings = sampling.temperature, sampling.top_k, sampling.top_p
            if nats:
                mass = logits.logsumexp(dim=-1)
                known = known.masked_fill(~mass.isfinite()[:, None], 0.0)
            chosen = sample(known, *settings, [draft.draws for draft in drafts])
            both[0] = chosen
            if nats:
                both[1] = logits.gather(1, chosen[:, None])[:, 0] - mass
        self._broadcast(both)
        return both[0].long(), both[1].tolist()

    def _broadcast(self, chosen: Tensor) -> None:
        """Give what one rank chose to the others of the job, or where `apart` of its replica."""
        layout = self._layout
        if not self._apart:
            if layout.world_size > 1:
                first = layout.world_size - layout.world_size // layout.pipeline.size
                dist.broadcast(chosen, src=first)
            return
        if layout.model.size > 1:
            first = layout.tensor.size * (layout.pipeline.size - 1)
            dist.broadcast(chosen, group=layout.model.group, group_src=first)
        if layout.context.size > 1:
            dist.broadcast(chosen, group=layout.context.group, group_src=0)
