"""What metrics say of a run whose loss has terms beside the cross entropy."""

from pathlib import Path

import pytest

from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, train_here
from trainer.observe import read_metrics


def test_metrics_keep_the_plain_loss_beside_the_objective(tmp_path: Path, corpus: Path) -> None:
    """Catches a loss that cannot be compared with other runs', and terms in an evaluation."""
    plain = recipe_of(tmp_path / "plain", corpus, steps=2, evaluate__every=1)
    terms = {"loss__z": 0.1, "loss__label_smoothing": 0.2, "parallel__tensor": 2}
    run = recipe_of(tmp_path / "terms", corpus, steps=2, evaluate__every=1, **terms)
    assert on_ranks(1, train_here, plain) == [None]
    assert on_ranks(2, train_here, run) == [None, None]
    without, found = (read_metrics(Path(recipe.run)) for recipe in (plain, run))
    assert not any("objective" in name for record in without for name in record)
    # The first step reads weights that no term has moved yet.
    assert found[0]["loss"] == pytest.approx(without[0]["loss"], abs=1e-5)
    for record, other in zip(found, without, strict=True):
        # z-loss alone adds 0.1 * ln(384)^2 = 3.5 at the start.
        assert record["pretrain/objective"] > record["loss"] + 1.0
        # In one small step, terms move what is evaluated by far less than they add to the loss.
        assert record["eval/loss"] == pytest.approx(other["eval/loss"], abs=0.5)
