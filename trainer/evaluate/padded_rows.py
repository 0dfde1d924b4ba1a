"""Prompts of several lengths as rows of one length, which grow a token at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.model.attention import KeyValueCache


class PaddedRows:
    """Rows that pass through the model together, left-padded to one length, with their cache.

    Each padding token has position 0, so that it is a document of its own that no other token sees.
    `tokens`, `positions`: int64 [rows, length]; `lengths`: how long each token's text was when it
    was first read, by which a rotation may go; `cached`: columns that the cache has.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], length: int, device: torch.device) -> None:
        tokens, positions = [], []
        for prompt in prompts:
            padding = [0] * (length - len(prompt))
            tokens.append([*padding, *prompt])
            positions.append([*padding, *range(len(prompt))])
        self.tokens = torch.tensor(tokens, dtype=torch.int64, device=device)  # [rows, length]
        self.positions = torch.tensor(positions, dtype=torch.int64, device=device)
        ends = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self.lengths = ends[:, None].expand(-1, length)
        self.cache = KeyValueCache()
        self.cached = 0

    def append(self, tokens: Tensor) -> None:
        """Append a token to each row, from int64 [rows]."""
        self.tokens = torch.cat((self.tokens, tokens[:, None]), dim=1)
        self.positions = torch.cat((self.positions, self.positions[:, -1:] + 1), dim=1)
        self.lengths = torch.cat((self.lengths, self.positions[:, -1:] + 1), dim=1)
