"""A run that starts from another one's best checkpoint stays with the one that it was."""

from pathlib import Path

from tests.checkpoint.saving import save
from tests.training.runs import recipe_of
from trainer.checkpoint.best import BestCheckpoint, promote
from trainer.recipe import Recipe
from trainer.resume import starting_keys


def base_of(recipe: Recipe) -> str:
    """The name of the checkpoint that `init_from` resolves to."""
    return Path(starting_keys(recipe)["init_from"]).name


def test_a_resume_keeps_the_best_that_it_started_from(tmp_path: Path) -> None:
    """Catches a resume from another base, as the base's run has found a better one since."""
    base, run = tmp_path / "base", tmp_path / "run"
    for step in (1, 2):
        save(base, step)
    best = BestCheckpoint("eval/loss", "lower").promoted(1, 2.0)
    promote(base, best)
    recipe = recipe_of(run, tmp_path, init_from=str(base / "checkpoints" / "best"))
    assert base_of(recipe) == "step-00000001"
    resolved = recipe.model_copy(update=starting_keys(recipe))
    save(run, 1, attachments={"recipe.yaml": resolved.to_yaml().encode()})
    promote(base, best.promoted(2, 1.0))
    assert base_of(recipe) == "step-00000001"
    fresh = recipe_of(tmp_path / "fresh", tmp_path, init_from=str(base / "checkpoints" / "best"))
    assert base_of(fresh) == "step-00000002"
