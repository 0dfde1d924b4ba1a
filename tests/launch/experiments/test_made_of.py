"""What an experiment has done is not taken for what it is asked now."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from launch.experiments.bias.pronouns import pronoun_suite
from launch.experiments.made_of import is_trained, require_made_of
from launch.experiments.measuring import measure
from launch.experiments.small_model import SmallModel, small_recipe
from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here, write_text
from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import saved_recipe
from trainer.errors import RecipeError
from trainer.evaluate.answering import ModelRespondent
from trainer.evaluate.opened import OpenedModel, reading_keys, reading_recipe
from trainer.evaluate.suites.suite import Suite, SuiteContext
from trainer.recipe import Recipe
from trainer.recipe.recipe import Precision


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two untrained models of other weights."""
    folder = tmp_path_factory.mktemp("bases")
    write_text(folder)
    runs = folder / "one", folder / "other"
    for seed, run in enumerate(runs):
        assert on_ranks(1, train_here, recipe_of(run, folder, steps=1, seed=seed)) == [None]
    return runs


def recipe(folder: Path, steps: int = 3, base: Path | None = None) -> Recipe:
    """A recipe of an experiment's run over a file of one document."""
    documents = folder / "documents.jsonl"
    if not documents.exists():
        documents.write_text('{"id": "a", "text": "b"}\n', encoding="utf-8")
    size = SmallModel(steps, 32, 2)
    made = small_recipe(folder / "run", documents, folder / "corpus", {}, 0, size)
    return made.model_copy(update={"init_from": None if base is None else str(base)})


def finish(one: Recipe) -> None:
    """Leave what a run leaves that has ended."""
    Path(one.run).mkdir(exist_ok=True)
    status = {"state": "done", "step": one.steps}
    (Path(one.run) / "status.json").write_text(json.dumps(status), encoding="utf-8")


def of_respondent(model: OpenedModel, respondent: ModelRespondent, suite: Suite) -> SuiteContext:
    """What the suite of pronouns needs."""
    return SuiteContext(respondent)


def test_a_finished_run_is_one_of_the_same_recipe_text_and_base(
    tmp_path: Path, bases: tuple[Path, Path]
) -> None:
    """Would catch figures of an old run under a new recipe, of which the steps are the same."""
    one, other = bases
    first = recipe(tmp_path, base=one)
    assert not is_trained(first)
    finish(first)
    assert is_trained(first), "negative control: the same is gone on with"
    with pytest.raises(RecipeError, match=r"run: .* another seed; delete the folder"):
        is_trained(first.model_copy(update={"seed": 5}))
    with pytest.raises(RecipeError, match="another init_from, checkpoints;"):
        is_trained(recipe(tmp_path, base=other))
    (tmp_path / "documents.jsonl").write_text('{"id": "a", "text": "c"}\n', encoding="utf-8")
    with pytest.raises(RecipeError, match="another files;"):
        is_trained(first)


def test_a_run_before_a_key_was_there_is_one_of_its_default(tmp_path: Path) -> None:
    """Would catch hours of training thrown away for a key that changes nothing of them."""
    first = recipe(tmp_path)
    assert not is_trained(first)
    finish(first)
    note = tmp_path / "run.made-of.json"
    keys = json.loads(note.read_bytes())
    del keys["loss"]["first_token_weight"]
    note.write_text(json.dumps(keys), encoding="utf-8")
    assert is_trained(first)
    keys["loss"] = {"a term that is gone": 1.0}  # negative control
    note.write_text(json.dumps(keys), encoding="utf-8")
    with pytest.raises(RecipeError, match="another loss;"):
        is_trained(first)


def test_a_deleted_folder_is_made_anew_and_an_unknown_one_is_not(tmp_path: Path) -> None:
    """Would catch a mend that does not mend, and a run of nobody knows what that is reported."""
    first = recipe(tmp_path)
    finish(first)
    with pytest.raises(RecipeError, match="nobody knows what"):
        is_trained(first)
    (tmp_path / "run" / "status.json").unlink()
    assert not is_trained(first)
    require_made_of(tmp_path / "blend", {"weights": [0.5, 0.5]}, [])
    require_made_of(tmp_path / "blend", {"weights": [0.2, 0.8]}, [])  # nothing is there yet


def test_another_checkpoint_is_asked_anew(tmp_path: Path, bases: tuple[Path, Path]) -> None:
    """Would catch a run retrained in its folder that keeps the figures of the one before."""
    suites, asked = [pronoun_suite()], list[str]()

    def advance(suite: str, done: int, items: int) -> None:
        asked.extend([suite] if done < items else [])

    def ask(checkpoint: Path, precision: Precision | None = None) -> str:
        asked.clear()
        limits = {"pronouns": 4}
        measure(checkpoint, suites, tmp_path, of_respondent, limits, advance, precision=precision)
        return (tmp_path / "pronouns.jsonl").read_text(encoding="utf-8")

    one, other = bases
    first = ask(one)
    assert asked
    assert ask(one) == first and not asked
    assert ask(other) != first and asked
    assert ask(one, "bf16") != first and asked


def test_ranks_that_answer_are_replicas(
    tmp_path: Path, bases: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch ranks that share one model, of which each waits while another answers."""

    def opened(checkpoint: Path, nproc: int, keys: Sequence[str] = ()) -> None:
        saved = saved_recipe(CheckpointReader(resolve_checkpoint(checkpoint)))
        raise Opened(reading_recipe(saved, nproc, reading_keys(keys)["parallel"]).parallel)

    monkeypatch.setattr("trainer.evaluate.opened.open_model", opened)
    monkeypatch.setattr("launch.experiments.measuring.result_on_ranks", lambda worker, _: worker())
    with pytest.raises(Opened) as layout:
        measure(bases[0], [pronoun_suite()], tmp_path, of_respondent, {}, nproc=2)
    (parallel,) = layout.value.args
    assert parallel.tensor == parallel.pipeline == 1


class Opened(Exception):
    """With the layout at which a model is opened."""
