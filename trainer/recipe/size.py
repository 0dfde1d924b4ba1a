"""How many parameters a model has."""

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
