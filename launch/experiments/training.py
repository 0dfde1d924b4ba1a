"""A run of an experiment: trained in this process, gone on with, and not made twice."""

from pathlib import Path

from launch.experiments.made_of import is_trained
from trainer.recipe import Recipe


def trained(recipe: Recipe) -> Path:
    """The run's folder, trained to its last step; a finished one of this recipe is left as it is.

    Raises what `trainer.loop.train` raises: StopRequested (exit code 75) goes on by the same call;
    and RecipeError where the folder has a run of another recipe, base or text.
    """
    if not is_trained(recipe):
        from trainer.loop import train

        train(recipe)
    return Path(recipe.run)
