"""The stages of training: each one provides a batch stream and a loss on the model's output."""

from collections.abc import Callable
from importlib import import_module

from trainer.errors import DataError
from trainer.stages.stage import Stage, StageParts

__all__ = ["Stage", "StageParts", "create_stage"]


def create_stage(parts: StageParts) -> Stage:
    """The stage that the recipe names; collective. Raises DataError for unsuitable data."""
    traits = parts.recipe.stage_traits
    if parts.recipe.evaluate.every and traits.reads_sets:
        _check_held_out(parts)
    module, _, name = traits.implementation.rpartition(".")
    make: Callable[[StageParts], Stage] = getattr(import_module(module), name)
    return make(parts)


def _check_held_out(parts: StageParts) -> None:
    """Raise DataError at once where the first evaluation would find nothing to measure."""
    sources = parts.sources
    for folder, manifest in zip(sources.folders, sources.manifests, strict=True):
        if "validation" not in manifest.splits:
            source = manifest.provenance.get("settings", {}).get("source", folder)
            raise DataError(
                f"{source}: no example is held out to evaluate on; raise conversations.validation,"
                " or set evaluate.every=0"
            )
