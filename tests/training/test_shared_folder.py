"""A run directory that not all ranks see is refused before the first step."""

from pathlib import Path

import pytest

import trainer.shared_folder
from tests.checkpoint.ranks import run_ranks
from tests.training.runs import recipe_of
from trainer.errors import ClusterError, RecipeError
from trainer.parallel.agreement import Ranks
from trainer.recipe import Recipe
from trainer.shared_folder import require_shared


def test_a_folder_that_one_rank_does_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches ranks on a local disk each, found at the first checkpoint, and ranks that hang."""
    monkeypatch.setattr(trainer.shared_folder, "_LOOKS", 1)
    runs = [tmp_path / "here", tmp_path / "there"]
    for run in runs:
        run.mkdir()

    def look(rank: int) -> str:
        require_shared(runs[0], Ranks())
        with pytest.raises(ClusterError) as failure:
            require_shared(runs[rank], Ranks())
        return str(failure.value)

    lines = run_ranks(2, look, tmp_path)
    assert lines[0].startswith("rank 1 on ") and "does not see what rank 0 writes" in lines[0]
    assert [list(run.iterdir()) for run in runs] == [[], []]


def test_a_run_is_no_address(tmp_path: Path) -> None:
    """Catches a folder named s3: in the working directory."""
    keys = recipe_of(tmp_path / "run", tmp_path).model_dump(mode="json")
    with pytest.raises(RecipeError, match=r"run: s3:// is no folder.*checkpoint\.copy_to"):
        Recipe.from_keys(keys | {"run": "s3://bucket/run"})
