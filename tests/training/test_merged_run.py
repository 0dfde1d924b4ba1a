"""A merged checkpoint is trained from, resumed from, read and exported as any other."""

from pathlib import Path

from tests.parity.ranks import on_ranks
from tests.training.runs import losses, recipe_of, train_here
from trainer.checkpoint import CheckpointReader, list_checkpoints
from trainer.evaluate.opened import open_model
from trainer.hugging_face.exporting import export_command
from trainer.merging.command import merge_checkpoints
from trainer.recipe import Recipe


def chain(first: Recipe, resumed: Recipe, started: Recipe) -> list[object]:
    """Train, merge what was saved, go on from that in two ways, read and export it; on one rank."""
    done: list[object] = [train_here(first)]
    saved = [one.path for one in list_checkpoints(Path(first.run))]
    merged = merge_checkpoints(saved, None, Path(resumed.run))
    with open_model(merged, 1) as opened:
        done.append(opened.step)
    export_command(merged, Path(first.run) / "exported")
    return [*done, train_here(resumed), train_here(started), len(saved)]


def test_a_merged_checkpoint_goes_on_as_any_other(tmp_path: Path, corpus: Path) -> None:
    """Catches a resume that asks for moments which a mean has not, and weights that get lost."""
    keys = {"steps": 4, "checkpoint__every": 2}
    first = recipe_of(tmp_path / "first", corpus, **keys)
    resumed = recipe_of(tmp_path / "merged", corpus, **keys)
    started = recipe_of(
        tmp_path / "started",
        corpus,
        steps=4,
        init_from=str(tmp_path / "merged/checkpoints/step-00000000"),
    )
    assert on_ranks(1, chain, first, resumed, started) == [[None, 0, None, None, 2]]
    assert losses(resumed) == losses(started) != losses(first)
    last = list_checkpoints(tmp_path / "merged")[-1].path
    assert CheckpointReader(last).counters["updates"] == 4
    assert (tmp_path / "first" / "exported" / "model.safetensors").is_file()
