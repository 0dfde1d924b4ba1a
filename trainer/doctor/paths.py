"""Every way through a training step that one rank can take, each a short run; one curve for all."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import trainer.start
from trainer.bench.tokens import made_recipe
from trainer.doctor.check import Check, NotRunError, check
from trainer.doctor.pipelines import Pipeline, scheduled_by
from trainer.loop import train
from trainer.parallel.zero.sharded import ShardedAdamW
from trainer.recipe import Recipe

STEPS = 3
BOUNDS = {"fp32": 1e-5, "bf16": 1e-3}
"""Nats from the first run of that precision. fp32: sums in another order. bf16: on another path a
logit of a unit is rounded elsewhere by 2^-9, and a loss averages 512 of them, which leaves 1e-4."""


@dataclass(frozen=True)
class Way:
    """One run: its name, the recipe's keys that differ, and the schedule forced on it."""

    name: str
    keys: dict[str, Any] = field(default_factory=dict)
    pipeline: Pipeline | None = None
    may_refuse: bool = False
    needs_gpu: bool = False
    """Whether the CPU has nothing of the kind, or takes long for what its own tests show."""
    package: str = ""
    """What must be installed, by its module's name."""


def ways() -> Iterator[Way]:
    """All of them; the first of each precision is what the others are held against."""
    bf16 = {"precision": "bf16"}
    yield Way("fp32")
    yield Way("fp32 1F1B, one stage", pipeline="1f1b")
    yield Way("fp32 interleaved, one chunk", pipeline="interleaved")
    two = {"parallel.virtual": 2, "parallel.pipeline": 1}
    yield Way("fp32 interleaved, two chunks", two, "interleaved", may_refuse=True)
    for stage in (1, 2, 3):
        yield Way(f"fp32 ZeRO {stage}", {"zero.stage": stage})
    offload = {"zero.stage": 1, "zero.offload": "optimizer"}
    yield Way("fp32 ZeRO 1, optimizer in host memory", offload, needs_gpu=True)
    for recompute in ("full", "attention", "mlp", ["norms", "swiglu"]):
        yield Way(f"fp32 recompute {recompute}", {"recompute": recompute})
    yield Way("fp32 activations in host memory", {"offload": "activations"})
    for attention in ("reference", "triton", "sdpa"):
        # SDPA's backward pass adds in any order on a GPU, and must be allowed to.
        keys = {"kernels.attention": attention, "kernels.deterministic": attention != "sdpa"}
        yield Way(f"fp32 attention {attention}", keys, needs_gpu=attention == "triton")
    for loss in ("fused", "logits"):
        yield Way(f"fp32 loss {loss}", {"kernels.loss": loss})
    yield Way("bf16", bf16)
    yield Way("bf16 1F1B, one stage", bf16, "1f1b")
    for stage in (1, 2, 3):
        yield Way(f"bf16 ZeRO {stage}", bf16 | {"zero.stage": stage})
    yield Way(
        "bf16 ZeRO 2, optimizer in host memory", bf16 | offload | {"zero.stage": 2}, needs_gpu=True
    )
    yield Way("bf16 recompute full", bf16 | {"recompute": "full"})
    yield Way("bf16 compiled layers", bf16 | {"kernels.compile": "layer"}, needs_gpu=True)
    flash = bf16 | {"kernels.attention": "flash"}
    yield Way("bf16 attention flash", flash, needs_gpu=True, package="flash_attn")
    yield Way("bf16 loss fused", bf16 | {"kernels.loss": "fused"})


def check_paths(
    device: torch.device, folder: Path, chosen: Callable[[Way], bool] = lambda way: True
) -> Iterator[Check]:
    """One check a way, in turn, in this process; `folder` is for made tokens and runs."""
    first: dict[str, tuple[float, ...]] = {}
    for number, way in enumerate(way for way in ways() if chosen(way)):
        run_folder = folder / str(number)

        def run(way: Way = way, run_folder: Path = run_folder) -> tuple[str, tuple[float, ...]]:
            if way.needs_gpu and device.type == "cpu":
                raise NotRunError("needs a GPU")
            if way.package and importlib.util.find_spec(way.package) is None:
                raise NotRunError(f"needs {way.package}, which is not installed")
            recipe = recipe_of(way.keys, device, run_folder)
            losses = run_losses(recipe, run_folder / "corpus", way.pipeline)
            return held(losses, first.setdefault(recipe.precision, losses), recipe.precision)

        yield check(way.name, run, way.may_refuse)


def held(
    losses: tuple[float, ...], first: tuple[float, ...], precision: str
) -> tuple[str, tuple[float, ...]]:
    """How far they are from the first run's; AssertionError beyond the bound, or without a loss."""
    if len(losses) != STEPS:
        raise AssertionError(f"made {len(losses)} of {STEPS} steps")
    differences = [abs(one - other) for one, other in zip(losses, first, strict=True)]
    difference = max(differences)
    # Each by itself: the largest of NaN and 0 may be 0.
    if not all(one <= BOUNDS[precision] for one in differences):
        raise AssertionError(
            f"losses differ by {difference:.3g} from the first {precision} run's, allowed is "
            f"{BOUNDS[precision]:g}"
        )
    return f"largest difference {difference:.2g}", losses


def recipe_of(keys: dict[str, Any], device: torch.device, folder: Path) -> Recipe:
    """The tiny model of all runs, with `keys` (by dotted name) replaced."""
    tree: dict[str, Any] = {
        "run": str(folder / "run"),
        "device": device.type,
        "seed": 7,
        "steps": STEPS,
        "sequence_length": 64,
        "resume": "never",
        "model": {"layers": 2, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128, "vocab": 256},
        "batch": {"sequences": 8, "micro": 2},
        "optimizer": {"lr": 5e-3},
        "schedule": {"warmup": 1},
        "data": {"workers": 0},
        "zero": {"stage": 0},
        "evaluate": {"every": 0, "sample_every": 0},
        "checkpoint": {"every": 0, "save_final": False},
        "observe": {"tensorboard": False},
    }
    return Recipe.from_keys(tree).replaced(keys)


@contextmanager
def _sharded() -> Iterator[None]:
    """Inside: DeepSpeed runs where a single replica would do without it (`Recipe.sharding`)."""
    chosen = trainer.start.create_optimizer
    trainer.start.create_optimizer = ShardedAdamW
    try:
        yield
    finally:
        trainer.start.create_optimizer = chosen


def run_losses(recipe: Recipe, corpus: Path, pipeline: Pipeline | None) -> tuple[float, ...]:
    """Train on made tokens as `lyceum train` does, and read each step's loss."""
    forced: AbstractContextManager[None] = scheduled_by(pipeline) if pipeline else nullcontext()
    with forced, _sharded() if recipe.zero.stage else nullcontext():
        train(made_recipe(recipe, corpus, STEPS))
    lines = (Path(recipe.run) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line)["loss"] for line in lines)
