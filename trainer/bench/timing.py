"""Timing one loop: ours as `lyceum train` runs it, and the bare one on the same batches."""

import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.bench.bare import (
    BareConfig,
    BareModel,
    BareTraining,
    RopeScaling,
    Rows,
    bare_optimizer,
    bare_step,
)
from trainer.data.loader import Loader
from trainer.data.remote.place import Place
from trainer.data.stream import corpus_folders, stream_arguments
from trainer.data.tokenizer import load_tokenizer
from trainer.loop import train
from trainer.recipe import Recipe
from trainer.recipe.rules import VOCABULARY_MULTIPLE
from trainer.stages.learning_rate import learning_rate

WARMUP_STEPS = 5
TIMED_STEPS = 20


@dataclass(frozen=True)
class Timing:
    """One run of one loop: the median step, and what the loop itself measured of it."""

    step_seconds: float
    tokens_per_second: float
    memory_gib: float | None
    flops_per_second: float | None = None
    mfu: float | None = None


def time_ours(recipe: Recipe) -> Timing:
    """Train for a few steps as `lyceum train` does, and read what metrics.jsonl says of them."""
    with tempfile.TemporaryDirectory(prefix="lyceum-bench-") as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            train(_short(recipe, Path(folder) / "run"))
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records: list[dict[str, Any]] = [json.loads(line) for line in lines][WARMUP_STEPS:]

    def median(key: str) -> float | None:
        known = [record[key] for record in records if record[key] is not None]
        return statistics.median(known) if known else None

    flops = median("tflops_per_device")
    return Timing(
        step_seconds=median("step_seconds") or 0.0,
        tokens_per_second=median("tokens_per_second") or 0.0,
        memory_gib=median("memory_gib"),
        flops_per_second=None if flops is None else flops * 1e12,
        mfu=median("mfu"),
    )


def time_bare(recipe: Recipe, device: torch.device) -> Timing:
    """Train the bare model on the same batches, data wait included as in ours."""
    folders = corpus_folders(recipe)
    config = bare_config(recipe, _vocabulary(recipe, folders))
    torch.manual_seed(recipe.seed)
    model = BareModel(config, recipe.sequence_length).to(device)
    training = bare_training(recipe)
    optimizer = bare_optimizer(model, training)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, rates = [], []
    batches = _batches(recipe, folders, device)
    for step in range(1, WARMUP_STEPS + TIMED_STEPS + 1):
        started = time.perf_counter()
        rows = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        bare_step(model, optimizer, rows, training)
        taken = time.perf_counter() - started
        if step > WARMUP_STEPS:
            seconds.append(taken)
            rates.append(int((rows[1] >= 0).sum()) / taken)
    batches.close()
    on_gpu = device.type == "cuda"
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else None
    return Timing(statistics.median(seconds), statistics.median(rates), memory)


def bare_config(recipe: Recipe, vocab: int) -> BareConfig:
    """The recipe's architecture in the bare model's terms."""
    model = recipe.model
    scaling = model.rope_scaling
    return BareConfig(
        layers=model.layers,
        hidden=model.hidden,
        heads=model.heads,
        kv_heads=model.kv_heads or model.heads,
        ffn=model.ffn,
        vocab=vocab,
        head_size=model.head_size or model.hidden // model.heads,
        tied_embeddings=model.tied_embeddings,
        qk_norm=model.qk_norm,
        qkv_bias=model.qkv_bias,
        rope_theta=model.rope_theta,
        rope_scaling=RopeScaling(**scaling.model_dump()) if scaling else None,
        norm_eps=model.norm_eps,
        init_std=model.init_std,
    )


def bare_training(recipe: Recipe) -> BareTraining:
    """The recipe's batch and optimizer in the bare loop's terms."""
    optimizer = recipe.optimizer
    return BareTraining(
        micro=recipe.batch.micro,
        lr=optimizer.lr,
        betas=optimizer.betas,
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        decay_norms=optimizer.decay_norms,
        decay_biases=optimizer.decay_biases,
        decay_embeddings=optimizer.decay_embeddings,
        clip=optimizer.clip,
        bf16=recipe.precision == "bf16",
    )


def _short(recipe: Recipe, run: Path) -> Recipe:
    """The recipe for a few steps at its own learning rates, with nothing in between."""
    keys = recipe.model_dump(mode="json")
    keys["schedule"] |= {"length": recipe.schedule.length or recipe.steps}
    keys |= {"run": str(run), "steps": WARMUP_STEPS + TIMED_STEPS, "resume": "never"}
    keys["checkpoint"] |= {"every": 0, "save_final": False}
    keys["evaluate"] |= {"every": 0, "sample_every": 0}
    keys["profile"] = {}
    return Recipe.from_keys(keys)


def _vocabulary(recipe: Recipe, folders: list[Place]) -> int:
    if recipe.model.vocab is not None:
        return recipe.model.vocab
    folder = recipe.tokenizer or folders[0] / "tokenizer"
    size = load_tokenizer(folder, recipe.data.remote).size
    return -(-size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def _batches(
    recipe: Recipe, folders: list[Place], device: torch.device
) -> Generator[Rows, None, None]:
    loader = Loader(
        stream_arguments(recipe, folders),
        global_batch=recipe.batch.sequences,
        rows=range(recipe.batch.sequences),
        workers=recipe.data.workers,
        prefetch=recipe.data.prefetch,
    )
    try:
        for batch in loader:
            parts = batch.tokens, batch.labels, batch.position_ids
            tokens, labels, position_ids = (part.to(device, non_blocking=True) for part in parts)
            yield tokens, labels, position_ids
    finally:
        loader.close()
