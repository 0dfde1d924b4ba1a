"""How many parameters a model has, how many of them learn, and what a step of training computes.

Disk, memory and FLOPs follow from what learns: all weights, or adapters and what trains with them.
"""

from trainer.recipe.lora import LoraSection, adapter_shapes, saved_modules
from trainer.recipe.model import ModelSection
from trainer.recipe.shape import EMBEDDING, HEAD, block_linears, modules

_ROW_PARALLEL = frozenset(
    part
    for linear in block_linears(ModelSection(layers=1, hidden=2, heads=1, ffn=1))
    if linear.cut == "columns"
    for part in linear.parts
)


def parameter_count(model: ModelSection, vocab: int) -> dict[str, int]:
    """Parameters by part, for an embedding of `vocab` rows.

    `embedding`, `layers` (all of them, norms included), `norm` (the final one), `head` (0 where
    tied), and `total`.
    """
    linears = sum(linear.parameters for linear in block_linears(model))
    layer = linears + norm_parameters(model)
    parts = {
        "embedding": vocab * model.hidden,
        "layers": model.layers * layer,
        "norm": model.norm_vectors * model.hidden,
        "head": 0 if model.tied_embeddings else vocab * model.hidden,
    }
    return parts | {"total": sum(parts.values())}


def norm_parameters(model: ModelSection) -> int:
    """The parameters of one layer's norms."""
    channels = 2 * model.hidden + (2 * model.head_width if model.qk_norm else 0)
    return model.norm_vectors * channels


def keys_seen(sequence_length: int, window: int | None) -> float:
    """Keys that a token of a sequence sees on average, the causal half counted as S / 2.

    Through a window of w: w - w^2 / 2S, as the first w tokens see fewer.
    """
    width = sequence_length if window is None else min(window, sequence_length)
    return width - width * width / (2 * sequence_length)


def matrix_parameters(model: ModelSection, vocab: int) -> int:
    """The parameters that stand in matrix products: without norms and the input embedding.

    A tied embedding counts once, as the output layer. `vocab`: rows of the output layer.
    """
    layer = sum(linear.weights for linear in block_linears(model))
    return model.layers * layer + vocab * model.hidden


def module_parameters(model: ModelSection, vocab: int) -> dict[str, int]:
    """Parameters of every module with weights of its own, by our global name."""
    linears = {linear.name: linear.parameters for linear in block_linears(model)}
    found = {}
    for name, _theirs in modules(model):
        below = name.removeprefix("decoder.layers.").partition(".")[2]
        if below in linears:
            found[name] = linears[below]
        elif name in ("embedding.word_embeddings", "output_layer"):
            found[name] = vocab * model.hidden
        else:
            heads = below.startswith("self_attention.")
            found[name] = model.norm_vectors * (model.head_width if heads else model.hidden)
    return found


def adapter_count(
    model: ModelSection, vocab: int, lora: LoraSection | None, tensor: int = 1
) -> dict[str, float]:
    """Parameters of the adapters by part of the model, as `trained_count`."""
    found = dict.fromkeys(("embedding", "layers", "head"), 0.0)
    if lora is None:
        return found
    sized = model.model_copy(update={"vocab": vocab})
    for name, rank, inputs, outputs in adapter_shapes(lora, sized):
        # Of one matrix each tensor rank has its part, of the other all.
        by_inputs = name == EMBEDDING or name.rpartition(".")[2] in _ROW_PARALLEL
        ends = (inputs / tensor, outputs) if by_inputs else (inputs, outputs / tensor)
        part = {EMBEDDING: "embedding", HEAD: "head"}.get(name, "layers")
        found[part] += rank * sum(ends)
    return found


def trained_count(
    model: ModelSection, vocab: int, lora: LoraSection | None, tensor: int = 1
) -> dict[str, float]:
    """Parameters that learn, by part of the model, on one of `tensor` ranks.

    Without `lora` all; with it the adapters, and what trains whole beside them. Parts as in
    `parameter_count`.
    """
    if lora is None:
        count = parameter_count(model, vocab)
        return {part: number / tensor for part, number in count.items()}
    found = {"norm": 0.0, **adapter_count(model, vocab, lora, tensor)}
    whole = saved_modules(lora, model)
    for name, number in module_parameters(model, vocab).items():
        if name in whole:
            found[_part(name)] += number / tensor
    return found | {"total": sum(found.values())}


def trained_matrices(model: ModelSection, vocab: int, lora: LoraSection | None) -> tuple[int, int]:
    """(matrix parameters of the base that learn, all of the adapters'), for their FLOPs.

    Of an embedding's adapter only B stands in a product.
    """
    linears = {linear.name: linear.weights for linear in block_linears(model)}
    everywhere = {
        f"decoder.layers.{layer}.{name}": weights
        for layer in range(model.layers)
        for name, weights in linears.items()
    }
    head = "embedding.word_embeddings" if model.tied_embeddings else "output_layer"
    everywhere[head] = vocab * model.hidden
    if lora is None:
        return sum(everywhere.values()), 0
    whole = saved_modules(lora, model)
    sized = model.model_copy(update={"vocab": vocab})
    adapters = sum(
        rank * (outputs if name == EMBEDDING else inputs + outputs)
        for name, rank, inputs, outputs in adapter_shapes(lora, sized)
    )
    return sum(weights for name, weights in everywhere.items() if name in whole), adapters


def flops_per_token(
    model: ModelSection, sequence_length: int, vocab: int, lora: LoraSection | None = None
) -> float:
    """Floating-point operations of a training step per token: 4 N + 2 T + 6 A + 6 L H S.

    N matrix parameters of the model, each in a product forward and in one for its input's
    gradient; T of them those that learn, in a third for their own gradient (without `lora` T = N:
    6 N); A those of adapters. L layers, H = heads x head size, S sequence length; causal attention
    counted once (half of the full square), a layer with a window by what it sees (`keys_seen`),
    recomputation not counted (PaLM, appendix B, with the causal half).
    """
    seen = sum(keys_seen(sequence_length, window) for window in model.windows)
    attention = 12 * model.heads * model.head_width * seen
    trained, adapters = trained_matrices(model, vocab, lora)
    products = 4 * matrix_parameters(model, vocab) + 2 * trained + 6 * adapters
    return float(products + attention)


def _part(name: str) -> str:
    if name.startswith("decoder.layers."):
        return "layers"
    return {"embedding.word_embeddings": "embedding", "output_layer": "head"}.get(name, "norm")
