"""Forward passes over rows of tokens at any layout: only the logits that are asked for are made."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.model.attention import CachedSequence, VisibleKeys
from trainer.model.output import AskedLogits
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import context_slice
from trainer.model.transformer import LanguageModel
from trainer.parallel.layout import Layout
from trainer.parallel.megatron import evaluating
from trainer.parallel.schedule import MicroBatches, forward_backward
from trainer.recipe import Recipe


@dataclass(frozen=True)
class PassRows:
    """Rows of tokens for one pass, with what they see.

    `tokens`, `positions`: int64 [rows, columns], whole on every rank, `columns` a multiple of
    `ForwardPasses.multiple`; `lengths` as in `SequenceLayout`; `dense`, `key_positions`,
    `key_values` as in `CachedSequence`, but `dense` for all columns: bool [rows, columns, keys].
    """

    tokens: Tensor
    positions: Tensor
    lengths: Tensor | None
    key_values: VisibleKeys
    key_positions: Tensor
    dense: Tensor | None


ReadLogits = Callable[[Tensor, int], Tensor]
"""As `AskedLogits.read`."""


class ForwardPasses:
    """Runs rows through the model; collective over the ranks that hold one copy of it.

    Every rank gets whole rows, whose columns it shares out as the layout has it: keys and values
    are gathered before they are cached, so that a cache works with sequences shared out too.
    `multiple`: what the number of columns must be a multiple of; `together`: micro-batches must
    come in multiples of this.
    """

    def __init__(self, chunks: list[LanguageModel], recipe: Recipe, layout: Layout) -> None:
        self._chunks = chunks
        self._layout = layout
        self.rotary = rotary_embedding(recipe).to(layout.device)
        sizes = recipe.parallel
        chunked = 2 * sizes.context if sizes.context > 1 else 1
        self.multiple = chunked * (sizes.tensor if sizes.sequence else 1)
        # The interleaved schedule takes micro-batches in multiples of the pipeline's stages.
        self.together = layout.pipeline.size if len(chunks) > 1 else 1
        self._scheduled = layout.pipeline.size > 1 or len(chunks) > 1

    def own_places(self, rows: int, columns: int) -> Tensor:
        """Of each column, its index among this rank's tokens of row 0; -1: another rank's.

        int64 [columns] on the host, multiplied by the number of rows: plus a token's row it is the
        token's place, as of `AskedLogits`.
        """
        context = self._layout.context
        own = context_slice(columns, context.rank, context.size)
        places = torch.full((columns,), -1)
        places[own] = torch.arange(len(own)) * rows
        return places

    @torch.no_grad()
    def run(self, passes: Sequence[tuple[PassRows, Tensor, ReadLogits]]) -> list[Tensor]:
        """What is read of each pass's logits, on the last stage; elsewhere [].

        A pass: rows, the places that are asked for and what to read there, as in `AskedLogits`. All
        passes have the same numbers of rows and columns.
        """
        prepared = [(*self._shared_out(rows), AskedLogits(at, read)) for rows, at, read in passes]
        with evaluating(self._chunks):
            if not self._scheduled:
                # The schedule's own work counts where a pass is one token.
                return [self._chunks[0](*two, asked=asked) for *two, asked in prepared]
            rows, columns = passes[0][0].tokens.shape
            reports = forward_backward(
                _forward_step,
                MicroBatches(prepared, len(prepared), rows, columns),
                self._chunks,
                forward_only=True,
            )
        return [report["read"] for report in reports]

    def _shared_out(self, rows: PassRows) -> tuple[Tensor, CachedSequence]:
        """This rank's columns of the tokens, and their layout."""
        tokens, dense, context = rows.tokens, rows.dense, self._layout.context
        own = None
        if context.size > 1:
            own = context_slice(tokens.shape[1], context.rank, context.size).to(tokens.device)
            tokens = tokens[:, own]
            dense = None if dense is None else dense[:, own]
        layout = CachedSequence(
            *(rows.positions, own, self.rotary, rows.lengths),
            key_values=rows.key_values,
            key_positions=rows.key_positions,
            dense=dense,
        )
        return tokens, layout


def _forward_step(
    passes: Iterator[tuple[Tensor, CachedSequence, AskedLogits]], chunk: Any
) -> tuple[Tensor, Any]:
    tokens, layout, asked = next(passes)
    return chunk(tokens, layout, asked=asked), _report


def _report(output: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The schedule's loss function, here without a loss: what was read is the report."""
    nothing = torch.zeros((), device=output.device)
    return nothing, torch.ones((), dtype=torch.int), {"read": output}
