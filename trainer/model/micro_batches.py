"""A global batch split into the schedule's micro-batches, for every stage of training."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data.batch import IGNORE, Batch, Segments
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import SequenceLayout, context_slice, document_lengths
from trainer.parallel.layout import Layout
from trainer.parallel.schedule import MicroBatches
from trainer.recipe import Recipe


@dataclass(frozen=True)
class MicroBatch:
    """This rank's slice of a micro-batch: `tokens`, `labels` int64 [batch, sequence / context].

    `number`: index of the micro-batch in this rank's step; `places`: the offsets of this rank's
    tokens in the whole sequence, int64 [sequence / context]; `sequences`: the rows' indices over
    the whole run; `layout` and `segments` describe the whole sequence; `first_tokens`: whether each
    label is the first token of an answer, bool as the labels; None where all count alike.
    """

    number: int
    tokens: Tensor
    labels: Tensor
    layout: SequenceLayout
    places: Tensor
    sequences: range
    segments: Segments | None
    first_tokens: Tensor | None = None


BeforeForward = Callable[[MicroBatch], None]
"""A callback that gets a micro-batch before it enters a chunk of the model."""


class MicroBatchCutter:
    """Splits a rank's rows of a global batch into micro-batches; built once a run."""

    def __init__(self, recipe: Recipe, layout: Layout) -> None:
        self._rows = recipe.batch.micro
        self._layout = layout
        self._rotary = rotary_embedding(recipe).to(layout.device)
        context = layout.context
        places = context_slice(recipe.sequence_length, context.rank, context.size)
        self._places = places.to(layout.device)
        self._weighs_tokens = recipe.loss.weighs_tokens

    def cut(self, batch: Batch) -> MicroBatches[MicroBatch]:
        """The micro-batches of these rows in order, built lazily on the rank's device.

        `batch`: int64 [rows, sequence] on the host, rows a multiple of the micro-batch.
        """
        count = len(batch.tokens) // self._rows
        return MicroBatches(self._made(batch), count, self._rows, batch.tokens.shape[1])

    def _made(self, batch: Batch) -> Iterator[MicroBatch]:
        """The micro-batches on this rank's device."""
        device, context = self._layout.device, self._layout.context
        tensors = [batch.tokens, batch.labels, batch.position_ids]
        tokens, labels, positions = (t.to(device, non_blocking=True) for t in tensors)
        lengths = None
        if self._rotary.by_length:
            # The token predicted last is the document's too, though no input.
            lengths = document_lengths(positions) + 1
        first_tokens = _first_tokens(labels, positions) if self._weighs_tokens else None
        # The rows of a data rank are contiguous in the global batch.
        first = batch.first_sequence + self._layout.data.rank * len(tokens)
        for number, start in enumerate(range(0, len(tokens), self._rows)):
            rows = slice(start, start + self._rows)
            layout = SequenceLayout.whole(
                *(positions[rows], self._rotary, context.rank, context.size),
                on_host=batch.position_ids[rows],
                lengths=None if lengths is None else lengths[rows],
            )
            yield MicroBatch(
                number,
                tokens[rows][:, self._places],
                labels[rows][:, self._places],
                layout,
                self._places,
                range(first + start, first + start + self._rows),
                _cut(batch.segments, rows, device),
                None if first_tokens is None else first_tokens[rows][:, self._places],
            )


def _first_tokens(labels: Tensor, positions: Tensor) -> Tensor:
    """Which labels are learned behind one of their text that is not: bool [rows, sequence].

    None is the label of a text's first position, behind which there is no other.
    """
    behind = labels.roll(1, dims=1)
    return (labels != IGNORE) & (behind == IGNORE) & (positions > 0)


def _cut(segments: Segments | None, rows: slice, device: torch.device) -> Segments | None:
    if segments is None:
        return None
    reference, good = segments.reference[rows], segments.good[rows]
    # The counts stay on the host: indices are computed from them without a device sync.
    moved = (part.to(device, non_blocking=True) for part in (reference, good))
    return Segments(segments.counts[rows], *moved)
