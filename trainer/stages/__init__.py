"""The stages of training: each one provides a batch stream and a loss on the model's output."""

from collections.abc import Callable
from importlib import import_module

from trainer.errors import DataError
from trainer.stages.stage import Stage, StageParts

__all__ = ["Stage", "StageParts", "create_stage"]


def create_stage(parts: StageParts) -> Stage:
    """The stage that the recipe names; collective. Raises DataError for unsuitable data."""
    traits = parts.recipe.stage_traits
    every = parts.recipe.evaluate.every
    if every and (traits.reads_sets or every <= parts.recipe.steps):
        _check_held_out(parts)
    module, _, name = traits.implementation.rpartition(".")
    make: Callable[[StageParts], Stage] = getattr(import_module(module), name)
    return make(parts)


def _check_held_out(parts: StageParts) -> None:
    """Raise DataError at once where the first evaluation would find nothing to measure."""
    sources = parts.sources
    for folder, manifest in zip(sources.folders, sources.manifests, strict=True):
        held_out = manifest.splits.get("validation")
        if held_out is not None and held_out.documents:
            continue
        settings = manifest.provenance.get("settings", {})
        if manifest.marked:
            what, key = f"{settings.get('source', folder)}: no example", "conversations.validation"
        elif "text" in settings:  # WebDataset's tars
            what, key = f"{settings['source']}: no text", "data.mixture's validation"
        else:
            what, key = f"{folder}: no text", "corpus.validation"
        raise DataError(f"{what} is held out to evaluate on; raise {key}, or set evaluate.every=0")
