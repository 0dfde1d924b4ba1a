"""The benchmark's figures are only worth something if both loops do the same work."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer.bench.comparison
from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of, write_text
from trainer.bench.bare import bare_model, bare_optimizer
from trainer.bench.clock import Timing
from trainer.bench.comparison import LoopComparison
from trainer.bench.peers.process import PeerResult
from trainer.bench.timing import short_recipe
from trainer.bench.train import bench_command
from trainer.errors import DataError, RecipeError
from trainer.plan.size import flops_per_token, parameter_count
from trainer.recipe import Recipe

SCALING = {
    **{"factor": 8.0, "low_frequency_factor": 1.0, "high_frequency_factor": 4.0},
    "original_context": 32,
}


def bench(run: Path, corpus: Path, file: Path, keys: dict[str, Any]) -> dict[str, Any]:
    bench_command(recipe_of(run, corpus, **keys), 3, file, steps=3)
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures


def test_figures_come_from_alternating_pairs(tmp_path: Path) -> None:
    """Catches a pair left out, rates that are not of the same batches, and a run left behind."""
    write_text(tmp_path)
    figures = on_ranks(1, bench, tmp_path / "run", tmp_path, tmp_path / "figures.json", {})[0]
    assert len(figures["costs"]) == 3
    assert sorted(figures["costs"])[1] == figures["cost"]
    tokens = [
        figures[loop]["tokens_per_second"] * figures[loop]["step_seconds"]
        for loop in ("ours", "bare")
    ]
    # Medians of two columns (of an odd number): a step's tokens vary a little with the padding.
    assert tokens[0] == pytest.approx(tokens[1], rel=0.1)
    assert 0 < figures["matrix_share"] < 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("best", ["eval/loss", "eval/bias/gap"])
def test_a_timed_run_measures_nothing_beside_its_steps(tmp_path: Path, best: str) -> None:
    """Catches a recipe with gates, or a best, that no benchmark times, or that fails its gates."""
    gates = ["bias/gap within 1%", "bias/gap < 0.1"]
    recipe = recipe_of(
        *(tmp_path / "run", tmp_path),
        init_from=str(tmp_path / "base"),
        evaluate={"every": 2, "suites": ["bias"], "suites_every": 1, "gates": gates},
        checkpoint={"best": best},
    )
    short = short_recipe(recipe, tmp_path / "short", 3).replaced({"init_from": None})
    measured = short.evaluate.suites, short.evaluate.gates, short.evaluate.every
    assert (*measured, short.checkpoint.best) == ((), (), 0, None)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"model__tied_embeddings": True, "model__qk_norm": True},
        {"model__qkv_bias": True},
        {"model__rope_scaling": SCALING, "model__head_size": 24},
    ],
)
def test_the_bare_model_has_the_recipes_parameters(tmp_path: Path, keys: dict[str, Any]) -> None:
    """Catches a baseline of another size."""
    recipe = recipe_of(tmp_path, tmp_path, **keys)
    model = bare_model(recipe, 384, torch.device("cpu"))
    expected = parameter_count(recipe.model, 384)["total"]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    optimizer = bare_optimizer(model.named_parameters(), recipe.optimizer)
    assert optimizer.param_groups[0]["lr"] == recipe.optimizer.lr


def test_a_recipe_for_several_processes_is_refused(tmp_path: Path) -> None:
    """Catches a comparison of many processes with one."""
    recipe = recipe_of(tmp_path, tmp_path, parallel__tensor=2)
    with pytest.raises(RecipeError, match="tensor 2"):
        bench_command(recipe, 1, None)


def bench_made(run: Path, folder: Path) -> dict[str, Any]:
    file = folder / "figures.json"
    recipe = recipe_of(run, folder / "no corpus here", model__vocab=None)
    bench_command(
        *(recipe, 1, file),
        peers="bare,transformers-liger",
        made=True,
        steps=2,
        plot_file=folder / "bars.svg",
    )
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures


def test_made_tokens_need_no_corpus(tmp_path: Path) -> None:
    """Catches a benchmark that a bare machine cannot run, and a figure of another formula."""
    figures = on_ranks(1, bench_made, tmp_path / "run", tmp_path)[0]
    bare, liger = figures["peers"]
    assert (bare["name"], liger["name"]) == ("bare", "transformers-liger")
    installed = find_spec("liger_kernel") is not None
    reason = "its kernels need CUDA" if installed else "liger_kernel is not installed"
    assert liger["timing"] is None and liger["problem"].startswith(reason)
    assert figures["best_peer"] == "bare"
    assert figures["ours_over_best"] == pytest.approx(
        figures["ours"]["tokens_per_second"] / figures["bare"]["tokens_per_second"]
    )
    model = recipe_of(tmp_path, tmp_path).model
    flops = flops_per_token(model, 32, 50_304)
    assert figures["flops_per_token"] == flops
    for loop in (figures["ours"], figures["bare"]):
        # Medians of rates times a constant: no more than rounding apart.
        assert loop["flops_per_second"] == pytest.approx(loop["tokens_per_second"] * flops)
        assert loop["mfu"] is None, "a CPU's peak is not known"
    assert "<svg" in (tmp_path / "bars.svg").read_text()


def test_the_best_peer_is_the_fastest_that_ran() -> None:
    """Catches a ratio to a slower peer, to one that did not run, or to nothing."""

    def timing(rate: float) -> Timing:
        return Timing(1.0, rate, None, flops_per_second=rate)

    peers = (
        PeerResult("slow", {}, 1, timing=timing(50.0)),
        PeerResult("fast", {}, 1, timing=timing(80.0)),
        PeerResult("absent", {}, 1, problem="is not installed"),
    )
    ours = {"eager": timing(90.0), "compiled": timing(100.0)}
    comparison = LoopComparison("compiled", ours, None, (), peers, 1000.0)
    best = comparison.best_peer
    assert best is not None and best.name == "fast" and best.timing is not None
    assert comparison.ratio(best.timing) == 1.25
    assert comparison.share(best.timing) == 0.08
    alone = LoopComparison("eager", ours, None, (), peers[2:], 1000.0)
    assert alone.best_peer is None and alone.cost is None


def test_what_cannot_be_run_is_one_line(tmp_path: Path) -> None:
    """Catches a misspelt peer or a missing corpus that shows after minutes, or as a trace."""
    keys = recipe_of(tmp_path, tmp_path).model_dump(mode="json")
    keys |= {"corpus": None, "data": {"mixture": [{"corpus": str(tmp_path / "none")}]}}
    recipe = Recipe.from_keys(keys)
    with pytest.raises(RecipeError, match="no 'nanogpt'; there are bare, bare-compiled"):
        bench_command(recipe, 1, None, peers="bare,nanogpt")
    with pytest.raises(RecipeError, match="no 'fast'; there are eager, compiled"):
        bench_command(recipe, 1, None, ours="fast")
    with pytest.raises(DataError, match=r"no corpus at .*--made"):
        bench_command(recipe, 1, None)


def bench_stopped(run: Path, folder: Path) -> dict[str, Any]:
    """Figures of a benchmark that is stopped in its first peer."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    trainer.bench.comparison.run_peer = stopped  # type: ignore[assignment]
    file = folder / "figures.json"
    with pytest.raises(KeyboardInterrupt):
        bench_command(
            *(recipe_of(run, folder), 1, file), peers="bare,torchtitan", made=True, steps=1
        )
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures


def test_a_stopped_peer_costs_ours_nothing(tmp_path: Path) -> None:
    """Catches figures that are written once all have run: the last may never end."""
    figures = on_ranks(1, bench_stopped, tmp_path / "run", tmp_path)[0]
    assert figures["ours"]["tokens_per_second"] > 0
    assert [peer["name"] for peer in figures["peers"]] == ["bare"]


def bench_variants(run: Path, folder: Path) -> dict[str, Any]:
    file = folder / "figures.json"
    with torch.compiler.set_stance("force_eager"):
        bench_command(
            *(recipe_of(run, folder), 1, file),
            **{"peers": "bare", "ours": "eager,compiled", "made": True, "steps": 1},
        )
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures


def test_the_faster_of_our_loops_stands_for_ours(tmp_path: Path) -> None:
    """Catches a ratio of the slower loop, and a variant that was not timed."""
    figures = on_ranks(1, bench_variants, tmp_path / "run", tmp_path)[0]
    rates = {name: one["tokens_per_second"] for name, one in figures["variants"].items()}
    assert set(rates) == {"eager", "compiled"}
    assert figures["ours"]["tokens_per_second"] == max(rates.values()) == rates[figures["variant"]]
    steps = [figures["ours"]["step_seconds"], figures["bare"]["step_seconds"]]
    assert figures["cost"] == pytest.approx(steps[0] / steps[1] - 1)
