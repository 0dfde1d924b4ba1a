"""A floor that is too low hides a gap, and an order by something else hides the largest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import kernels
from kernels.bench.ceilings import H200, Ceilings
from tests.training.runs import recipe_of
from trainer.bench.step.attribute import REST, UNKNOWN, Attribution
from trainer.bench.step.command import predict, step_command
from trainer.bench.step.measured import Measured
from trainer.bench.step.rates import raised
from trainer.bench.step.table import markdown, rows_of, summary
from trainer.cli import main
from trainer.errors import RecipeError
from trainer.plan.floors import step_parts
from trainer.plan.part import Prediction, Product, StepPart
from trainer.plan.share import share_of
from trainer.plan.size import flops_per_token, parameter_count
from trainer.recipe import Recipe

PLACE = Path("run"), Path("corpus")
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"model__tied_embeddings": True, "model__qk_norm": True, "batch__micro": 4},
    {"parallel": {"tensor": 2, "pipeline": 2, "sequence": True}, "batch__micro": 2},
    {"parallel": {"context": 2}, "kernels__loss": "fused", "precision": "bf16"},
    {"recompute": "full", "model__qkv_bias": True},
    {
        "parallel": {"pipeline": 2, "virtual": 2},
        "model__window": 7,
        "model__window_pattern": ["local", "local", "global"],
    },
]


def parts_of(recipe: Recipe, stage: int = 0) -> dict[str, StepPart]:
    found = step_parts(share_of(recipe, recipe.parallel.model_ranks, stage))
    assert len({part.name for part in found}) == len(found)
    return {part.name: part for part in found}


@pytest.mark.parametrize("keys", LAYOUTS)
def test_the_parts_hold_the_models_operations_once(keys: dict[str, Any]) -> None:
    """Catches a product left out, counted twice, or of another shape, at any layout."""
    recipe = recipe_of(*PLACE, **keys)
    sizes = recipe.parallel
    stages = [parts_of(recipe, stage) for stage in range(sizes.pipeline)]
    flops = sum(part.times * part.flops for parts in stages for part in parts.values())
    tokens = recipe.batch.sequences * recipe.sequence_length
    expected = flops_per_token(recipe.model, recipe.sequence_length, 384) * tokens
    assert flops * sizes.tensor * sizes.context == pytest.approx(expected, rel=1e-12)


def test_what_is_made_again_is_counted_apart() -> None:
    """Catches recomputation in the model's count, and a part of it that is not there."""
    plain, full = (
        parts_of(recipe_of(*PLACE, recompute=choice, steps=8)) for choice in ("none", "full")
    )
    again = [part for name, part in full.items() if name.endswith(" again")]
    layer = [
        part
        for name, part in plain.items()
        if part.phase == "forward" and not name.startswith(("embedding", "final"))
    ]
    assert sum(part.repeated for part in again) == sum(part.flops for part in layer)
    assert len(again) == len(layer)
    assert not any(part.flops for part in again)
    # Of attention's five products of the backward pass, one makes the scores again.
    attention = plain["attention backward"]
    assert attention.repeated == plain["attention forward"].flops / 2
    some = parts_of(recipe_of(*PLACE, recompute=["norms", "swiglu"]))
    made = {name for name, part in some.items() if part.phase == "recompute"}
    assert made == {"swiglu forward again", "norms forward again"}


@pytest.mark.parametrize("keys", LAYOUTS)
def test_the_optimizers_weights_are_the_models(keys: dict[str, Any]) -> None:
    """Catches an optimizer predicted for too few weights, as for a stage without its ends."""
    recipe = recipe_of(*PLACE, **keys)
    sizes = recipe.parallel
    if sizes.tensor > 1:
        recipe = Recipe.from_keys(
            recipe.model_dump(mode="json") | {"parallel": {"pipeline": sizes.pipeline}}
        )
    ranks = recipe.parallel.model_ranks
    held = [share_of(recipe, ranks, stage).weights for stage in range(sizes.pipeline)]
    assert sum(held) == parameter_count(recipe.model, 384)["total"]


def _bytes(*tensors: torch.Tensor) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _backward(function: Callable[..., Any], *inputs: torch.Tensor) -> tuple[int, int]:
    """(bytes of inputs and outputs, bytes of the gradients of both)."""
    leaves = [tensor.requires_grad_() for tensor in inputs]
    outputs = function(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    gradients = torch.autograd.grad(sum(output.sum() for output in outputs), leaves)
    return _bytes(*inputs, *outputs), _bytes(*gradients, *outputs)


def test_bytes_are_those_of_the_tensors() -> None:
    """Catches a formula that moves a tensor too few, or one of another width."""
    recipe = recipe_of(*PLACE, precision="bf16", batch__micro=2, kernels__loss="logits")
    parts, kind = parts_of(recipe), torch.bfloat16
    x, gate_up = torch.randn(32, 2, 64, dtype=kind), torch.randn(32, 2, 256, dtype=kind)
    query, key = torch.randn(32, 2, 4, 16, dtype=kind), torch.randn(32, 2, 2, 16, dtype=kind)
    value, weight = torch.randn_like(key), torch.ones(64, dtype=kind)
    positions = torch.arange(32).expand(2, -1)
    table = kernels.rope_table(positions, kernels.rope_frequencies(16, 1e4))

    moved, _ = _backward(lambda x: kernels.rms_norm(x, weight, 1e-5), x)
    assert parts["input norm forward"].traffic == moved
    # Backward reads its input and the output's gradient, and writes the input's.
    assert parts["input norm backward"].traffic == moved + x.nbytes
    moved, _ = _backward(kernels.swiglu, gate_up)
    assert parts["swiglu forward"].traffic == moved
    assert parts["swiglu backward"].traffic == moved + gate_up.nbytes
    moved, back = _backward(lambda q, k: kernels.rope(q, k, *table), query, key)
    assert parts["rope forward"].traffic == moved + _bytes(*table)
    assert parts["rope backward"].traffic == back + _bytes(*table)
    visible = kernels.Visible.documents(positions)
    moved, back = _backward(lambda *t: kernels.attention(*t, visible), query, key, value)
    assert parts["attention forward"].traffic == moved
    assert parts["attention backward"].traffic == moved + back
    left, right = torch.randn(64, 64, dtype=kind), torch.randn(64, 256, dtype=kind)
    product = parts["gate and up projection forward"]
    assert product.traffic == _bytes(left, right, left @ right)
    assert parts["cross entropy"].traffic == 2 * torch.empty(64, 384, dtype=kind).nbytes


def test_accumulation_is_what_autograd_moves() -> None:
    """Catches the widening of the fused loss's gradient, which is fp32 as it comes."""
    table = 384 * 64
    fused = parts_of(recipe_of(*PLACE, precision="bf16", kernels__loss="fused"))
    plain = parts_of(recipe_of(*PLACE, precision="bf16", kernels__loss="logits"))
    assert plain["gradients widened"].traffic - fused["gradients widened"].traffic == 6 * table
    assert plain["gradients added"].times == 3  # of four micro-batches the first is kept
    whole = parts_of(recipe_of(*PLACE, batch__micro=8))
    assert not {"gradients widened", "gradients added"} & set(whole)


CEILINGS = Ceilings(bytes_per_second=1e9, flops_per_second=1e12, source="made up")


def test_the_largest_gap_stands_first() -> None:
    """Catches an order by time, which would send the reader to what is slow but at its floor."""
    parts = (
        StepPart("slow", "forward", "", 2, traffic=1e9),
        StepPart("wasteful", "forward", "", 1, flops=1e12, traffic=1.0),
    )
    prediction = Prediction(parts, CEILINGS, 1, 2e12)
    spent = Attribution({"slow": 2.05, "wasteful": 1.5, UNKNOWN: 0.2}, 3.75, 3.75, 3.85, 9)
    measured = Measured(4.0, 3.85, 1, spent)
    rows = rows_of(prediction, measured, {"wasteful": 1.2})
    assert [row.name for row in rows] == ["wasteful", UNKNOWN, "launch gaps", "slow"]
    assert [row.name for row in rows_of(prediction, None)] == ["slow", "wasteful"]
    first, last = markdown(rows).splitlines()[2], markdown(rows).splitlines()[-1]
    assert first.split("|")[5:10] == [
        cell.ljust(len(had))
        for cell, had in zip(
            (" 1000 ms", " 1200 ms", " 1500 ms", " 500 ms", " 67%"),
            first.split("|")[5:10],
            strict=True,
        )
    ]
    assert "3000 ms" in last and "3850 ms" in last
    lines = summary(prediction, measured, rows)
    assert lines[0].endswith("MFU 16.7%.")
    assert lines[-1].startswith("Largest gaps: wasteful (500 ms), not attributed (200 ms)")
    assert "idle 6.2% of it" in lines[-2] and "3850 ms and 2.6%" in lines[-2]


def test_what_a_compiler_fused_has_one_row() -> None:
    """Catches floors of fused parts that stand beside no time, and their time beside no floor."""
    parts = (
        StepPart("swiglu forward", "forward", "", 1, traffic=1e9),
        StepPart("residual add", "forward", "", 1, traffic=5e8),
        StepPart("down projection forward", "forward", "", 1, flops=1e12),
        StepPart("embedding forward", "forward", "", 1, traffic=1e6),
    )
    spent = Attribution({REST: 2.0, "down projection forward": 1.1}, 3.1, 3.1, 3.1, 2)
    rows = rows_of(Prediction(parts, CEILINGS, 1, None), Measured(3.1, 3.1, 1, spent))
    assert rows[0].name == f"{REST} (swiglu forward, residual add)"
    assert (rows[0].floor_seconds, rows[0].measured_seconds) == (1.5, 2.0)
    assert {row.name for row in rows[1:]} == {
        *("down projection forward", "embedding forward", "launch gaps")
    }


def test_a_product_faster_than_the_square_raises_the_ceiling() -> None:
    """Catches floors above what was measured, where the ceiling's own product is a slow one."""
    part = StepPart("p", "forward", "", 2, flops=2e12, product=Product(10**4, 10**4, 10**4))
    faster = raised(CEILINGS, (part,), {"p": 2.0})
    assert faster.flops_per_second == 2e12
    assert raised(CEILINGS, (part,), {"p": 8.0}) == CEILINGS


def test_prediction_needs_no_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Catches a prediction that starts a run, or that shows figures as if they were measured."""
    file, report = tmp_path / "step.json", tmp_path / "step.md"
    sizes = ["batch.sequences=16", "batch.micro=4", "zero.stage=0"]
    files = ["--json", str(file), "--markdown", str(report)]
    assert main(["bench", "step", "1b", *sizes, "--predict-only", *files]) == 0
    shown = capsys.readouterr().out
    assert shown.rstrip().endswith("Nothing was measured: --predict-only.")
    assert "gate and up projection forward" in report.read_text()
    figures = json.loads(file.read_text())
    assert figures["measured"] is None and figures["idle_share"] is None
    assert all(row["measured_seconds"] is None for row in figures["rows"])
    floors = [row["floor_seconds"] for row in figures["rows"]]
    assert floors == sorted(floors, reverse=True)
    assert figures["predicted"]["step_seconds"] == pytest.approx(sum(floors))
    # Every product at 790 of 989 TFLOP/s would be 80%; what memory limits comes on top.
    assert 0.6 < figures["predicted"]["mfu"] < 790 / 989


def test_layouts_are_predicted_for_one_rank() -> None:
    """Catches a stage's share predicted as the whole model's."""
    whole = predict(recipe_of(*PLACE, precision="bf16"), None)
    half = predict(recipe_of(*PLACE, precision="bf16", parallel={"pipeline": 2}), None)
    assert whole.ceilings == H200
    assert half.flops < 0.75 * whole.flops
    assert half.tokens == whole.tokens


def test_another_stage_is_refused() -> None:
    """Catches passes over pairs, which are others, predicted as if they were pretraining's."""
    keys = recipe_of(*PLACE).model_dump(mode="json")
    keys |= {"stage": "sft", "corpus": None, "data": {"mixture": [{"corpus": "set"}]}}
    with pytest.raises(RecipeError, match="stage: sft"):
        step_command(Recipe.from_keys(keys), predict_only=True)


@pytest.mark.parametrize(
    ("keys", "words", "line"),
    [
        ({"model__vocab": None}, {}, "model.vocab"),
        ({"recompute": "auto"}, {}, "recompute: auto"),
        ({"device": "cuda"}, {"on_cpu": True, "predict_only": False}, "--on cpu"),
        ({"parallel": {"tensor": 2}}, {"on_cpu": True, "predict_only": False}, "parallel"),
        ({}, {"trace_file": Path("trace.json")}, "--trace"),
        ({}, {"json_file": Path("/no/such/folder/step.json")}, "cannot be written"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    keys: dict[str, Any], words: dict[str, Any], line: str
) -> None:
    """Catches a trace of calls, or an hour of measuring, where one line would have said it."""
    recipe = recipe_of(*PLACE, **keys)
    with pytest.raises(RecipeError, match=line) as error:
        step_command(recipe, **{"predict_only": True} | words)
    assert "\n" not in str(error.value)
