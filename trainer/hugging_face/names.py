"""Our global tensors and Hugging Face's: the same numbers under other names, rows regrouped.

Llama, Mistral, Qwen2 and Qwen3 share their names; Qwen2 adds biases to queries, keys and values,
Qwen3 norms over the heads. We hold queries, keys and values as one tensor, a group after the
other: [the group's query heads, its key head, its value head]; and the gate above the up
projection.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.recipe.model import ModelSection

EMBEDDING = "embedding.word_embeddings.weight"
HEAD = "output_layer.weight"

Rows = tuple[int, int]
"""From and up to: a stretch of rows, the first dimension of a tensor."""


@dataclass(frozen=True)
class Part:
    """A tensor under its Hugging Face name, and the rows of ours that it is, in its own order."""

    name: str
    shape: tuple[int, ...]
    stretches: tuple[Rows, ...]

    def take(self, read_rows: Callable[[int, int], Tensor], dtype: torch.dtype) -> Tensor:
        """The part out of our tensor, whose rows from and up to `read_rows` gives."""
        if len(self.stretches) == 1:
            return read_rows(*self.stretches[0]).to(dtype)
        taken, place = torch.empty(self.shape, dtype=dtype), 0
        for first, last in self.stretches:
            taken[place : place + last - first] = read_rows(first, last)
            place += last - first
        return taken


@dataclass(frozen=True)
class Joined:
    """One of our global tensors, and the parts that make it up."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    def join(self, read: Callable[[str], Tensor]) -> Tensor:
        """Our tensor out of its parts, which `read` gives by Hugging Face name; bit for bit."""
        if len(self.parts) == 1:
            return read(self.parts[0].name)
        joined: Tensor | None = None
        for part in self.parts:
            values, place = read(part.name), 0
            if joined is None:
                joined = torch.empty(self.shape, dtype=values.dtype)
            for first, last in part.stretches:
                joined[first:last] = values[place : place + last - first]
                place += last - first
        assert joined is not None, self.name
        return joined


def tensor_map(model: ModelSection) -> list[Joined]:
    """Every global tensor of a model in the order of its layers; `model.vocab` must be known."""
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
    hidden, ffn, queries = model.hidden, model.ffn, model.heads * model.head_width
    attention, their_attention = f"{ours}self_attention.", f"{theirs}self_attn."
    norm, head_norm = (hidden,), (model.head_width,)
    yield _same(f"{ours}input_layernorm.weight", f"{theirs}input_layernorm.weight", norm)
    yield _grouped(model, f"{attention}linear_qkv", their_attention, "weight", (hidden,))
    if model.qkv_bias:
        yield _grouped(model, f"{attention}linear_qkv", their_attention, "bias", ())
    if model.qk_norm:
        for name in ("q", "k"):
            peer = f"{their_attention}{name}_norm.weight"
            yield _same(f"{attention}{name}_layernorm.weight", peer, head_norm)
    yield _same(
        f"{attention}linear_proj.weight", f"{their_attention}o_proj.weight", (hidden, queries)
    )
    peer = f"{theirs}post_attention_layernorm.weight"
    yield _same(f"{ours}pre_mlp_layernorm.weight", peer, norm)
    gate = Part(f"{theirs}mlp.gate_proj.weight", (ffn, hidden), ((0, ffn),))
    up = Part(f"{theirs}mlp.up_proj.weight", (ffn, hidden), ((ffn, 2 * ffn),))
    yield Joined(f"{ours}mlp.linear_fc1.weight", (2 * ffn, hidden), (gate, up))
    yield _same(f"{ours}mlp.linear_fc2.weight", f"{theirs}mlp.down_proj.weight", (hidden, ffn))


def _same(ours: str, theirs: str, shape: tuple[int, ...]) -> Joined:
    return Joined(ours, shape, (Part(theirs, shape, ((0, shape[0]),)),))


def _grouped(
    model: ModelSection, ours: str, theirs: str, kind: str, columns: tuple[int, ...]
) -> Joined:
    """Queries, keys and values: of each group first its query heads, then its key, its value."""
    width, groups = model.head_width, model.query_groups
    queries = model.heads // groups
    parts, place = [], 0
    for name, heads in (("q_proj", queries), ("k_proj", 1), ("v_proj", 1)):
        firsts = [(group * (queries + 2) + place) * width for group in range(groups)]
        stretches = tuple((first, first + heads * width) for first in firsts)
        shape = (groups * heads * width, *columns)
        parts.append(Part(f"{theirs}{name}.{kind}", shape, stretches))
        place += heads
    rows = groups * (queries + 2) * width
    return Joined(f"{ours}.{kind}", (rows, *columns), tuple(parts))
