"""`recompute: auto` in a real run: one rank measures, all do the same, and the recipe keeps it."""

import logging
from pathlib import Path

import pytest

import trainer.plan.recompute_choice
from tests.parity.ranks import on_ranks
from tests.training.runs import losses, recipe_of, train_here
from trainer.plan.memory import memory
from trainer.recipe import Recipe

VOCAB = 384


def in_little_memory(recipe: Recipe, room: float) -> list[str]:
    """Train on a device that has only `room` bytes; what was said of the choice."""
    said: list[str] = []
    choice = trainer.plan.recompute_choice
    choice.device_memory = lambda _: room
    choice._log.setLevel(logging.INFO)
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    choice._log.addHandler(handler)
    assert train_here(recipe) is None
    return said


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_choice_is_shared_kept_and_changes_nothing(
    tmp_path: Path, corpus: Path, ranks: int
) -> None:
    """Catches ranks that recompute unlike things, and a choice that leaves no trace."""
    keys = {"steps": 3, "evaluate__every": 0, "checkpoint__every": 0}
    plain = recipe_of(tmp_path / "plain", corpus, **keys)
    most = memory(plain, ranks, VOCAB, "cpu").peak
    least = memory(plain.model_copy(update={"recompute": "full"}), ranks, VOCAB, "cpu").peak
    auto = recipe_of(tmp_path / "auto", corpus, recompute="auto", **keys)
    room = (most + least) / 2
    said = on_ranks(ranks, in_little_memory, auto, room)
    assert [len(lines) for lines in said] == [1] + [0] * (ranks - 1), "one measures, for all"
    assert said[0][0].startswith("recompute: auto takes ")
    saved = tmp_path / "auto" / "recipe.yaml"
    chosen = Recipe.from_yaml(saved.read_text(encoding="utf-8"))
    assert chosen.recomputed and chosen.recompute != "auto"
    assert memory(chosen, ranks, VOCAB, "cpu").peak <= room
    assert on_ranks(ranks, train_here, plain) == [None] * ranks
    assert losses(auto) == losses(plain)


def test_too_little_memory_is_said(tmp_path: Path, corpus: Path) -> None:
    """Catches a run that goes on to an out-of-memory error without a word."""
    keys = {"steps": 1, "evaluate__every": 0, "checkpoint__every": 0}
    auto = recipe_of(tmp_path / "auto", corpus, recompute="auto", **keys)
    _choice, warning = on_ranks(1, in_little_memory, auto, 1000.0)[0]
    assert warning.startswith("batch.micro: 2 sequences need about")
