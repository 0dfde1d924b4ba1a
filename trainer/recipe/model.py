"""`model`: the shape of the transformer."""

from typing import Annotated

from pydantic import Field

from trainer.recipe.section import Positive, Section


class RopeScaling(Section):
    """Llama-3's stretching of the rotary frequencies to longer contexts (arXiv:2407.21783)."""

    factor: Annotated[float, Field(gt=0.0)]
    """How many times longer the context becomes."""
    low_frequency_factor: Annotated[float, Field(gt=0.0)] = 1.0
    """Wavelengths above original_context / this are stretched by the whole factor."""
    high_frequency_factor: Annotated[float, Field(gt=0.0)] = 4.0
    """Wavelengths below original_context / this are left alone; between the two, interpolated."""
    original_context: Positive = 8192
    """The context length, in tokens, that the frequencies were made for."""


class ModelSection(Section):
    """A Llama-family decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

    layers: Positive
    """Transformer blocks."""
    hidden: Positive
    """Width of the residual stream."""
    heads: Positive
    """Query heads."""
    kv_heads: Positive | None = None
    """Key and value heads, shared by groups of query heads; none: as many as `heads`."""
    ffn: Positive
    """Inner width of the SwiGLU block."""
    vocab: Positive | None = None
    """Rows of the embedding; none: the tokenizer's size rounded up to a multiple of 128."""
    head_size: Positive | None = None
    """Width of one head; none: hidden / heads."""
    tied_embeddings: bool = False
    """Whether the output projection is the embedding matrix."""
    qk_norm: bool = False
    """Whether queries and keys pass an RMSNorm over the head, before the rotation."""
    qkv_bias: bool = False
    """Whether the projections to queries, keys and values add a bias, as Qwen2's do."""
    rope_theta: Annotated[float, Field(gt=0.0)] = 10000.0
    """Base of the rotary frequencies."""
    rope_scaling: RopeScaling | None = None
    """Llama-3 stretching of the rotary frequencies; none: as they are."""
    norm_eps: Annotated[float, Field(gt=0.0)] = 1e-5
    """Added to the mean square in every RMSNorm."""
    init_std: Annotated[float, Field(gt=0.0)] = 0.02
    """Standard deviation of the initial weights."""

    @property
    def query_groups(self) -> int:
        """Key and value heads, the default resolved."""
        return self.kv_heads if self.kv_heads is not None else self.heads

    @property
    def head_width(self) -> int:
        """Width of one head, the default resolved."""
        return self.head_size if self.head_size is not None else self.hidden // self.heads
