"""The mapping between our global tensors and Hugging Face's: other names, rows regrouped.

Llama, Mistral, Ministral, Qwen2 and Qwen3 have the same names; Qwen2 adds biases to queries, keys
and values, Qwen3 norms over the heads. Our checkpoints have queries, keys and values in one tensor,
group by group: [the group's query heads, its key head, its value head]; and the gate above the up
projection.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.recipe.model import ModelSection
from trainer.recipe.shape import Linear, block_linears

EMBEDDING = "embedding.word_embeddings.weight"
HEAD = "output_layer.weight"

RowRange = tuple[int, int]
"""[first, last): a range of rows, the first dimension of a tensor."""


@dataclass(frozen=True)
class TensorPart:
    """A Hugging Face tensor, and the ranges of rows of our tensor that it consists of, in order."""

    name: str
    shape: tuple[int, ...]
    row_ranges: tuple[RowRange, ...]

    def take(self, read_rows: Callable[[int, int], Tensor], dtype: torch.dtype) -> Tensor:
        """Assemble this tensor in `dtype`; `read_rows(first, last)` reads rows of ours."""
        if len(self.row_ranges) == 1:
            return read_rows(*self.row_ranges[0]).to(dtype)
        taken, row = torch.empty(self.shape, dtype=dtype), 0
        for first, last in self.row_ranges:
            taken[row : row + last - first] = read_rows(first, last)
            row += last - first
        return taken


@dataclass(frozen=True)
class Joined:
    """One of our global tensors, and the Hugging Face tensors that it consists of."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[TensorPart, ...]

    def join(self, read: Callable[[str], Tensor]) -> Tensor:
        """Assemble our tensor bit for bit; `read` reads a part by its Hugging Face name."""
        if len(self.parts) == 1:
            return read(self.parts[0].name)
        joined: Tensor | None = None
        for part in self.parts:
            values, row = read(part.name), 0
            if joined is None:
                joined = torch.empty(self.shape, dtype=values.dtype)
            for first, last in part.row_ranges:
                joined[first:last] = values[row : row + last - first]
                row += last - first
        assert joined is not None, self.name
        return joined


def tensor_map(model: ModelSection) -> list[Joined]:
    """All global tensors of a model, in the order of its layers; `model.vocab` must be set."""
    assert model.vocab is not None, "the rows of the embedding are known"
    embedding = (model.vocab, model.hidden)
    tensors = [_same(EMBEDDING, "model.embed_tokens.weight", embedding)]
    for layer in range(model.layers):
        tensors += _layer(model, f"decoder.layers.{layer}.", f"model.layers.{layer}.")
    tensors.append(_same("decoder.final_layernorm.weight", "model.norm.weight", (model.hidden,)))
    if not model.tied_embeddings:
        tensors.append(_same(HEAD, "lm_head.weight", embedding))
    return tensors


def _layer(model: ModelSection, ours: str, theirs: str) -> Iterator[Joined]:
    qkv, projection, gate_up, down = block_linears(model)
    attention, their_attention = f"{ours}self_attention.", f"{theirs}self_attn."
    norm, head_norm = (model.hidden,), (model.head_width,)
    yield _same(f"{ours}input_layernorm.weight", f"{theirs}input_layernorm.weight", norm)
    yield from _linear(qkv, ours, theirs)
    if model.qk_norm:
        for name in ("q", "k"):
            peer = f"{their_attention}{name}_norm.weight"
            yield _same(f"{attention}{name}_layernorm.weight", peer, head_norm)
    yield from _linear(projection, ours, theirs)
    peer = f"{theirs}post_attention_layernorm.weight"
    yield _same(f"{ours}pre_mlp_layernorm.weight", peer, norm)
    yield from _linear(gate_up, ours, theirs)
    yield from _linear(down, ours, theirs)


def _same(ours: str, theirs: str, shape: tuple[int, ...]) -> Joined:
    return Joined(ours, shape, (TensorPart(theirs, shape, ((0, shape[0]),)),))


def _linear(linear: Linear, ours: str, theirs: str) -> Iterator[Joined]:
    """The weight of a linear, and its bias if it has one, with their parts."""
    for kind, columns in (("weight", (linear.columns,)), ("bias", ()))[: 1 + linear.bias]:
        parts = [
            TensorPart(
                f"{theirs}{linear.module}.{part}.{kind}",
                (linear.part_shape(part)[0], *columns),
                linear.row_ranges(part),
            )
            for part in linear.parts
        ]
        yield Joined(f"{ours}{linear.name}.{kind}", (linear.rows, *columns), tuple(parts))
