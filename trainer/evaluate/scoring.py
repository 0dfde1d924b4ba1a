"""How likely texts of token ids are, at any layout; what many of them begin with is read once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from trainer.evaluate.forward import ForwardPasses, PassRows
from trainer.evaluate.prefixes import PlannedPass, PrefixPlan
from trainer.evaluate.respondent import NOT_FINITE, Likelihood, Pause, Unanswered, no_pause
from trainer.model.key_values import BranchKeyValues, StemSegment
from trainer.model.transformer import LanguageModel
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe

TOKENS_TOGETHER = 2048
"""Tokens of a pass at most; more are no faster on two cores, and take memory."""
TOKENS_TOGETHER_ON_GPU = 16384
ROUND_PASSES = 4
"""Passes of each replica between two exchanges of what they found."""

TokenRequest = tuple[Sequence[int], Sequence[int]]
"""The ids of what stands before, one at least, and the ids whose likelihood is asked for."""


@dataclass(frozen=True)
class _Text:
    """A request that can be answered: `read`, the tokens that enter the model, all but the last;
    `asked`: the first of their positions that is asked for; `wanted`: what stands behind each of
    these; `slot`: where its first answer goes.
    """

    number: int
    read: tuple[int, ...]
    asked: int
    wanted: tuple[int, ...]
    slot: int = 0


class TokenScorer:
    """Gives the log-probability of each token of continuations, in nats.

    Collective: every rank constructs and calls it, with the same requests. Shared beginnings are
    read once (`prefixes`), of what is read only the logits that are asked for are made, and
    data-parallel replicas each take a part (under ZeRO-3, whose replicas share the weights, all
    do the same). Equal at every layout up to rounding.

    `chunks`: this rank's part of the model; `recipe`: the model's sizes; `layout`: the ranks'
    groups; `longest`: tokens of the longest text, continuation included (None: the recipe's
    sequence length).
    """

    def __init__(
        self,
        chunks: list[LanguageModel],
        recipe: Recipe,
        layout: Layout,
        longest: int | None = None,
    ) -> None:
        self._layout = layout
        self._forward = ForwardPasses(chunks, recipe, layout)
        assert recipe.model.vocab is not None, "the model is built"
        self._rows = recipe.model.vocab
        self.longest = longest or recipe.sequence_length
        on_gpu = layout.device.type == "cuda"
        self._budget = TOKENS_TOGETHER_ON_GPU if on_gpu else TOKENS_TOGETHER
        self._replicas = 1 if recipe.zero.stage == 3 else layout.data.size

    def scored(
        self, requests: Sequence[TokenRequest], pause: Pause = no_pause
    ) -> Iterator[tuple[int, Likelihood | Unanswered]]:
        """Yield (index of a request, its answer) as they are ready, the same on all ranks.

        Unanswered: a request longer than the model reads, without a token before or in it, with an
        id that the embedding has no row for, or whose log-probabilities are not finite. Every rank
        must consume all. `pause` is called before the passes between two exchanges.
        """
        texts = []
        for number, (context, continuation) in enumerate(requests):
            if reason := self.fault(context, continuation):
                yield number, Unanswered(reason)
                continue
            whole = (*context, *continuation)
            texts.append(_Text(number, whole[:-1], len(context) - 1, tuple(continuation)))
        rotary = self._forward.rotary
        # Keys that are turned by the length of their text cannot be another text's.
        alone = [t for t in texts if rotary.by_length and len(t.read) > rotary.original_context]
        apart = {text.number for text in alone}
        together = [text for text in texts if text.number not in apart]
        for part in ([together] if together else []) + [[text] for text in alone]:
            length = len(part[0].read) if part[0].number in apart else None
            yield from self._scored(part, length, pause)

    def fault(self, context: Sequence[int], continuation: Sequence[int]) -> str:
        """Why a request cannot be answered, in words; empty where it can."""
        tokens = len(context) + len(continuation) - 1  # the last one is not read
        if not context or not continuation:
            return f"no token {'is asked for' if context else 'stands before it'}"
        if tokens > self.longest:
            return f"too long: {tokens:,} tokens of {self.longest:,}"
        largest = max(max(context), max(continuation))
        if largest >= self._rows or min(min(context), min(continuation)) < 0:
            return f"token {largest}, and the model's embedding has {self._rows:,} rows"
        return ""

    def _scored(
        self, texts: list[_Text], length: int | None, pause: Pause
    ) -> Iterator[tuple[int, Likelihood | Unanswered]]:
        """As `scored`; `length`: of these texts, where the rotation follows from it."""
        texts = sorted(texts, key=lambda text: text.read)
        slots = np.cumsum([0, *(len(text.wanted) for text in texts)])
        parts = [
            _Part(texts[first:last], slots[first:last], self._budget)
            for first, last in pairwise(self._borders(texts))
        ]
        found = np.full((slots[-1], 2), np.nan)
        missing = np.diff(slots)
        every = ROUND_PASSES if len(parts) > 1 else 1
        runs = [_Run(part, self._forward, self._layout, length) for part in parts]
        own = 0 if self._replicas == 1 else self._layout.data.rank
        for first in range(0, max(len(part.planned) for part in parts), every):
            pause()
            answered = [part.slots_of(first, first + every) for part in parts]
            values = torch.zeros(sum(map(len, answered)), 2, dtype=torch.float64)
            before = sum(map(len, answered[:own]))
            # Of the ranks that know an answer only one reports it.
            silent = self._replicas == 1 and self._layout.data.rank > 0
            part_values = runs[own].run(first, first + every)
            if part_values is not None and self._layout.tensor.rank == 0 and not silent:
                values[before : before + len(answered[own])] = part_values
            if self._layout.world_size > 1:
                dist.all_reduce(values, group=self._layout.hosts)
            which = np.concatenate(answered)
            found[which] = values.numpy()
            owners = np.searchsorted(slots, which, side="right") - 1
            for text, count in zip(*np.unique(owners, return_counts=True), strict=True):
                missing[text] -= count
                if missing[text] == 0:
                    answer = found[slots[text] : slots[text + 1]]
                    yield texts[text].number, _likelihood(answer)

    def _borders(self, texts: list[_Text]) -> list[int]:
        """Where each replica's texts begin, and the end: stretches that cost about the same."""
        plan = PrefixPlan([text.read for text in texts], self._budget)
        costs = np.cumsum([len(text.read) for text in texts] - plan.shared)
        parts = min(self._replicas, len(texts))
        targets = costs[-1] * np.arange(1, parts) / parts
        borders = [0, *(np.searchsorted(costs, targets) + 1).tolist(), len(texts)]
        # A replica without any text does its share of the exchanges alone.
        return [*borders, *[len(texts)] * (self._replicas - parts)]


def _likelihood(values: np.ndarray) -> Likelihood | Unanswered:
    """From [tokens, 2]: nats, and whether the token is the likeliest."""
    nats = values[:, 0].tolist()
    if not all(map(isfinite, nats)):
        return Unanswered(NOT_FINITE)
    return Likelihood(tuple(nats), bool(values[:, 1].all()))


class _Part:
    """A replica's texts, sorted, and the passes over them.

    `slots`: where each text's first answer goes among those of all replicas.
    """

    def __init__(self, texts: list[_Text], slots: np.ndarray, budget: int) -> None:
        self.texts = texts
        self.slots = slots
        plan = PrefixPlan([text.read for text in texts], budget)
        self.planned = list(plan.passes())
        self._targets = [self._targets_of(planned) for planned in self.planned]

    def targets(self, number: int) -> list[tuple[int, int, int, int]]:
        """What a pass answers: (row, column, id, slot) of each token that is asked for there."""
        return self._targets[number]

    def slots_of(self, first: int, last: int) -> np.ndarray:
        """The slots that these passes answer, in the order in which they answer them."""
        slots = [target[3] for targets in self._targets[first:last] for target in targets]
        return np.array(slots, dtype=np.int64)

    def _targets_of(self, planned: PlannedPass) -> list[tuple[int, int, int, int]]:
        targets = []
        if planned.extends:
            first, last = planned.depth, planned.depth + planned.columns
            for number in planned.texts:
                text, slot = self.texts[number], int(self.slots[number])
                for place in range(max(first, text.asked), min(last, len(text.read))):
                    index = place - text.asked
                    targets.append((0, place - first, text.wanted[index], slot + index))
        for row, packed in enumerate(() if planned.extends else planned.rows):
            begin = 0
            for branch in packed.branches:
                text, slot = self.texts[branch.text], int(self.slots[branch.text])
                new = range(begin, begin + len(text.read) - branch.shared)
                columns = (*branch.path, *new)
                for place in range(max(planned.depth, text.asked), len(text.read)):
                    index = place - text.asked
                    column = columns[place - planned.depth]
                    targets.append((row, column, text.wanted[index], slot + index))
                begin = new.stop
        return sorted(targets)


class _Run:
    """Carries out the passes of a part in their order, with the stem that they branch off."""

    def __init__(
        self, part: _Part, forward: ForwardPasses, layout: Layout, length: int | None
    ) -> None:
        self._part = part
        self._forward = forward
        self._layout = layout
        self._length = length
        self._stem: list[StemSegment] = []

    def run(self, first: int, last: int) -> Tensor | None:
        """The answers of these passes, fp64 [their slots, 2], on the last stage; elsewhere None.

        Of other context ranks' tokens they are 0.
        """
        last = min(last, len(self._part.planned))
        found = [self._run(number) for number in range(first, last)]
        if not self._layout.last_stage:
            return None
        return torch.cat([torch.zeros(0, 2, dtype=torch.float64), *found])

    def _run(self, number: int) -> Tensor:
        planned, device = self._part.planned[number], self._layout.device
        multiple = self._forward.multiple
        columns = -(-planned.columns // multiple) * multiple
        del self._stem[planned.stem :]
        written = StemSegment(planned.columns) if planned.extends else None
        count, rows = self._grouped(planned)
        passes, owned = [], []
        targets = self._part.targets(number)
        for batch in range(count):
            # Micro-batches beyond the texts only fill the schedule.
            real = range(min(batch * rows, len(planned.rows)), len(planned.rows))[:rows]
            tokens, positions, dense = self._laid_out(planned, real, rows, columns)
            key_values = BranchKeyValues(self._stem, None if batch else written)
            behind = torch.arange(planned.depth).expand(rows, -1)
            lengths = None if self._length is None else torch.full_like(tokens, self._length)
            laid_out = PassRows(
                tokens.to(device),
                positions.to(device),
                None if lengths is None else lengths.to(device),
                key_values,
                torch.cat((behind, positions), dim=1).to(device),
                dense.to(device),
            )
            places, wanted, which = self._places(targets, real, rows, columns)
            reading = _Reading(self._layout, wanted.to(device))
            passes.append((laid_out, places.to(device), reading))
            owned.append(which)
        found = self._forward.run(passes)
        if written is not None:
            self._stem.append(written)
        values = torch.zeros(len(targets), 2, dtype=torch.float64)
        for which, read in zip(owned, found, strict=False):
            if len(which):
                values[which] = read.cpu()
        return values

    def _grouped(self, planned: PlannedPass) -> tuple[int, int]:
        """How many micro-batches of how many rows: as many as there are stages to keep busy."""
        stages = self._layout.pipeline.size
        count = self._forward.together if planned.extends else stages
        return count, -(-len(planned.rows) // (1 if planned.extends else count))

    def _laid_out(
        self, planned: PlannedPass, real: range, rows: int, columns: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens and positions, int64 [rows, columns], and what sees what, bool [.., keys]."""
        depth = planned.depth
        tokens = np.zeros((rows, columns), dtype=np.int64)
        positions = np.zeros((rows, columns), dtype=np.int64)
        dense = np.zeros((rows, columns, depth + columns), dtype=bool)
        dense[:, :, :depth] = True
        own = np.arange(columns)
        dense[:, own, depth + own] = True  # padding sees itself: what sees nothing is not a number
        for row, index in enumerate(real):
            begin = 0
            for branch in planned.rows[index].branches:
                read = self._part.texts[branch.text].read
                end = planned.columns if planned.extends else begin + len(read) - branch.shared
                new = slice(begin, end)
                tokens[row, new] = read[branch.shared : branch.shared + end - begin]
                positions[row, new] = np.arange(branch.shared, branch.shared + end - begin)
                if branch.path:
                    dense[row, new, depth + np.array(branch.path)[:, None]] = True
                dense[row, new, depth + begin : depth + end] = np.tri(end - begin, dtype=bool)
                begin = end
        return torch.from_numpy(tokens), torch.from_numpy(positions), torch.from_numpy(dense)

    def _places(
        self, targets: list[tuple[int, int, int, int]], real: range, rows: int, columns: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """This rank's part of what these rows are asked for.

        The places as of `AskedLogits`, int64 [places], each once; (index of the place, id) of each
        answer, int64 [answers, 2]; and which of the pass's targets each answer is, int64 [answers].
        """
        at = self._forward.own_places(rows, columns).tolist()
        places: dict[int, int] = {}
        wanted, which = [], []
        for index, (row, column, token, _slot) in enumerate(targets):
            if row not in real or at[column] < 0:
                continue
            place = at[column] + row - real.start
            wanted.append((places.setdefault(place, len(places)), token))
            which.append(index)
        return (
            torch.tensor(list(places), dtype=torch.int64),
            torch.tensor(wanted, dtype=torch.int64).view(-1, 2),
            torch.tensor(which, dtype=torch.int64),
        )


class _Reading:
    """Reads the wanted log-probabilities from blocks of logits, sharded over the tensor ranks.

    `wanted`: int64 [answers, 2], (index of the place, id), the places ascending.
    """

    def __init__(self, layout: Layout, wanted: Tensor) -> None:
        self._tensor = layout.tensor
        self._wanted = wanted

    def __call__(self, logits: Tensor, first: int) -> Tensor:
        """fp64 [answers in this block, 2]: nats, and 1 where the token is the likeliest."""
        block, rows = logits.shape
        places, ids = self._wanted.unbind(1)
        inside = (places >= first) & (places < first + block)
        places, ids = places[inside] - first, ids[inside]
        logits = logits.float()
        start = rows * self._tensor.rank
        peaks, likeliest = logits.max(dim=-1)
        mass = logits.logsumexp(dim=-1)
        elsewhere = (ids < start) | (ids >= start + rows)
        own = logits[places, (ids - start).masked_fill(elsewhere, 0)].masked_fill(elsewhere, 0.0)
        if self._tensor.size > 1:
            dist.all_reduce(own, group=self._tensor.group)
            both = torch.stack((peaks, mass))
            parts = [torch.empty_like(both) for _ in range(self._tensor.size)]
            dist.all_gather(parts, both, group=self._tensor.group)
            every = torch.stack(parts)  # [tensor, 2, block]
            mass = every[:, 1].logsumexp(dim=0)
            peaks, holder = every[:, 0].max(dim=0)
            likeliest = torch.where(holder == self._tensor.rank, likeliest + start, 0)
            dist.all_reduce(likeliest, group=self._tensor.group)
        nats = own.double() - mass.double()[places]
        return torch.stack((nats, (likeliest[places] == ids).double()), dim=1)
