"""`model`: the shape of the transformer."""

from typing import Annotated, Literal

from pydantic import Field

from trainer.recipe.rope import RopeScaling
from trainer.recipe.section import Count, FrozenSequence, Positive, Section


class ModelSection(Section):
    """A Llama-family decoder: pre-norm, rotary positions, grouped-query attention, gated MLP."""

    layers: Annotated[int, Field(gt=0, le=10_000)]
    """Transformer blocks."""
    hidden: Positive
    """Width of the residual stream."""
    heads: Positive
    """Query heads."""
    kv_heads: Positive | None = None
    """Key and value heads, shared by groups of query heads; none: as many as `heads`."""
    ffn: Positive
    """Inner width of the gated MLP."""
    activation: Literal["swiglu", "geglu", "geglu_tanh"] = "swiglu"
    """What the gate of the MLP passes: swiglu: SiLU; geglu: GELU by erf; geglu_tanh: GELU's tanh
    form, as Gemma has it."""
    vocab: Positive | None = None
    """Rows of the embedding; none: the tokenizer's size rounded up to a multiple of 128."""
    padding_rows: Count = 0
    """How many of these rows, the last ones, take no part: their logits are minus infinity, and an
    export leaves them out. A run on a base sets it where parallel.tensor does not divide the base's
    rows, or those with `added_tokens`, so that every layout learns the same."""
    head_size: Positive | None = None
    """Width of one head; none: hidden / heads."""
    tied_embeddings: bool = False
    """Whether the output projection is the embedding matrix."""
    padding_token: Count | None = None
    """Id of the token that pads sequences, which only `padding_gradient` asks for; none: not known.
    An imported model has that of its config.json (pad_token_id)."""
    padding_gradient: bool = True
    """Whether the embedding's row of `padding_token` learns from where the token is read, as every
    other row does. No padding is ever read here, so that a token of this id is a real one (a base
    often pads with its end of turn), and the default lets it learn. False: as transformers and TRL
    train a model whose config.json names a pad_token_id. The output projection's row always
    learns, tied or not."""
    window: Positive | None = None
    """Sliding-window attention: how many tokens a token sees at most, itself included, inside its
    document; none: all before it. Which layers have it: `window_pattern`."""
    window_pattern: Annotated[tuple[Literal["local", "global"], ...], FrozenSequence] | None = None
    """Which layers see no further than `window`: a list of local and global, repeated over the
    layers from the first one on, as [local, local, local, global]; none: every layer is local."""
    attention_scale: Annotated[float, Field(gt=0.0)] | None = None
    """What attention scores are multiplied by; none: 1 / sqrt(head size)."""
    softmax: Literal["plain", "off_by_one"] = "plain"
    """How attention weighs keys: off_by_one adds exp(0) to the softmax's denominator, so that a
    token may attend to nothing (E. Miller 2023, "Attention is off by one"; megatron-core's
    softmax_type). That takes kernels.attention triton or reference."""
    qk_norm: bool = False
    """Whether queries and keys pass a norm over the head, before the rotation."""
    qkv_bias: bool = False
    """Whether the projections to queries, keys and values add a bias, as Qwen2's do."""
    rope_theta: Annotated[float, Field(gt=0.0)] = 10000.0
    """Base of the rotary frequencies."""
    rope_scaling: RopeScaling | None = None
    """How the rotary frequencies are changed for longer contexts; none: as they are."""
    rope_angles: Literal["exact", "fp32"] = "exact"
    """How exactly a token's angles are known: exact: to the last place; fp32: rounded as
    transformers and most servers round them, by up to 0.004 rad at position 100,000. An import sets
    fp32: the weights were trained so."""
    rope_interleaved: bool = False
    """Whether the rotation's pairs are neighbouring channels (2i, 2i + 1), as GPT-J's are; else
    (i, i + head size / 2), as Llama's."""
    norm: Literal["rms", "layer"] = "rms"
    """What every norm is: RMSNorm, or LayerNorm with a bias."""
    zero_centered_norms: bool = False
    """Whether norms multiply by 1 + weight, with weights that start at 0, as Gemma's do."""
    norm_eps: Annotated[float, Field(gt=0.0)] = 1e-5
    """Added to the mean square (LayerNorm: to the variance) in every norm."""
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

    @property
    def norm_vectors(self) -> int:
        """Parameters a channel of every norm: a weight, and LayerNorm's bias."""
        return 2 if self.norm == "layer" else 1

    def changed(self, *names: str) -> list[str]:
        """Which of these keys are not at their defaults, as model.NAME."""
        fields = type(self).model_fields
        return [f"model.{name}" for name in names if getattr(self, name) != fields[name].default]

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The window of each layer, the first one first; None: it sees its whole document."""
        pattern = self.window_pattern or ("local",)
        kinds = (pattern[layer % len(pattern)] for layer in range(self.layers))
        return tuple(self.window if kind == "local" else None for kind in kinds)
