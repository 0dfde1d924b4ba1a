"""The token embedding, sharded over the vocabulary: which rows learn, and its adapter."""

from typing import Any

import torch.nn.functional as F
from megatron.core.tensor_parallel import (
    VocabParallelEmbedding,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
)
from torch import Tensor
from torch.nn import ModuleDict

from trainer.model.lora.adapters import EmbeddingAdapter
from trainer.model.lora.targets import size_of
from trainer.recipe import Recipe
from trainer.recipe.shape import EMBEDDING


class Embedding(VocabParallelEmbedding):
    """megatron-core's embedding, with at most one row that gets no gradient from what is read.

    `silent_row`: that row's index among this rank's, or None (`torch.nn.Embedding.padding_idx`);
    `adapters`: a LoRA adapter, or none.
    """

    silent_row: int | None
    adapters: ModuleDict
    adapters_on: bool

    def forward(self, input_: Tensor) -> Tensor:
        """int64 [batch, sequence] -> [batch, sequence, hidden].

        Under sequence parallelism -> this rank's [sequence / tensor, batch, hidden].
        """
        output = self.look_up(input_, self.weight)
        if self.adapters_on:
            for adapter in self.adapters.values():
                output = output + adapter(input_, self.look_up)
        return output

    def look_up(self, tokens: Tensor, table: Tensor) -> Tensor:
        """The rows of a table with one row for each of this rank's tokens, as of `forward`."""
        if self.tp_group.size() == 1:
            found = F.embedding(tokens, table, self.silent_row)
        else:
            elsewhere = (tokens < self.vocab_start_index) | (tokens >= self.vocab_end_index)
            local = (tokens - self.vocab_start_index).masked_fill(elsewhere, 0)
            found = F.embedding(local, table, self.silent_row)
            found = found.masked_fill(elsewhere.unsqueeze(-1), 0.0)
        if self.reduce_scatter_embeddings:
            sequence_first = found.transpose(0, 1).contiguous()
            scattered: Tensor = reduce_scatter_to_sequence_parallel_region(
                sequence_first, group=self.tp_group
            )
            return scattered
        reduced: Tensor = reduce_from_tensor_model_parallel_region(found, group=self.tp_group)
        return reduced


def convert_embedding(embedding: Any, config: Any, recipe: Recipe) -> None:
    """Convert GPTModel's embedding to an Embedding in place; `config`: megatron-core's."""
    embedding.__class__ = Embedding
    model, row = recipe.model, None
    if not model.padding_gradient and model.padding_token is not None:
        local = model.padding_token - embedding.vocab_start_index
        row = local if 0 <= local < embedding.num_embeddings_per_partition else None
    embedding.silent_row = row
    embedding.adapters_on = True
    embedding.adapters = ModuleDict()
    size = None if recipe.lora is None else size_of(recipe.lora, EMBEDDING)
    if size is not None:
        embedding.adapters["embed_tokens"] = EmbeddingAdapter(embedding, config, size)
