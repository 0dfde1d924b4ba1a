"""The token embedding, sharded over the vocabulary: which rows learn."""

from typing import Any

import torch.nn.functional as F
from megatron.core.tensor_parallel import (
    VocabParallelEmbedding,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
)
from torch import Tensor

from trainer.recipe.model import ModelSection


class Embedding(VocabParallelEmbedding):
    """megatron-core's embedding, with at most one row that gets no gradient from what is read.

    `silent_row`: that row's index among this rank's, or None (`torch.nn.Embedding.padding_idx`).
    """

    silent_row: int | None

    def forward(self, input_: Tensor) -> Tensor:
        """int64 [batch, sequence] -> [batch, sequence, hidden].

        Under sequence parallelism -> this rank's [sequence / tensor, batch, hidden].
        """
        return self.over_ranks(self.rows(input_, self.weight, self.silent_row))

    def rows(self, tokens: Tensor, table: Tensor, silent: int | None) -> Tensor:
        """This rank's rows of a table for ids [batch, sequence]; zeros where others have them."""
        if self.tp_group.size() == 1:
            return F.embedding(tokens, table, silent)
        elsewhere = (tokens < self.vocab_start_index) | (tokens >= self.vocab_end_index)
        local = (tokens - self.vocab_start_index).masked_fill(elsewhere, 0)
        found = F.embedding(local, table, silent)
        return found.masked_fill(elsewhere.unsqueeze(-1), 0.0)

    def over_ranks(self, found: Tensor) -> Tensor:
        """The sum over tensor ranks, shared out along the sequence where that is parallel."""
        if self.reduce_scatter_embeddings:
            sequence_first = found.transpose(0, 1).contiguous()
            scattered: Tensor = reduce_scatter_to_sequence_parallel_region(
                sequence_first, group=self.tp_group
            )
            return scattered
        reduced: Tensor = reduce_from_tensor_model_parallel_region(found, group=self.tp_group)
        return reduced


def use_rows(embedding: Any, model: ModelSection) -> None:
    """Convert GPTModel's embedding to an Embedding in place; `model` says which rows learn."""
    embedding.__class__ = Embedding
    row = None
    if not model.padding_gradient and model.padding_token is not None:
        local = model.padding_token - embedding.vocab_start_index
        row = local if 0 <= local < embedding.num_embeddings_per_partition else None
    embedding.silent_row = row
