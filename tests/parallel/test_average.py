"""The average of the weights is the same at every layout, to the bit what torch makes of them."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Linear
from torch.optim.swa_utils import AveragedModel, get_swa_avg_fn

from tests.parallel.averages import LORA, averages_of, averaging, part_of, wholes_of
from tests.parity.ranks import on_ranks
from tests.parity.training import VOCAB, recipe_of
from trainer.errors import RecipeError
from trainer.parallel.zero import StepOutcome
from trainer.parallel.zero.average import WeightAverage
from trainer.plan.estimate import estimate
from trainer.plan.memory import memory
from trainer.recipe.checkpoint import AverageSection

STEPS = 5
TENSOR = {"parallel__tensor": 2, "parallel__sequence": True}
SETS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "fp32": ({}, [TENSOR, {"parallel__pipeline": 2}, {"zero__stage": 2}, {"zero__stage": 3}]),
    "tied": ({"model__tied_embeddings": True}, [{"parallel__pipeline": 2}]),
    "lora": (LORA, [{"zero__stage": 1}]),
    "bf16": ({"precision": "bf16"}, [{"zero__stage": 2}]),
}


@pytest.mark.parametrize("case", SETS)
def test_every_layout_keeps_the_average_of_one_process(case: str) -> None:
    """Catches weights that enter twice, or rounded, a skipped step that enters, or a lost shard.

    What a rank holds of it is what the plan says.
    """
    model, layouts = SETS[case]
    boxes, same, entered, _ = on_ranks(1, averages_of, averaging(**model), STEPS)[0]
    assert same and entered == STEPS - 1
    whole = wholes_of(boxes)
    for layout in layouts:
        recipe = averaging(**model, **layout)
        held = []
        for boxes, same, entered, size in on_ranks(2, averages_of, recipe, STEPS):
            assert same and entered == STEPS - 1, layout
            held.append(size)
            for name, _, offset, values in boxes:
                right = part_of(whole[name], offset, values)
                # Activations in bf16 are rounded otherwise elsewhere, and gradients with them.
                tolerance = 1e-6 if recipe.precision == "fp32" else 1e-3
                torch.testing.assert_close(values, right, atol=tolerance, rtol=0)
        without = recipe_of(**model, **layout)
        planned = [memory(one, 2, VOCAB, "cpu").optimizer for one in (recipe, without)]
        # Norms are whole on every tensor rank, and partitions are padded.
        assert max(held) == pytest.approx(planned[0] - planned[1], rel=0.03), layout


def outcome(norm: float) -> StepOutcome:
    return StepOutcome(torch.tensor(norm, dtype=torch.float64))


def test_a_mean_is_torchs_and_an_ema_begins_as_one() -> None:
    """Catches a mean whose first weights count double, and a decay that is turned round.

    Negative control: the same numbers without the step that was skipped are others.
    """
    torch.manual_seed(3)
    model = Linear(5, 7)
    peer = AveragedModel(model, avg_fn=get_swa_avg_fn())
    mean = WeightAverage(AverageSection(kind="mean", last=9), "cpu")
    ema = WeightAverage(AverageSection(decay=0.75), "cpu")
    averages = [torch.full((7, 5), 9.0) for _ in range(2)]  # what stands there never counts
    expected = torch.zeros(7, 5)
    for number in range(1, 9):
        with torch.no_grad():
            model.weight.add_(torch.randn(7, 5))
        peer.update_parameters(model)
        for average, values in zip((mean, ema), averages, strict=True):
            average.enter([values], [model.weight], outcome(1.0))
            average.enter([values], [torch.full((7, 5), 100.0)], outcome(float("nan")))
        share = max(1 / number, 0.25)
        expected = expected * (1 - share) + model.weight.detach() * share
    right: Tensor = peer.module.weight  # type: ignore[union-attr, assignment]
    torch.testing.assert_close(averages[0], right.detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(averages[1], expected, atol=1e-6, rtol=0)
    assert (averages[0] - averages[1]).abs().max() > 1e-2
    assert mean.entered == ema.entered == 8
    mean.enter([averages[0]], [torch.full((7, 5), 100.0)], outcome(1.0))
    assert (averages[0] - right).abs().max() > 1


def test_which_steps_enter() -> None:
    """Catches a mean over one step more or less, and a last step that is left out."""
    mean = AverageSection(kind="mean", last=4, every=2)
    assert [step for step in range(1, 12) if mean.enters(step, 11)] == [9, 11]
    whole = AverageSection(kind="mean", last=3)
    assert [step for step in range(1, 4) if whole.enters(step, 3)] == [1, 2, 3]
    ema = AverageSection(every=3)
    assert [step for step in range(1, 8) if ema.enters(step, 7)] == [3, 6]
    assert ema.over(7) == ema.over(70) and whole.over(7) != whole.over(70)


def test_the_plan_counts_it() -> None:
    """Catches an average that no plan has: four bytes a parameter of memory, of disk two more."""
    with_it, without = (estimate(one, 1, VOCAB) for one in (averaging(), recipe_of()))
    size = with_it.trained * 4 / 2**30
    # The plan of memory leaves the last norm out.
    assert with_it.optimizer_gib - without.optimizer_gib == pytest.approx(size, rel=1e-3)
    more = (with_it.checkpoints + 2) * size
    assert with_it.disk_gib - without.disk_gib == pytest.approx(more)


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"kind": "mean"}, "checkpoint.average.last: a mean is over so many last steps; set it"),
        ({"last": 5}, "checkpoint.average.last: belongs to kind mean"),
        ({"kind": "mean", "last": 5, "decay": 0.9}, "checkpoint.average.decay: belongs to kind em"),
        ({"kind": "mean", "last": 50}, "checkpoint.average.last: 50 are more than the run's 20"),
        ({"every": 21}, "checkpoint.average.every: 21 are more than the run's 20 steps"),
        ({"decay": 1.0}, "checkpoint.average.decay"),
        ({"kind": "sma"}, "checkpoint.average.kind"),
    ],
)
def test_an_average_that_means_nothing_is_refused(section: dict[str, Any], line: str) -> None:
    """Catches a key that is set and not read."""
    with pytest.raises(RecipeError) as refused:
        recipe_of(checkpoint__average=section)
    assert line in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("every", [0, 8])
def test_a_mean_that_no_checkpoint_would_hold_is_refused(every: int) -> None:
    """Catches an average that is asked for, kept to the end of a run, and never written."""
    keys = {"checkpoint__save_final": False, "checkpoint__every": every}
    with pytest.raises(RecipeError, match="none of the last 4 steps is saved"):
        recipe_of(checkpoint__average={"kind": "mean", "last": 4}, **keys)
    recipe_of(checkpoint__average={"kind": "mean", "last": 5}, **keys | {"checkpoint__every": 8})
