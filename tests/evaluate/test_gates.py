"""Gates: a figure passes or not, by how much, and what its interval says of that."""

import math
from typing import Literal

import pytest

from trainer.errors import RecipeError
from trainer.evaluate.gates import check_gates, require_figures
from trainer.evaluate.intervals import Figure
from trainer.evaluate.respondent import NOT_FINITE
from trainer.evaluate.suite_result import SuiteResult
from trainer.recipe.gates import parse_gate


def figure(
    value: float, better: Literal["higher", "lower"] | None = "lower", half: float = 0.05
) -> Figure:
    return Figure(value, 100, value - half, value + half, better=better)


def verdict_on(
    gate: str,
    value: Figure | None,
    base: Figure | None = None,
    failed: dict[str, int] | None = None,
) -> tuple[bool, str]:
    result = SuiteResult({} if value is None else {"b": value}, 5, failed or {})
    of_base = {} if base is None else {"a/b": base}
    (verdict,) = check_gates([parse_gate(gate, "test")], {"a": result}, of_base)
    assert (verdict.beyond > 0) <= (not verdict.passed)
    return verdict.passed, verdict.line


@pytest.mark.parametrize(
    ("gate", "passing"),
    [
        ("a/b < 0.5", [True, False, False]),
        ("a/b <= 0.5", [True, True, False]),
        ("a/b > 0.5", [False, False, True]),
        ("a/b >= 0.5", [False, True, True]),
    ],
)
def test_the_figure_decides(gate: str, passing: list[bool]) -> None:
    """Catches a sign turned round, and an interval that decides: it holds the limit each time."""
    assert [verdict_on(gate, figure(v, half=0.2))[0] for v in (0.4, 0.5, 0.6)] == passing


def test_a_verdict_says_by_how_much() -> None:
    """Catches "failed" without the distance, the interval, or what the interval means."""
    assert verdict_on("a/b < 0.2", figure(0.412)) == (
        False,
        "a/b is 0.412 [0.362, 0.462], above 0.2 by 0.212",
    )
    assert verdict_on("a/b < 0.2", figure(0.22))[1] == (
        "a/b is 0.22 [0.17, 0.27], above 0.2 by 0.02 (within its interval)"
    )
    assert verdict_on("a/b >= 0.5", figure(0.75)) == (
        True,
        "a/b is 0.75 [0.7, 0.8], above 0.5 by 0.25",
    )
    assert verdict_on("a/b < 0.5", figure(0.5, half=math.nan)) == (
        False,
        "a/b is 0.5, just 0.5, and asked is <",
    )


@pytest.mark.parametrize(
    ("better", "passing"),
    [
        ("lower", [True, True, True, False]),
        ("higher", [False, True, True, True]),
        (None, [False, True, True, False]),
    ],
)
def test_only_worse_than_the_base_fails(
    better: Literal["higher", "lower"] | None, passing: list[bool]
) -> None:
    """Catches a model refused for being better, and a fraction of the figure, not of the base."""
    base = figure(2.0, better)
    values = (1.9, 1.99, 2.019, 2.03)
    assert [verdict_on("a/b within 1%", figure(v, better), base)[0] for v in values] == passing


def test_a_verdict_on_the_base_says_both() -> None:
    """Catches a line without the base's figure, or with a distance from the limit alone."""
    base = figure(2.0)
    assert verdict_on("a/b within 1%", figure(2.1, half=0.01), base) == (
        False,
        "a/b is 2.1 [2.09, 2.11], 5.00% worse than the base's 2; allowed is 1%",
    )
    assert verdict_on("a/b within 1%", figure(1.5, half=0.01), base) == (
        True,
        "a/b is 1.5 [1.49, 1.51], 25.00% better than the base's 2",
    )
    zero = figure(0.0, half=0.0)
    assert verdict_on("a/b within 1%", zero, zero) == (True, "a/b is 0 [0, 0], just the base's 0")
    assert verdict_on("a/b within 1%", figure(0.1, half=0.0), zero) == (
        False,
        "a/b is 0.1 [0.1, 0.1], 0.1 worse than the base's 0; allowed is 1%",
    )
    minus = figure(-2.0, half=0.0)
    assert verdict_on("a/b within 10%", figure(-1.9, half=0.0), minus)[0]
    assert not verdict_on("a/b within 10%", figure(-1.7, half=0.0), minus)[0]


@pytest.mark.parametrize("gate", ["a/b < 1", "a/b > -1", "a/b within 100%"])
def test_what_is_not_defined_passes_nothing(gate: str) -> None:
    """Catches a comparison with NaN, or a missing figure, that lets a checkpoint through."""
    passed, line = verdict_on(gate, figure(math.nan), figure(1.0))
    assert not passed
    assert line.startswith("a/b is not defined over its 100 items: too few, or too alike; a higher")
    passed, line = verdict_on(gate, None)
    assert not passed and line.startswith("a/b was not measured: no item counts for it; a higher")


def test_a_figure_whose_items_failed_says_why() -> None:
    """Catches a mend that mends nothing: more items, where every one is too long."""
    passed, line = verdict_on("a/b < 1", None, failed={"too long": 5})
    assert not passed
    assert line == "a/b was not measured: 5 of 5 items failed: too long (5)"


def test_a_model_that_has_diverged_passes_no_gate() -> None:
    """Catches a figure over the one item that a broken model was spared, which looks good.

    Negative control: items that are too long are so for every model.
    """
    passed, line = verdict_on("a/b < 9", figure(6.0), failed={NOT_FINITE: 4})
    assert not passed
    assert line == f"a/b is 6 [5.95, 6.05] over what is left: 4 of 5 items failed: {NOT_FINITE} (4)"
    assert verdict_on("a/b < 9", figure(6.0), failed={"too long": 4})[0]


def test_without_a_base_nothing_is_within_it() -> None:
    """Catches a base that is not defined, of which any part is none."""
    for base in (None, figure(math.nan)):
        passed, line = verdict_on("a/b within 1%", figure(1.0), base)
        assert not passed
        assert "the base's is not defined" in line


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ("bias/gpa < 1", "suite bias gives no figure gpa; did you mean gap?"),
        ("bias/xyz < 1", "suite bias gives no figure xyz; it gives gap, verdict"),
        ("bais/gap < 1", "suite bais is not measured; did you mean bias?"),
        ("qqq/gap < 1", "suite qqq is not measured; measured are bias"),
    ],
)
def test_a_figure_that_no_suite_gives_is_named(gate: str, says: str) -> None:
    """Catches a gate that nothing ever fails."""
    with pytest.raises(RecipeError) as refused:
        require_figures([parse_gate(gate, "here")], {"bias": ["gap", "verdict"]}, "here")
    assert str(refused.value) == f"here: {gate!r}: the {says}"


def test_a_figure_that_is_given_is_accepted() -> None:
    """Negative control."""
    require_figures([parse_gate("bias/gap < 1", "here")], {"bias": ["gap", "verdict"]}, "here")
