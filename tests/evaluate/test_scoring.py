"""How likely a text is follows from the model and the text alone."""

from typing import Any

import pytest

from tests.evaluate.scores import LENGTH, requests_of, score, score_plainly
from tests.evaluate.writing import ROWS
from tests.parity.ranks import on_ranks
from trainer.evaluate.respondent import Likelihood, Unanswered

LAYOUTS: list[dict[str, Any]] = [
    {"tensor": 4},
    {"tensor": 2, "pipeline": 2},
    {"pipeline": 2, "virtual": 2},
    {"context": 2, "tensor": 2, "sequence": True},
    {"context": 2, "pipeline": 2},
]
WITHIN = 1e-4
"""Nats: sums of fp32 in another order; a wrong token seen changes them by tenths."""


def assert_alike(found: dict[int, Any], expected: dict[int, Likelihood]) -> None:
    assert found.keys() == expected.keys()
    for number, answer in expected.items():
        assert found[number].nats == pytest.approx(answer.nats, abs=WITHIN), number
        assert found[number].greedy == answer.greedy, number


def test_shared_beginnings_change_no_likelihood() -> None:
    """Catches a branch that sees another one, a stem at wrong positions, and lost answers."""
    assert_alike(on_ranks(1, score, [{}])[0][0], on_ranks(1, score_plainly)[0])


def test_every_layout_finds_the_same() -> None:
    """Catches logits, slices or replicas' parts that are put together wrongly."""
    expected = on_ranks(1, score_plainly)[0]
    for answers in on_ranks(4, score, LAYOUTS):
        for found in answers:
            assert_alike(found, expected)


def test_windows_and_rotations_by_length_are_those_of_the_text() -> None:
    """Catches a stem whose keys are turned for a text of another length, or seen too far."""
    window = {"window": 4, "window_pattern": ["local", "local", "global"]}
    scaling = {"rope_scaling": {"type": "dynamic", "factor": 4.0, "original_context": 60}}
    for model in (window, scaling):
        expected = on_ranks(1, score_plainly, model)[0]
        assert_alike(on_ranks(1, score, [{}], model)[0][0], expected)
        assert_alike(on_ranks(2, score, [{"context": 2}], model)[1][0], expected)


def test_what_cannot_be_scored_is_said_and_loses_no_other() -> None:
    """Catches a request that ends the run, or is cut without a word."""
    requests = [
        *[([1] * LENGTH, [2, 3]), ([1, ROWS], [2]), ([], [2]), ([1], []), ([-1], [2])],
        ([1] * LENGTH, [3]),
    ]
    (found,) = on_ranks(1, score, [{}], None, requests)[0]
    assert found[0] == Unanswered(f"too long: {LENGTH + 1:,} tokens of {LENGTH:,}")
    assert found[1] == Unanswered(f"token {ROWS}, and the model's embedding has {ROWS} rows")
    assert all(isinstance(found[number], Unanswered) for number in range(5))
    assert isinstance(found[5], Likelihood)


def test_requests_are_of_every_kind() -> None:
    """The plan's branches are all met: a stem, a stem in pieces, rows of several texts."""
    from trainer.evaluate.prefixes import PrefixPlan

    texts = sorted((*context, *continuation[:-1]) for context, continuation in requests_of())
    passes = list(PrefixPlan(texts, 2048).passes())
    assert any(one.extends and len(one.texts) > 1 for one in passes)
    assert any(one.extends and len(one.texts) == 1 for one in passes)
    assert any(branch.path for one in passes for row in one.rows for branch in row.branches)
    assert max(one.stem for one in passes) >= 1
