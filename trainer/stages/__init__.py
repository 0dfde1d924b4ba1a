"""What is learned: each stage gives a batch stream and a loss over the model's output."""

from trainer.errors import DataError
from trainer.stages.next_token import Pretraining
from trainer.stages.stage import Stage, StageParts

__all__ = ["Stage", "StageParts", "create_stage"]


def create_stage(parts: StageParts) -> Stage:
    """The stage that the recipe names; collective. Raises DataError where its data won't do."""
    stage = parts.recipe.stage
    if parts.recipe.evaluate.every and stage != "pretrain":
        _check_held_out(parts)
    if stage == "sft":
        from trainer.stages.next_token import FineTuning

        return FineTuning(parts)
    if stage == "preference":
        from trainer.stages.preference import Preference

        return Preference(parts)
    return Pretraining(parts)


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
