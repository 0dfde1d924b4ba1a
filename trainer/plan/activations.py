"""The activations that autograd saves for a layer's backward pass, by part, in bytes a rank."""

from dataclasses import dataclass
from typing import Literal

from trainer.recipe.lora import TABLES, adapter_shapes
from trainer.recipe.recipe import Recipe
from trainer.recipe.shape import block_linears

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class ActivationSizes:
    """Element counts of one micro-batch's tensors on one rank.

    `tokens`: micro-batch x sequence / context ranks; `rows`: those of them in the residual stream,
    which sequence parallelism shards; `hidden`: elements of a hidden state of `rows`; `whole`: of
    one of `tokens`. `queries`, `keys` and `ffn`: elements of the queries, the keys and the gate,
    which tensor parallelism shards; `query_heads`, `key_heads`: tokens x heads on this rank.
    `width`: bytes an element.
    """

    tokens: float
    rows: float
    hidden: float
    whole: float
    queries: float
    keys: float
    ffn: float
    query_heads: float
    key_heads: float
    width: int

    @classmethod
    def of(cls, recipe: Recipe) -> "ActivationSizes":
        """Those of the recipe's micro-batch."""
        model, parallel = recipe.model, recipe.parallel
        tokens = recipe.batch.micro * recipe.sequence_length / parallel.context
        rows = tokens / (parallel.tensor if parallel.sequence else 1)
        share = tokens / parallel.tensor
        return cls(
            tokens=tokens,
            rows=rows,
            hidden=rows * model.hidden,
            whole=tokens * model.hidden,
            queries=share * model.heads * model.head_width,
            keys=share * model.query_groups * model.head_width,
            ffn=share * model.ffn,
            query_heads=share * model.heads,
            key_heads=share * model.query_groups,
            width=2 if recipe.precision == "bf16" else 4,
        )


def layer_kept(
    recipe: Recipe, device: Device, recomputed: frozenset[str] | None = None
) -> dict[str, float]:
    """Bytes that one layer saves for its backward pass, by part.

    `input` (all that a fully recomputed layer saves), `norms` (their inputs and row statistics),
    `normalised` (their outputs), `attention`, `product` (the gated product), `gate_up` (its two
    factors), `adapters` (LoRA's inner activations). `recomputed`: the parts recomputed in
    backward; None: the recipe's.
    """
    parts = recipe.recomputed if recomputed is None else recomputed
    sizes = ActivationSizes.of(recipe)
    if "full" in parts:
        return {"input": sizes.hidden * sizes.width}
    lean = device == "cuda"
    qkv, _projection, gate_up, down = _learning_shares(recipe)
    return {
        "norms": sum(
            _norm(recipe, sizes, lean, _norm_learns(recipe, name))
            for name in ("input_layernorm", "post_attention_layernorm")
        ),
        "normalised": (qkv + gate_up) * _normalised(sizes, lean, parts),
        "attention": _attention(recipe, sizes, lean, "attention" in parts),
        "gate_up": 0.0 if "mlp" in parts else _gate_up(sizes, lean),
        "product": 0.0 if "mlp" in parts else down * _product(sizes, lean, parts),
        "adapters": _adapters(recipe, sizes, parts),
    }


def _learning_shares(recipe: Recipe) -> list[float]:
    """The share of the layers in which each linear's input is saved: where something there learns.

    A frozen linear's backward pass needs its weight alone.
    """
    lora, model = recipe.lora, recipe.model
    linears = block_linears(model)
    if lora is None:
        return [1.0] * len(linears)
    shares = []
    for linear in linears:
        names = [
            [f"model.layers.{layer}.{linear.module}.{part}" for part in linear.parts]
            for layer in range(model.layers)
        ]
        learns = [any(lora.adapts(name) or lora.saves(name) for name in parts) for parts in names]
        shares.append(sum(learns) / model.layers)
    return shares


def _adapters(recipe: Recipe, sizes: ActivationSizes, parts: frozenset[str]) -> float:
    """Bytes between an adapter's two matrices, of all in a layer, as spread over the layers."""
    lora, model = recipe.lora, recipe.model
    if lora is None:
        return 0.0
    kept = 0.0
    rows = {
        part for linear in block_linears(model) if linear.cut == "columns" for part in linear.parts
    }
    for name, rank, _inputs, _outputs in adapter_shapes(lora, model):
        part = name.rpartition(".")[2]
        if name in TABLES or ("mlp" in parts and ".mlp." in name):
            continue
        kept += rank * (sizes.rows if part in rows else sizes.tokens) * sizes.width
    return kept / model.layers


def _norm_learns(recipe: Recipe, name: str) -> float:
    """The share of the layers in which the norm of this Hugging Face name learns."""
    lora, layers = recipe.lora, recipe.model.layers
    if lora is None:
        return 1.0
    return sum(lora.saves(f"model.layers.{layer}.{name}") for layer in range(layers)) / layers


def _norm(recipe: Recipe, sizes: ActivationSizes, lean: bool, learns: float) -> float:
    """Bytes that a norm saves itself: its input, and one fp32 number a row (LayerNorm: two).

    The reference saves its input in fp32; that of RMSNorm the normalised input too, where its
    weight `learns` (a share of the layers).
    """
    vectors = recipe.model.norm_vectors
    wide = 4 + 4 * learns if vectors == 1 else 4
    return sizes.hidden * (sizes.width if lean else wide) + 4 * vectors * sizes.rows


def _normalised(sizes: ActivationSizes, lean: bool, parts: frozenset[str]) -> float:
    """Bytes of one norm's output, which the linear after it saves.

    Recomputing it needs the norm's input, which the reference has saved in fp32 only.
    """
    free = lean or sizes.width == 4
    return 0.0 if "norms" in parts and free else sizes.hidden * sizes.width


def _gate_up(sizes: ActivationSizes, lean: bool) -> float:
    """Bytes of gate and up; the reference saves them in fp32, and the activated gate."""
    return 2 * sizes.ffn * sizes.width if lean else 12 * sizes.ffn


def _product(sizes: ActivationSizes, lean: bool, parts: frozenset[str]) -> float:
    """Bytes of the gated product; recomputing it, the bf16 reference must save its inputs."""
    if "swiglu" not in parts:
        return sizes.ffn * sizes.width
    return 0.0 if lean or sizes.width == 4 else 2 * sizes.ffn * sizes.width


def _attention(recipe: Recipe, sizes: ActivationSizes, lean: bool, recomputed: bool) -> float:
    """Bytes of rotated queries and keys, values, the output and an fp32 number a row.

    When recomputed: of the projection that they are slices of, and of the output, which the next
    linear saves. Head norms add theirs; context parallelism the whole sequence's keys and values.
    """
    width, head_norms = sizes.width, recipe.model.qk_norm
    queries, keys = sizes.queries * width, sizes.keys * width
    projection = queries + 2 * keys
    kept = _head_norms(recipe, sizes, lean) if head_norms else 0.0
    if recomputed:
        return kept + projection + queries + (queries + keys if head_norms else 0.0)
    rows = 4 * sizes.query_heads
    if recipe.model.softmax == "off_by_one":
        kept += queries + rows  # the output before its share is taken, and the share
    context = recipe.parallel.context
    if context > 1:
        held = projection if head_norms and (lean or width == 4) else 0.0
        return kept + held + 2 * queries + 2 * keys * context + rows
    return kept + 2 * queries + keys + (projection if head_norms else keys) + rows


def _head_norms(recipe: Recipe, sizes: ActivationSizes, lean: bool) -> float:
    """Bytes that head norms save beside the projection, of which their inputs are slices.

    With grouped queries, the rows have no single stride: our kernel reads a copy.
    """
    vectors = recipe.model.norm_vectors
    learns = _norm_learns(recipe, "self_attn.q_norm")
    rows = 4 * vectors * (sizes.query_heads + sizes.key_heads)
    if lean:
        grouped = recipe.model.query_groups != recipe.model.heads
        return rows + (sizes.queries * sizes.width if grouped else 0.0)
    wide = (0 if sizes.width == 4 else 4) + (0 if vectors == 2 else 4 * learns)
    return rows + wide * (sizes.queries + sizes.keys)


def shared_kept(recipe: Recipe, device: Device) -> float:
    """Bytes that all layers of a micro-batch share: ids, rotations, attention intervals, masks."""
    sizes, model = ActivationSizes.of(recipe), recipe.model
    length = recipe.sequence_length
    places = recipe.batch.micro * length
    kept = sizes.tokens * (2 * 8 + 4 * model.head_width + 2 * 4) + places * (2 * 4 + 8)
    if device == "cpu" and recipe.kernels.attention != "triton":
        masks = len(set(model.windows))
        kept += masks * sizes.tokens * length * sizes.width  # those that SDPA reads there
    return kept


def final_norm_kept(recipe: Recipe, device: Device) -> float:
    """Bytes that the final norm saves itself; its output counts with the loss."""
    sizes = ActivationSizes.of(recipe)
    learns = recipe.lora is None or recipe.lora.saves("model.norm")
    return _norm(recipe, sizes, device == "cuda", float(learns))
