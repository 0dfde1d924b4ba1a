"""A run goes on from what is good, says why, and loses no evidence of what was not."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import trainer.checkpoint.background
from tests.parity.ranks import on_ranks
from tests.training.runs import losses, recipe_of, train_here, write_text
from trainer.checkpoint import latest_checkpoint, list_checkpoints
from trainer.checkpoint.marks import mark_unsettled
from trainer.cli import main
from trainer.observe import read_metrics, read_status
from trainer.recipe import Recipe

KEYS = {"checkpoint__every": 2, "steps": 6}


def train(recipe: Recipe, ranks: int = 1, force: bool = False) -> list[tuple[str, str] | None]:
    """Train on warm ranks; what each ended with."""
    return on_ranks(ranks, train_here, recipe, force)


def flip(path: Path) -> None:
    """Alter the last byte of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def log_of(run: Path) -> str:
    """What the first rank logged."""
    return (run / "logs" / "rank-0.log").read_text()


def test_damage_is_told_and_the_one_before_is_taken(tmp_path: Path, corpus: Path) -> None:
    """Catches a run that one bad sector ends, or that begins anew without a word."""
    whole = recipe_of(tmp_path / "whole", corpus, **KEYS)
    assert train(whole, 2) == [None, None]
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS)
    train(recipe, 2)
    newest = latest_checkpoint(tmp_path / "run")
    assert newest is not None and newest.name == "step-00000006"
    flip(newest / "tokenizer" / "tokenizer.json")  # all that a resume reads is hashed first
    damaged = (newest / "tokenizer" / "tokenizer.json").read_bytes()
    assert train(recipe, 2) == [None, None]
    assert losses(recipe) == losses(whole)
    text = log_of(tmp_path / "run")
    assert "tokenizer.json was altered (its sha256 differs); the checkpoint before it" in text
    assert "resuming from" in text and "step-00000004: the newest good checkpoint" in text
    (aside,) = (tmp_path / "run" / "checkpoints").glob("step-00000006.damaged-*")
    assert (aside / "tokenizer" / "tokenizer.json").read_bytes() == damaged
    replaced = (tmp_path / "run" / "metrics-replaced.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in replaced] == [5, 6]


def test_a_tokenizer_that_was_altered_beside_its_corpus_is_named(tmp_path: Path) -> None:
    """Catches a resume that reads another template, or end of a text, than it began with."""
    write_text(tmp_path)
    recipe = recipe_of(tmp_path / "run", tmp_path, steps=1)
    assert train(recipe) == [None]
    tokenizer = tmp_path / "shards" / "tokenizer"
    config = tokenizer / "tokenizer_config.json"
    whole = config.read_bytes()
    config.write_bytes(whole + b"\n")
    ((kind, line),) = filter(None, train(recipe))
    assert kind == "DataError" and "tokenizer_config.json was altered" in line
    config.unlink()
    ((kind, line),) = filter(None, train(recipe))
    assert kind == "DataError" and "tokenizer_config.json is missing" in line
    config.write_bytes(whole)
    (tokenizer / "chat_template.jinja").write_text("{{ messages }}")
    ((kind, line),) = filter(None, train(recipe))
    assert kind == "DataError" and "chat_template.jinja was not there" in line
    (tokenizer / "chat_template.jinja").unlink()
    assert train(recipe) == [None]


def test_where_all_are_damaged_the_run_does_not_begin_anew_unasked(
    tmp_path: Path, corpus: Path
) -> None:
    """Catches a month of training written over from step 1."""
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS)
    train(recipe)
    for one in list_checkpoints(tmp_path / "run"):
        flip(one.path / "rank-00000.safetensors")
    ((kind, line),) = filter(None, train(recipe))
    assert kind == "CheckpointError"
    assert "none of its 3 checkpoints can be read" in line and "resume=never" in line
    assert [record["step"] for record in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    anew = recipe_of(tmp_path / "run", corpus, **KEYS, resume="never")
    assert train(anew) == [None]
    assert len(losses(anew)) == 6


def test_a_run_goes_on_from_what_has_settled(tmp_path: Path, corpus: Path) -> None:
    """Catches a resume from weights behind which no step was seen, and one that does not say so."""
    whole = recipe_of(tmp_path / "whole", corpus, **KEYS)
    train(whole)
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS)
    train(recipe)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert list(checkpoints.glob("*.unsettled")) == [], "the last one is good at once"
    mark_unsettled(checkpoints, 6)
    assert train(recipe) == [None]
    assert losses(recipe) == losses(whole)
    text = log_of(tmp_path / "run")
    assert "step-00000004: the newest good checkpoint (step-00000006 has not settled" in text


def test_nothing_is_saved_while_steps_are_skipped(tmp_path: Path, corpus: Path) -> None:
    """Catches a checkpoint of the moment in which a run was spoilt, and one that is never made up.

    Of six steps 4 and 5 are skipped: the checkpoint of step 4 waits for step 6.
    """
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS | {"checkpoint__save_final": False})
    assert on_ranks(1, train_skipping, recipe, (4, 5), 7) == [None]
    assert [record["skipped"] for record in read_metrics(tmp_path / "run")] == [
        *(False, False, False, True, True, False, False)
    ]
    saved = [one.step for one in list_checkpoints(tmp_path / "run")]
    assert saved == [2, 6]
    assert "step 4 is not saved, as it was skipped" in log_of(tmp_path / "run")


def train_skipping(recipe: Recipe, skipped: tuple[int, ...], steps: int) -> object:
    """Train with gradients that are not finite in some steps."""
    from trainer.run import Run

    inner = Run.forward_backward

    def forward_backward(run: Run, *rest: object) -> object:
        found = inner(run, *rest)  # type: ignore[arg-type]
        if run.step + 1 in skipped:
            for chunk in run.chunks:
                for parameter in chunk.parameters():
                    assert parameter.grad is not None
                    parameter.grad.fill_(float("nan"))
        return found

    Run.forward_backward = forward_backward  # type: ignore[assignment,method-assign]
    return train_here(recipe.model_copy(update={"steps": steps}))


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, corpus: Path) -> None:
    """Catches a checkpoint of NaN that rotates the good ones away."""
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS)
    ((kind, line),) = filter(None, on_ranks(1, train_spoilt, recipe, 4))
    assert kind == "NotFiniteError"
    assert "not finite after step 4" in line and "are not saved" in line
    assert [one.step for one in list_checkpoints(tmp_path / "run")] == [2]
    status = read_status(tmp_path / "run") or {}
    assert (status["state"], status["exit_code"]) == ("failed", 4)


def train_spoilt(recipe: Recipe, after: int, saved: bool = False) -> object:
    """Train with one weight infinite behind the update of a step; `saved`: and save it unseen."""
    from trainer.run import Run

    inner = Run.update

    def update(run: Run) -> object:
        found = inner(run)
        if run.step + 1 == after:
            with torch.no_grad():
                next(run.chunks[0].parameters()).view(-1)[0] = float("inf")
        return found

    Run.update = update  # type: ignore[assignment,method-assign]
    if saved:
        trainer.checkpoint.background.all_finite = lambda tensors: True
    return train_here(recipe)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A run whose only checkpoint holds a weight that is not finite."""
    run = tmp_path_factory.mktemp("spoilt") / "run"
    assert on_ranks(1, train_spoilt, recipe_of(run, corpus, steps=1), 1, True) == [None]
    return run


def test_weights_that_are_not_finite_are_seen_on_load(
    tmp_path: Path, spoilt: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches figures, or a training, of a model that is not a number."""
    again = tmp_path / "again"
    shutil.copytree(spoilt, again)
    ((kind, line),) = filter(None, train(recipe_of(again, corpus, steps=2)))
    assert kind == "NotFiniteError" and "not finite" in line and "model/" in line
    assert main(["evaluate", str(spoilt), "--suite", "perplexity"]) == 4
    assert "not finite" in capsys.readouterr().err


def test_a_run_that_went_back_goes_on_with_its_new_course(tmp_path: Path, corpus: Path) -> None:
    """Catches a curve of two halves: the new course's steps, then the old one's weights."""
    recipe = recipe_of(tmp_path / "run", corpus, **KEYS, schedule__length=6)
    train(recipe)
    back = str(tmp_path / "run" / "checkpoints" / "step-00000002")
    keys = KEYS | {"steps": 3, "schedule__length": 6}
    assert train(recipe_of(tmp_path / "run", corpus, **keys, resume=back)) == [None]
    assert "gives up step-00000004, step-00000006" in log_of(tmp_path / "run")
    assert (latest_checkpoint(tmp_path / "run") or Path()).name == "step-00000003"
    assert train(recipe) == [None]
    assert len(losses(recipe)) == 6
    listed = list_checkpoints(tmp_path / "run")
    assert [one.problem for one in listed if one.step > 3] == [None, None], "the new course's own"
