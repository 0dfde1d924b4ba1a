"""The shape of a transformer block, written once: its linear layers and its norms.

Size, memory, floors, LoRA's targets, Hugging Face's names and the measured cost of recomputation
all follow from what stands here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from trainer.recipe.model import ModelSection

Cut = Literal["rows", "columns"]

_BLOCK: tuple[tuple[str, str, tuple[str, ...], Cut], ...] = (
    ("self_attention.linear_qkv", "self_attn", ("q_proj", "k_proj", "v_proj"), "rows"),
    ("self_attention.linear_proj", "self_attn", ("o_proj",), "columns"),
    ("mlp.linear_fc1", "mlp", ("gate_proj", "up_proj"), "rows"),
    ("mlp.linear_fc2", "mlp", ("down_proj",), "columns"),
)

EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
"""The embedding and the output projection, by the names that Hugging Face and PEFT know them by."""

LINEARS = tuple(part for _name, _module, parts, _cut in _BLOCK for part in parts)
"""The linear layers of a block, by the names that Hugging Face and PEFT know them by."""


@dataclass(frozen=True)
class Linear:
    """A linear layer of a block as megatron-core holds it: several of Hugging Face's in one matrix.

    The matrix is [rows, columns]: outputs by inputs. Its rows come in `groups`; each group holds,
    one after the other, `part_rows` rows of each of the Hugging Face linears in `parts`.

    Attributes:
        name: Below the layer, as self_attention.linear_qkv.
        module: The Hugging Face module that the parts stand in, below the layer.
        parts: The Hugging Face linears.
        part_rows: The rows of each part in one group.
        groups: Queries, keys and values are fused a key/value head at a time; the others whole.
        columns: Inputs.
        cut: What tensor ranks share out: a column-parallel linear its rows (outputs), a
            row-parallel linear its columns (inputs).
        bias: Whether it adds one number a row.

    """

    name: str
    module: str
    parts: tuple[str, ...]
    part_rows: tuple[int, ...]
    groups: int
    columns: int
    cut: Cut
    bias: bool = False

    @property
    def rows(self) -> int:
        """Outputs."""
        return self.groups * sum(self.part_rows)

    @property
    def weights(self) -> int:
        """Elements of the matrix."""
        return self.rows * self.columns

    @property
    def parameters(self) -> int:
        """Elements of the matrix and of the bias."""
        return self.weights + (self.rows if self.bias else 0)

    def part_shape(self, part: str) -> tuple[int, int]:
        """Outputs and inputs of one of the Hugging Face linears."""
        return self.groups * self.part_rows[self.parts.index(part)], self.columns

    def row_ranges(self, part: str) -> tuple[tuple[int, int], ...]:
        """The ranges [first, last) of our rows, one a group, that are the part's rows in order."""
        index = self.parts.index(part)
        group, rows = sum(self.part_rows), self.part_rows[index]
        before = sum(self.part_rows[:index])
        firsts = (number * group + before for number in range(self.groups))
        return tuple((first, first + rows) for first in firsts)

    def of_rank(self, tensor: int) -> "Linear":
        """What one of `tensor` ranks holds: some of the groups, or a part of the one group."""
        if self.cut == "columns":
            return replace(self, columns=self.columns // tensor)
        if self.groups % tensor == 0:
            return replace(self, groups=self.groups // tensor)
        return replace(self, part_rows=tuple(rows // tensor for rows in self.part_rows))


def block_linears(model: ModelSection) -> tuple[Linear, ...]:
    """The linear layers of a block, in the order in which a token meets them."""
    head, groups = model.head_width, model.query_groups
    queries = model.heads // groups * head
    sizes: tuple[tuple[tuple[int, ...], int, int], ...] = (
        ((queries, head, head), groups, model.hidden),
        ((model.hidden,), 1, model.heads * head),
        ((model.ffn, model.ffn), 1, model.hidden),
        ((model.hidden,), 1, model.ffn),
    )
    biases = (model.qkv_bias, False, False, False)
    return tuple(
        Linear(name, module, parts, *size, cut, bias)
        for (name, module, parts, cut), size, bias in zip(_BLOCK, sizes, biases, strict=True)
    )


def linear_names(layers: int) -> Iterator[str]:
    """The full Hugging Face names of all linear layers of so many blocks."""
    for layer in range(layers):
        for _name, module, parts, _cut in _BLOCK:
            yield from (f"model.layers.{layer}.{module}.{part}" for part in parts)


def modules(model: ModelSection) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every module with weights of its own: our global name, and the full Hugging Face names of
    what is in it. A tied output projection is in the embedding.
    """
    tied = model.tied_embeddings
    yield "embedding.word_embeddings", (EMBEDDING, HEAD) if tied else (EMBEDDING,)
    for layer in range(model.layers):
        ours, theirs = f"decoder.layers.{layer}", f"model.layers.{layer}"
        for norm, name in _norms(model):
            yield f"{ours}.{norm}", (f"{theirs}.{name}",)
        for linear in block_linears(model):
            parts = tuple(f"{theirs}.{linear.module}.{part}" for part in linear.parts)
            yield f"{ours}.{linear.name}", parts
    yield "decoder.final_layernorm", ("model.norm",)
    if not tied:
        yield "output_layer", (HEAD,)


def _norms(model: ModelSection) -> Iterator[tuple[str, str]]:
    """The norms of a block, by our name and by Hugging Face's."""
    yield "input_layernorm", "input_layernorm"
    yield "pre_mlp_layernorm", "post_attention_layernorm"
    if model.qk_norm:
        for head in ("q", "k"):
            yield f"self_attention.{head}_layernorm", f"self_attn.{head}_norm"
