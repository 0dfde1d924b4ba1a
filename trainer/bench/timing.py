"""Timing one loop: ours as `lyceum train` runs it, and the bare one on the same batches."""

import contextlib
import io
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from trainer.bench.bare import bare_model, bare_optimizer, bare_step
from trainer.bench.clock import (
    TIMED_STEPS,
    WARMUP_STEPS,
    StepClock,
    Timing,
    peak_memory_gib,
    reset_peak_memory,
    timing_of,
)
from trainer.bench.tokens import batches, on_device, supervised, vocabulary
from trainer.loop import train
from trainer.parallel.join import choose_device
from trainer.recipe import Recipe
from trainer.sources import open_sources
from trainer.stages.learning_rate import learning_rate

_BARE_PRECISION = {
    "bf16": "fp32 weights, gradients and moments; products in bf16 by autocast",
    "fp32": "fp32",
}
_BARE_GIVEN = {
    "attention": "SDPA with a mask of the documents",
    "compile": "none",
    "optimizer": "torch.optim.AdamW(fused)",
    "recompute": "none",
    "loss": "logits of all positions",
}


def bare_given(recipe: Recipe) -> dict[str, str]:
    """What the bare loop works with, in words."""
    return _BARE_GIVEN | {"precision": _BARE_PRECISION[recipe.precision]}


def time_ours(recipe: Recipe, steps: int = TIMED_STEPS) -> Timing:
    """Train for a few steps as `lyceum train` does, and read what metrics.jsonl says of them."""
    reset_peak_memory(choose_device(recipe.device))
    with tempfile.TemporaryDirectory(prefix="lyceum-bench-") as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            train(short_recipe(recipe, Path(folder) / "run", WARMUP_STEPS + steps))
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    all_records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    records = all_records[WARMUP_STEPS:]

    def median(key: str) -> float | None:
        known = [record[key] for record in records if record[key] is not None]
        return statistics.median(known) if known else None

    flops, step = median("tflops_per_device"), median("step_seconds") or 0.0
    return Timing(
        step_seconds=step,
        tokens_per_second=median("tokens_per_second") or 0.0,
        memory_gib=median("memory_gib"),
        flops_per_second=None if flops is None else flops * 1e12,
        mfu=median("mfu"),
        compile_seconds=max(all_records[0]["step_seconds"] - step, 0.0),
    )


def time_bare(recipe: Recipe, device: torch.device, steps: int = TIMED_STEPS) -> Timing:
    """Train the bare model on the same batches, data wait included as in ours."""
    sources = open_sources(recipe)
    vocab = vocabulary(recipe, sources)
    reset_peak_memory(device)
    model = bare_model(recipe, vocab, device)
    optimizer = bare_optimizer(model.named_parameters(), recipe.optimizer)
    clock, tokens = StepClock(device), []
    stream = batches(recipe, sources)
    clock.mark()
    for step in range(1, WARMUP_STEPS + steps + 1):
        rows = next(stream)
        tokens.append(supervised(rows))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        bare_step(model, optimizer, on_device(rows, device), recipe)
        clock.mark()
    seconds, memory = clock.seconds(), peak_memory_gib(device)
    stream.close()
    return timing_of(recipe, vocab, device, seconds, tokens, memory)


def short_recipe(recipe: Recipe, run: Path, steps: int) -> Recipe:
    """The recipe for a few steps at its own learning rates, with nothing in between."""
    return recipe.replaced(
        {
            **{"run": str(run), "steps": steps, "resume": "never", "profile": {}},
            "schedule.length": recipe.schedule.length or recipe.steps,
            **{"checkpoint.every": 0, "checkpoint.save_final": False},
            **{"evaluate.every": 0, "evaluate.sample_every": 0, "checkpoint.best": None},
            **{"evaluate.suites": [], "evaluate.suites_every": 0, "evaluate.gates": []},
        }
    )
