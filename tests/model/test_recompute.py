"""What backward recomputes is bitwise what it would have saved."""

from typing import Any

import numpy as np
import pytest

from tests.parity.ranks import on_ranks
from tests.parity.training import Curve, recipe_of, train_steps
from trainer.errors import RecipeError
from trainer.model import linears
from trainer.plan.recompute_choice import candidates, cheapest
from trainer.recipe import Recipe, learning_changes

PARTS: list[tuple[int, dict[str, Any], list[Any]]] = [
    (1, {}, [["norms"], ["swiglu"], ["norms", "swiglu", "attention"], ["norms", "mlp"], "full"]),
    (2, {"parallel__tensor": 2, "parallel__sequence": True}, [["norms", "swiglu"], "full"]),
    (2, {"parallel__pipeline": 2}, [["norms", "mlp"]]),
    (2, {"zero__stage": 3}, [["norms", "swiglu"]]),
]


def assert_same(one: Curve, other: Curve) -> None:
    """Every loss, norm and gradient, to the last bit."""
    assert one.losses == other.losses
    assert one.norms == other.norms
    for mine, theirs in zip(one.gradients, other.gradients, strict=True):
        assert np.array_equal(mine[3], theirs[3]), mine[0]


@pytest.mark.parametrize(("ranks", "keys", "sets"), PARTS, ids=str)
def test_recomputed_parts_change_no_bit(ranks: int, keys: dict[str, Any], sets: list[Any]) -> None:
    """Would catch a tensor recomputed from another input, weight, or part of the sequence."""
    plain = on_ranks(ranks, train_steps, recipe_of(**keys), 2)
    for parts in sets:
        recomputed = on_ranks(ranks, train_steps, recipe_of(recompute=parts, **keys), 2)
        for one, other in zip(recomputed, plain, strict=True):
            assert_same(one, other)


def train_without_products(recipe: Recipe, steps: int) -> Curve:
    """`train_steps`, where a product that is made without gradients is an error."""

    def refused(*_: Any) -> Any:
        raise AssertionError("a model that trains is left to megatron-core")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linears, "product", refused)
        return train_steps(recipe, steps)


def test_what_is_recomputed_was_computed_by_the_same_product() -> None:
    """Catches a first pass, which saves nothing, that takes the path of texts that are written.

    There sums may stand in another order, for some sizes, on some processors.
    """
    recipe = recipe_of(recompute="full")
    assert_same(
        on_ranks(1, train_without_products, recipe, 1)[0], on_ranks(1, train_steps, recipe, 1)[0]
    )


def test_the_recipe_takes_words_and_lists() -> None:
    """Would catch a list that a saved recipe does not read back, or a run that cannot go on."""
    recipe = recipe_of(recompute=["swiglu", "norms"])
    assert recipe.recompute == ("norms", "swiglu")
    assert type(recipe).from_yaml(recipe.to_yaml()) == recipe
    assert recipe_of(recompute="mlp").recomputed == {"mlp"}
    assert recipe_of(recompute=[]).recomputed == frozenset()
    assert learning_changes(recipe, recipe_of(offload="activations")) == []


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("ful", "did you mean full"),
        (["norm"], "did you mean norms"),
        (["full"], "a list takes norms, swiglu, attention, mlp"),
        (3, "give one of none, full"),
    ],
)
def test_a_wrong_part_is_one_line(value: Any, line: str) -> None:
    """Would catch a typing error's own words shown to a user."""
    with pytest.raises(RecipeError, match=line) as raised:
        recipe_of(recompute=value)
    assert "\n" not in str(raised.value)


def test_auto_takes_the_quickest_set_that_fits() -> None:
    """Would catch a choice by size alone, or one that does not fit."""
    seconds = {"norms": 1.0, "swiglu": 1.5, "attention": 4.0, "mlp": 9.0, "full": 15.0}
    freed = {"norms": 2.0, "swiglu": 3.0, "attention": 3.0, "mlp": 9.0}
    peaks = {
        parts: 1.0 if isinstance(parts, str) else 20.0 - sum(freed[part] for part in parts)
        for parts in candidates()
    }
    assert cheapest(peaks, seconds, 20.0) == ()
    assert cheapest(peaks, seconds, 18.0) == ("norms",)
    assert cheapest(peaks, seconds, 17.0) == ("swiglu",)
    assert cheapest(peaks, seconds, 15.0) == ("norms", "swiglu")
    assert cheapest(peaks, seconds, 5.0) == "full"
    assert cheapest(peaks, seconds, 0.5) == "full"
