"""Which differences between two recipes change what is learned."""

from typing import Any

from trainer.recipe.recipe import Recipe

_LEARNING = (
    *("model", "data", "corpus", "tokenizer", "seed", "batch", "optimizer"),
    *("sequence_length", "precision", "stage", "loss", "conversations", "preference", "lora"),
    *("added_tokens", "added_special_tokens"),
)
_SPEED_ONLY = {
    *("data.workers", "data.prefetch", "batch.micro"),
    *("corpus.path", "corpus.workers", "corpus.anonymous", "conversations.shard_tokens"),
}
_PLACES_ONLY = ("data.remote.", "corpus.slurm")


def learning_changes(old: Recipe, new: Recipe) -> list[tuple[str, object, object]]:
    """The dotted keys that change what is learned, with their old and new values.

    Micro-batch, workers and paths are left out: by contract they do not change the curve. The
    schedule may change too: a run is prolonged by more steps.
    """
    before, after = _learning_keys(old), _learning_keys(new)
    names = dict.fromkeys((*before, *after))
    return [
        (name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]


def _learning_keys(recipe: Recipe) -> dict[str, object]:
    keys = _flat({name: recipe.model_dump()[name] for name in _LEARNING})
    return {
        name: value
        for name, value in keys.items()
        if name not in _SPEED_ONLY and not name.startswith(_PLACES_ONLY)
    }


def _flat(keys: dict[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in keys.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
