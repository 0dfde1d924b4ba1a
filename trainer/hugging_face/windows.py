"""`model.window` and `model.window_pattern`, from and to the keys of a config.json.

transformers' `sliding_window` counts as `model.window` does: the tokens that a token sees at most,
itself included.
"""

from typing import Any, Literal

from trainer.errors import CheckpointError
from trainer.recipe.model import ModelSection

KEYS = ("sliding_window", "use_sliding_window", "max_window_layers", "layer_types")
"""The keys of config.json that say which layers see how far."""

LAYER_TYPES: dict[str, Literal["local", "global"]] = {
    "sliding_attention": "local",
    "full_attention": "global",
}
"""Values of `model.window_pattern` by those of transformers' `layer_types`."""

Pattern = tuple[Literal["local", "global"], ...]


def read_window(family: str, config: Any, where: str) -> tuple[int | None, Pattern | None]:
    """`model.window` and `model.window_pattern`; None: all layers see the whole document.

    `config`: as transformers resolves it. Raises CheckpointError where transformers
    computes no such layers, or does so in one way only; `where`: the file, for errors.
    """
    window: int | None = getattr(config, "sliding_window", None)
    if window is not None and window < 1:
        raise CheckpointError(
            f"{where}: sliding_window is {window}; set it to null where layers see everything"
        )
    types = getattr(config, "layer_types", None) or []
    if unknown := sorted(set(types) - set(LAYER_TYPES)):
        raise CheckpointError(
            f"{where}: layer_types names {', '.join(unknown)}, and {', '.join(LAYER_TYPES)} are"
            " computed; choose another model"
        )
    pattern = tuple(LAYER_TYPES[kind] for kind in types)
    if family in ("mistral", "llama"):
        return _of_all_layers(family, window, pattern, where), None
    if family == "ministral" and window is None:
        raise CheckpointError(
            f"{where}: sliding_window is null, and transformers computes no ministral without a"
            " window; set one, or model_type to mistral"
        )
    if "local" not in pattern:
        return None, None
    if window is None:
        raise CheckpointError(
            f"{where}: layer_types names sliding_attention, and there is no window: set"
            " sliding_window and use_sliding_window, or name full_attention alone"
        )
    return window, _shortest(pattern)


def _of_all_layers(family: str, window: int | None, pattern: Pattern, where: str) -> int | None:
    """The window of a family whose layers are all of one kind."""
    expected = "local" if family == "mistral" and window is not None else "global"
    if set(pattern) - {expected}:
        raise CheckpointError(
            f"{where}: layer_types names layers of another kind, which transformers'"
            f" {family} does not compute; leave it out, or use a family with windows in some layers"
            " (ministral, qwen2, qwen3)"
        )
    if family == "llama" and window is not None:
        raise CheckpointError(
            f"{where}: sliding_window is {window}, which transformers' llama applies to its cache"
            " but not to its attention; set it to null, or model_type to mistral"
        )
    return window


def _shortest(pattern: Pattern) -> Pattern | None:
    """The shortest pattern whose repetition begins with this one; None where all are local."""
    for length in range(1, len(pattern)):
        if all(kind == pattern[layer % length] for layer, kind in enumerate(pattern)):
            pattern = pattern[:length]
            break
    return None if pattern == ("local",) else pattern


def window_keys(family: str, model: ModelSection) -> dict[str, Any]:
    """The keys of config.json for `model.window` and `model.window_pattern`."""
    if model.window is None:
        return {} if family == "llama" else {"sliding_window": None}
    keys: dict[str, Any] = {"sliding_window": model.window}
    if family == "mistral":
        return keys
    types = {ours: theirs for theirs, ours in LAYER_TYPES.items()}
    kinds = [types["local" if window is not None else "global"] for window in model.windows]
    if family == "ministral":
        return keys | {"layer_types": kinds}
    # Both spellings: older readers know only the number of layers with full attention.
    full = kinds.count(types["global"])
    return keys | {"use_sliding_window": True, "max_window_layers": full, "layer_types": kinds}
