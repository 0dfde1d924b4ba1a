"""How many parameters a model has, and what a step of training computes."""

from trainer.recipe.model import ModelSection


def parameter_count(model: ModelSection, vocab: int) -> dict[str, int]:
    """Parameters by part, for an embedding of `vocab` rows.

    `embedding`, `layers` (all of them, norms included), `norm` (the final one), `head` (0 where
    tied), and `total`.
    """
    query = model.heads * model.head_width
    key_value = model.query_groups * model.head_width
    attention = model.hidden * (query + 2 * key_value) + query * model.hidden
    if model.qkv_bias:
        attention += query + 2 * key_value
    norms = 2 * model.hidden + (2 * model.head_width if model.qk_norm else 0)
    layer = attention + 3 * model.hidden * model.ffn + norms
    parts = {
        "embedding": vocab * model.hidden,
        "layers": model.layers * layer,
        "norm": model.hidden,
        "head": 0 if model.tied_embeddings else vocab * model.hidden,
    }
    return parts | {"total": sum(parts.values())}


def matrix_parameters(model: ModelSection, vocab: int) -> int:
    """The parameters that stand in matrix products: without norms and the input embedding.

    A tied embedding counts once, as the output layer. `vocab`: rows of the output layer.
    """
    queries = model.heads * model.head_width
    keys = model.query_groups * model.head_width
    attention = 2 * model.hidden * queries + 2 * model.hidden * keys
    return model.layers * (attention + 3 * model.hidden * model.ffn) + vocab * model.hidden


def flops_per_token(model: ModelSection, sequence_length: int, vocab: int) -> float:
    """Floating-point operations of a training step per token: 6 N + 6 L H S.

    N matrix parameters, L layers, H = heads x head size, S sequence length; causal attention
    counted once (half of the full square), recomputation not counted (PaLM, appendix B, with the
    causal half).
    """
    attention = 6 * model.layers * model.heads * model.head_width * sequence_length
    return float(6 * matrix_parameters(model, vocab) + attention)
