"""Generation from prompts at any parallel layout: the training schedule, one token a pass."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.data.tokenizer import Tokenizer
from trainer.errors import RecipeError
from trainer.evaluate.padded_rows import PaddedRows
from trainer.evaluate.sampling import Sampling, check_sampling, draws_of, sample
from trainer.model.attention import CachedSequence
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import SequenceLayout, context_slice
from trainer.model.transformer import LanguageModel
from trainer.parallel.layout import Layout
from trainer.parallel.megatron import evaluating
from trainer.parallel.schedule import MicroBatches, forward_backward
from trainer.recipe import Recipe


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


class Generator:
    """Generates tokens. Collective: every rank constructs and calls it, with the same prompts.

    With sequence or context parallelism a rank has only part of the sequence, which a cache of
    single tokens does not fit: the whole text then runs through the model for every token.

    `chunks`: this rank's part of the model; `recipe`: the model's sizes and sequence length;
    `layout`: the ranks' groups; `vocabulary`: of the model's tokenizer; `longest`: tokens of the
    longest text, prompt included (None: the recipe's sequence length).
    """

    def __init__(
        self,
        chunks: list[LanguageModel],
        recipe: Recipe,
        layout: Layout,
        vocabulary: Vocabulary,
        longest: int | None = None,
    ) -> None:
        self._chunks = chunks
        self._layout = layout
        self._vocabulary = vocabulary
        self._ends = torch.tensor(sorted(vocabulary.ends), device=layout.device)
        self._longest = longest or recipe.sequence_length
        self._rows = recipe.model.vocab or vocabulary.size
        self._rotary = rotary_embedding(recipe).to(layout.device)
        sizes = recipe.parallel
        self._use_cache = not sizes.sequence and sizes.context == 1
        # What a sequence's length must be a multiple of: its chunks over the context ranks, and
        # each rank's part over the tensor ranks.
        chunked = 2 * sizes.context if sizes.context > 1 else 1
        self._multiple = chunked * (sizes.tensor if sizes.sequence else 1)
        # The interleaved schedule takes micro-batches in multiples of the pipeline's stages.
        self._together = layout.pipeline.size if len(chunks) > 1 else 1

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
            part, draws = prompts[first : first + together], []
            for prompt in part:
                draws.append(draws_of(sampling.seed, copies[tuple(prompt)]))
                copies[tuple(prompt)] += 1
            columns = list(self._columns(part, sampling, draws))
            rows = torch.stack(columns, dim=1).tolist() if columns else [[] for _ in part]
            for prompt, row in zip(part, rows, strict=True):
                yield self._until_end(row[: self._room(prompt)])

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

    def stream(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Yield the new token ids of one prompt, without the one that ends the text.

        As `continued`, but nothing is put before the prompt. Every rank must consume all tokens.
        """
        self._check([prompt])
        for column in self._columns([prompt], sampling, [draws_of(sampling.seed, 0)]):
            token = int(column[0])
            if token in self._vocabulary.ends:
                return
            yield token

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

    def _room(self, prompt: Sequence[int]) -> int:
        """The most tokens that may follow a prompt."""
        return self._longest - len(prompt)

    @torch.no_grad()
    def _columns(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        draws: Sequence[torch.Generator],
    ) -> Iterator[Tensor]:
        """Yield the next token of every complete prompt, int64 [prompts], until all texts ended.

        A row's tokens after its end token, or beyond its room, are meaningless.
        """
        check_sampling(sampling.temperature, sampling.top_k, sampling.top_p)
        if not prompts or sampling.tokens <= 0:
            return
        batches = self._micro_batches(prompts)
        rows, written = len(prompts), 0
        rooms = torch.tensor([self._room(p) for p in prompts], device=self._layout.device)
        ended = torch.zeros(rows, dtype=torch.bool, device=self._layout.device)
        while True:
            logits = self._last_logits(batches)
            chosen = self._choose(logits, rows, sampling, draws)
            written += 1
            yield chosen
            ended |= torch.isin(chosen, self._ends) | (rooms <= written)
            if written == sampling.tokens or bool(ended.all()):
                return
            padded = torch.nn.functional.pad(
                chosen, (0, len(batches) * len(batches[0].tokens) - rows)
            )
            for batch, tokens in zip(batches, padded.chunk(len(batches)), strict=True):
                batch.append(tokens)

    def _micro_batches(self, prompts: Sequence[Sequence[int]]) -> list[PaddedRows]:
        started = [list(prompt) for prompt in prompts]
        rows = -(-len(started) // self._together)
        started += [started[0]] * (rows * self._together - len(started))
        length = max(len(prompt) for prompt in started)
        parts = [started[first : first + rows] for first in range(0, len(started), rows)]
        return [PaddedRows(part, length, self._layout.device) for part in parts]

    def _last_logits(self, batches: list[PaddedRows]) -> Tensor | None:
        """Logits after the last token, fp32 [rows, vocabulary]; None on all but the last stage."""
        passes = [self._pass(batch) for batch in batches]
        length = passes[0][1].length * self._layout.context.size
        micro_batches = MicroBatches(passes, len(passes), len(batches[0].tokens), length)
        with evaluating(self._chunks):
            reports = forward_backward(
                self._forward_step, micro_batches, self._chunks, forward_only=True
            )
        if not reports:
            return None
        return torch.cat([report["logits"] for report in reports])

    def _pass(self, batch: PaddedRows) -> tuple[Tensor, SequenceLayout]:
        """This rank's input tokens, int64 [rows, columns], and their layout in their sequences."""
        if self._use_cache:
            total = batch.tokens.shape[1]
            columns = torch.arange(total, device=batch.tokens.device)
            layout = CachedSequence(
                batch.positions, columns[batch.cached :], self._rotary, batch.lengths
            )
            layout.cache = batch.cache
            tokens = batch.tokens[:, batch.cached :]
            batch.cached = total
            return tokens, layout
        padding = (-batch.tokens.shape[1] % self._multiple, 0)
        tokens = torch.nn.functional.pad(batch.tokens, padding)
        positions = torch.nn.functional.pad(batch.positions, padding)
        lengths = torch.nn.functional.pad(batch.lengths, padding)
        context = self._layout.context
        own = context_slice(tokens.shape[1], context.rank, context.size).to(tokens.device)
        whole = SequenceLayout.whole(
            positions, self._rotary, context.rank, context.size, lengths=lengths
        )
        return tokens[:, own], whole

    def _forward_step(
        self, passes: Iterator[tuple[Tensor, SequenceLayout]], chunk: Any
    ) -> tuple[Tensor, Any]:
        tokens, layout = next(passes)
        return chunk(tokens, layout), self._report

    def _report(self, output: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The schedule's loss function, here without a loss: reports the last token's logits.

        `output`: [rows, columns, vocabulary / tensor ranks]; reported fp32 [rows, vocabulary].
        """
        last = output[:, -1].float().contiguous()  # [rows, vocabulary / tensor]
        tensor = self._layout.tensor
        if tensor.size > 1:
            parts = [torch.empty_like(last) for _ in range(tensor.size)]
            dist.all_gather(parts, last, group=tensor.group)
            last = torch.cat(parts, dim=-1)
        return last.new_zeros(()), torch.ones((), dtype=torch.int), {"logits": last}

    def _choose(
        self,
        logits: Tensor | None,
        rows: int,
        sampling: Sampling,
        draws: Sequence[torch.Generator],
    ) -> Tensor:
        """The next token of each row, int64 [rows], drawn by one rank and broadcast to all."""
        layout = self._layout
        # The first rank of the last stage; of the context ranks the first holds the last token.
        chooser = layout.world_size - layout.world_size // layout.pipeline.size
        chosen = torch.zeros(rows, dtype=torch.int64, device=layout.device)
        if layout.rank == chooser:
            assert logits is not None
            known = logits[:rows, : self._vocabulary.size]
            settings = sampling.temperature, sampling.top_k, sampling.top_p
            chosen = sample(known, *settings, draws).contiguous()
        dist.broadcast(chosen, src=chooser)
        return chosen

    def _until_end(self, row: list[int]) -> Continuation:
        ends = self._vocabulary.ends
        stop = next((index for index, token in enumerate(row) if token in ends), len(row))
        return Continuation(row[:stop], stop < len(row))
