"""Prompts of several lengths as rows that grow a token at a time, with their keys and values."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainer.evaluate.forward import PassRows
from trainer.model.key_values import GrowingKeyValues


class GrowingRows:
    """Texts that are written together: a stem that all begin with, padding, and the rest of each.

    Nothing sees the padding, wherever it stands. The rows' columns are passed through the model in
    pieces (`prompt_passes`), then one by one (`next_pass`).

    `prompts`: none empty, of at most `longest` tokens; `room`: columns that may follow; `multiple`:
    as of `ForwardPasses`; `stem`: what was read of the tokens that all prompts begin with.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        longest: int,
        room: int,
        device: torch.device,
        multiple: int,
        stem: GrowingKeyValues | None = None,
    ) -> None:
        self._multiple = multiple
        shared, total = 0 if stem is None else stem.filled, longest + room
        self.key_values = GrowingKeyValues(total)
        if stem is not None:
            self.key_values.begin_behind(stem, len(prompts))
        padded = [
            [*prompt[:shared], *[0] * (longest - len(prompt)), *prompt[shared:]]
            for prompt in prompts
        ]
        self._tokens = torch.tensor(padded, dtype=torch.int64, device=device)  # [rows, longest]
        # Of the texts so far, int64 [rows].
        self._lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self._even = all(len(prompt) == longest for prompt in prompts)
        columns = torch.arange(total, device=device)
        paddings = (longest - self._lengths)[:, None]
        self._seen = (columns < shared) | (columns >= shared + paddings)  # [rows, total]
        self._positions = torch.where(columns < shared, columns, (columns - paddings).clamp(min=0))

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def read(self) -> bool:
        """Whether the newest pass holds the prompts' last column, or one behind it."""
        return self.key_values.filled >= self._tokens.shape[1]

    def prompt_passes(self, budget: int) -> Iterator[PassRows]:
        """The prompts' passes, of at most `budget` tokens each, where a row has no more.

        The last column of the last one is each prompt's last token.
        """
        longest = self._tokens.shape[1]
        piece = max(budget // len(self) // self._multiple, 1) * self._multiple
        first = self.key_values.filled
        while first < longest:
            end = min(first + piece, longest)
            yield self._pass(self._tokens[:, first:end], first, end)
            first = end

    def next_pass(self, tokens: Tensor) -> PassRows:
        """The pass of each row's next token, int64 [rows], in the last column."""
        self._lengths = self._lengths + 1
        filled = self.key_values.filled
        return self._pass(tokens[:, None], filled, filled + 1)

    def _pass(self, tokens: Tensor, first: int, end: int) -> PassRows:
        padding = -(end - first) % self._multiple
        columns = torch.arange(first - padding, end, device=tokens.device).clamp(min=first)
        seen = self._seen[:, None, :end]
        dense: Tensor | None = None
        if end - first > 1:
            own = torch.arange(end, device=tokens.device)
            dense = seen & (own <= columns[:, None])
            # Padding sees itself: what sees nothing is not a number.
            dense = dense | (own == columns[:, None])
        elif not self._even:
            dense = seen.expand(-1, len(columns), -1)
        self.key_values.begin(end - first, padding)
        positions = self._positions
        return PassRows(
            torch.nn.functional.pad(tokens, (padding, 0)),
            positions[:, columns],
            self._lengths[:, None].expand(-1, len(columns)),
            self.key_values,
            positions[:, :end],
            dense,
        )

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone."""
        which = torch.tensor(rows, device=self._tokens.device)
        self.key_values.select(which)
        self._seen, self._positions = self._seen[which], self._positions[which]
        self._lengths, self._tokens = self._lengths[which], self._tokens[which]
