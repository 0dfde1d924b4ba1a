"""What is learned: each stage gives a batch stream and a loss over the model's output."""

from trainer.stages.pretrain import Pretraining
from trainer.stages.stage import Setting, Stage

__all__ = ["Setting", "Stage", "create_stage"]


def create_stage(setting: Setting) -> Stage:
    """The stage that the recipe names; collective. Raises DataError where its data won't do."""
    stage = setting.recipe.stage
    if stage == "sft":
        from trainer.stages.sft import FineTuning

        return FineTuning(setting)
    if stage == "preference":
        from trainer.stages.preference import Preference

        return Preference(setting)
    return Pretraining(setting)
