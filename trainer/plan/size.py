"""How many parameters a model has, and what a step of training computes."""

from trainer.recipe.model import ModelSection
from trainer.recipe.shape import block_linears


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


def flops_per_token(model: ModelSection, sequence_length: int, vocab: int) -> float:
    """Floating-point operations of a training step per token: 6 N + 6 L H S.

    N matrix parameters, L layers, H = heads x head size, S sequence length; causal attention
    counted once (half of the full square), a layer with a window by what it sees (`keys_seen`),
    recomputation not counted (PaLM, appendix B, with the causal half).
    """
    seen = sum(keys_seen(sequence_length, window) for window in model.windows)
    attention = 12 * model.heads * model.head_width * seen
    return float(6 * matrix_parameters(model, vocab) + attention)
