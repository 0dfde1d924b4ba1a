"""The metadata of a GGUF file as a config.json."""

import logging
from typing import Any

from trainer.errors import CheckpointError
from trainer.gguf.metadata import Metadata
from trainer.gguf.rope import FactorTensors, read_rope
from trainer.hugging_face.config import FAMILIES

_log = logging.getLogger(__name__)

_USUAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("expert_count", "expert_used_count", "expert_shared_count"), (0,)),
    **dict.fromkeys(("nextn_predict_layers", "pooling_type", "full_attention_interval"), (0,)),
    **dict.fromkeys(("logit_scale", "residual_scale", "embedding_scale"), (0.0, 1.0)),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), (0.0,)),
    **{"use_parallel_residual": (False,), "attention.causal": (True,)},
    **dict.fromkeys(("attention.max_alibi_bias", "attention.clamp_kqv"), (0.0,)),
    **dict.fromkeys(("attention.scale", "attention.output_scale"), (0.0,)),
    **dict.fromkeys(("attention.temperature_scale", "attention.temperature_length"), (0.0,)),
    **dict.fromkeys(("attention.shared_kv_layers", "leading_dense_block_count"), (0,)),
}
"""Keys of an architecture that change what is computed, and the values at which they do not."""

_EPSILON = 1e-6
"""What transformers adds under the root of a norm where a configuration does not say it."""


def config_keys(
    metadata: Metadata, shapes: dict[str, tuple[int, ...]], factors: FactorTensors
) -> dict[str, Any]:
    """The keys of the config.json that a GGUF file's model has.

    `shapes`: of its tensors, by llama.cpp's names: how many rows the embedding has, how wide a head
    is, and whether there is an output head. Raises CheckpointError for what is not computed.
    """
    for key, usual in _USUAL.items():
        found = metadata.value(f"{{arch}}.{key}")
        if found is not None and found not in usual:
            raise CheckpointError(
                f"{metadata.path}: {metadata.architecture}.{key} is {found}, which is not computed"
                " here; choose another model"
            )
    layers = metadata.needed("{arch}.block_count")
    # Before anything is made for each of them: a damaged file may say billions.
    _row_of(metadata, shapes, f"blk.{max(layers, 1) - 1}.attn_norm.weight")
    heads = metadata.needed("{arch}.attention.head_count")
    groups = metadata.whole("{arch}.attention.head_count_kv") or heads
    width = _head_width(metadata, shapes, heads)
    positions = metadata.needed("{arch}.context_length")
    epsilon = metadata.number("{arch}.attention.layer_norm_rms_epsilon")
    if epsilon is None:
        _log.warning(
            "%s: says no attention.layer_norm_rms_epsilon; %g is taken, as transformers takes it",
            *(metadata.path, _EPSILON),
        )
    window = _windows(metadata, layers)
    family = metadata.architecture
    if family == "llama" and window["sliding_window"] is not None:
        family = "ministral" if "layer_types" in window else "mistral"
    if family == "llama":
        window = {}
    return {
        "architectures": [FAMILIES[family]],
        "model_type": family,
        "vocab_size": _row_of(metadata, shapes, "token_embd.weight")[0],
        "hidden_size": metadata.needed("{arch}.embedding_length"),
        "intermediate_size": metadata.needed("{arch}.feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": width,
        "hidden_act": "silu",
        "max_position_embeddings": positions,
        "rms_norm_eps": _EPSILON if epsilon is None else epsilon,
        "tie_word_embeddings": "output.weight" not in shapes,
        "rope_parameters": read_rope(metadata, width, positions, factors),
        **window,
        "bos_token_id": metadata.whole("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.whole("tokenizer.ggml.eos_token_id"),
        # What pads a batch there says nothing of a row that is not to learn.
        "pad_token_id": None,
    }


def say_what_is_unread(metadata: Metadata) -> None:
    """Warn of keys of the architecture, the tokenizer or sampling that nobody has read."""
    prefixes = (f"{metadata.architecture}.", "tokenizer.", "general.sampling.")
    if unread := metadata.unread(*prefixes):
        more = f" and {len(unread) - 8} more" if len(unread) > 8 else ""
        _log.warning(
            "%s: %d keys of its metadata are not read: %s%s",
            *(metadata.path, len(unread), ", ".join(unread[:8]), more),
        )


def _row_of(metadata: Metadata, shapes: dict[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    if name not in shapes:
        raise CheckpointError(
            f"{metadata.path}: holds no {name}, which a model of its metadata has; it is"
            " incomplete: fetch it again"
        )
    return shapes[name]


def _head_width(metadata: Metadata, shapes: dict[str, tuple[int, ...]], heads: int) -> int:
    """How wide a head is, by the rows of the queries; what the metadata says must agree."""
    rows = _row_of(metadata, shapes, "blk.0.attn_q.weight")[0]
    if not heads or rows % heads:
        raise CheckpointError(
            f"{metadata.path}: blk.0.attn_q.weight has {rows} rows for {heads} heads; fetch the"
            " file again"
        )
    width = rows // heads
    for key in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        said = metadata.whole(f"{{arch}}.{key}")
        if said not in (None, width):
            raise CheckpointError(
                f"{metadata.path}: {metadata.architecture}.{key} is {said} and a head is {width}"
                " wide, which is not computed here; choose another model"
            )
    metadata.value("{arch}.vocab_size")  # the embedding says it
    return width


def _windows(metadata: Metadata, layers: int) -> dict[str, Any]:
    """The keys of config.json for a sliding window, in all layers or by a list of them."""
    window = metadata.whole("{arch}.attention.sliding_window") or None
    pattern = metadata.value("{arch}.attention.sliding_window_pattern")
    if window is None or pattern is None:
        if window is not None and metadata.architecture != "llama":
            _log.warning(
                "%s: attention.sliding_window %d is not applied: nothing says in which layers",
                *(metadata.path, window),
            )
        return {"sliding_window": window if metadata.architecture == "llama" else None}
    if not isinstance(pattern, list) or len(pattern) != layers:
        raise CheckpointError(
            f"{metadata.path}: attention.sliding_window_pattern is {pattern!r}, and a list of one"
            f" truth value for each of the {layers} layers is read; choose another model"
        )
    kinds = ["sliding_attention" if local else "full_attention" for local in pattern]
    keys: dict[str, Any] = {"sliding_window": window, "layer_types": kinds}
    if metadata.architecture == "llama":
        return {"sliding_window": window} if all(pattern) else keys
    return keys | {"use_sliding_window": True}
