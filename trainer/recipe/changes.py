"""Which differences between two recipes change what is learned."""

import hashlib
import json
from typing import Any

from trainer.addresses import without_secrets
from trainer.recipe.own_samples import OWN_SETS
from trainer.recipe.own_sets import OWN, own_key_of, own_sections, own_set_of
from trainer.recipe.recipe import Recipe

_LEARNING = (
    *("model", "data", "corpus", "tokenizer", "seed", "batch", "optimizer"),
    *("sequence_length", "precision", "stage", "loss", "conversations", "preference", "lora"),
    *("added_tokens", "added_special_tokens", "reinforce"),
)
_SPEED_ONLY = {
    *("data.workers", "data.prefetch", "batch.micro"),
    *("corpus.path", "corpus.workers", "corpus.anonymous", "conversations.shard_tokens"),
}
_TOLD_BY_MIXTURE = {f"conversations.{name}.weight" for name in OWN_SETS}
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


def learning_digest(recipe: Recipe) -> str:
    """24 hex digits that follow from every key that changes what is learned."""
    keys = json.dumps(_learning_keys(recipe), sort_keys=True, default=str)
    return hashlib.sha256(keys.encode()).hexdigest()[:24]


def _learning_keys(recipe: Recipe) -> dict[str, object]:
    keys = _flat({name: recipe.model_dump()[name] for name in _LEARNING})
    # A signature ends before a long run does.
    keys["data.mixture"] = [
        {**entry.model_dump(), "corpus": _bare(entry.corpus)} for entry in recipe.data.mixture
    ]
    for name in own_sections(recipe):
        keys[f"conversations.{name}.questions' content"] = own_key_of(recipe, name)
    if recipe.corpus is not None:
        keys["corpus.files"] = [without_secrets(file) for file in recipe.corpus.files]
    return {
        name: value
        for name, value in keys.items()
        if name not in _SPEED_ONLY | _TOLD_BY_MIXTURE and not name.startswith(_PLACES_ONLY)
    }


def _bare(corpus: str) -> str:
    """An entry's corpus, of the run's own sets without what follows from what they ask."""
    name = own_set_of(corpus)
    return without_secrets(corpus) if name is None else f"{OWN}{name}"


def _flat(keys: dict[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in keys.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
