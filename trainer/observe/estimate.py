"""What a run will need, before its first step: memory a rank, disk, tokens."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from trainer.observe.throughput import GIB
from trainer.recipe import Recipe, flops_per_token, parameter_count

_MASTER, _MOMENTS, _GRADIENT = 4, 8, 4  # bytes a parameter: all fp32, whatever the precision


@dataclass(frozen=True)
class Estimate:
    """What a run needs. Memory is of the rank that needs most; disk is of all ranks together.

    `checkpoints`: how many the disk holds at once, the one being written included. `flops`: of the
    whole run, all ranks together.
    """

    parameters: int
    weights_gib: float
    gradients_gib: float
    optimizer_gib: float
    activations_gib: float
    checkpoint_gib: float
    checkpoints: int
    tokens: int
    flops: float

    @property
    def memory_gib_per_rank(self) -> float:
        """The sum of the parts; the allocator's and the libraries' own needs come on top."""
        states = self.weights_gib + self.gradients_gib + self.optimizer_gib
        return states + self.activations_gib

    @property
    def disk_gib(self) -> float:
        """All checkpoints that the disk holds at once."""
        return self.checkpoint_gib * self.checkpoints

    def seconds(self, rate: float, share: float = 1.0) -> float:
        """The least time that `share` of the run takes at `rate` FLOP/s over all ranks."""
        return self.flops * share / rate

    def lines(self) -> list[str]:
        """The estimate in words, for printing."""
        return [
            f"{self.parameters:,} parameters, {self.tokens:,} tokens to be read",
            f"memory a rank: about {_size(self.memory_gib_per_rank)} (weights "
            f"{_size(self.weights_gib)}, gradients {_size(self.gradients_gib)}, optimizer "
            f"{_size(self.optimizer_gib)}, activations {_size(self.activations_gib)})",
            f"disk: {_size(self.checkpoint_gib)} a checkpoint, {_size(self.disk_gib)} in all",
        ]


def estimate(recipe: Recipe, world_size: int, vocab: int) -> Estimate:
    """What the recipe will need on `world_size` ranks. `vocab`: rows of the embedding.

    A rank of the pipeline's ends holds layers/(pipeline) and the embedding or the output layer,
    all divided by tensor. Bytes a parameter: weights 4 (bf16: 2), fp32 gradients 4 (whole on a
    rank until the step, at every ZeRO stage), moments 8, masters 4 (none where fp32 weights are
    their own: stage 0). ZeRO 1-3 divide masters and moments by data x context parallelism, stage 3
    the weights too. Activations: see `_activation_bytes`.
    """
    count = parameter_count(recipe.model, vocab)
    parallel, stage = recipe.parallel, recipe.zero.stage
    ends = count["embedding"], count["head"] or count["embedding"]  # tied: a copy at each end
    outer = max(ends) if parallel.pipeline > 1 else count["embedding"] + count["head"]
    held = (count["layers"] / parallel.pipeline + outer) / parallel.tensor
    shards = recipe.data_parallel(world_size) * parallel.context if stage else 1
    weight = 2 if recipe.precision == "bf16" else 4
    own_masters = recipe.precision == "fp32"  # fp32 weights are not saved twice
    master = 0 if own_masters and stage == 0 else _MASTER
    on_device = recipe.zero.offload == "none"
    saved = recipe.checkpoint.keep
    if saved == 0:
        saved = max(1, recipe.steps // recipe.checkpoint.every) if recipe.checkpoint.every else 1
    tokens = recipe.steps * recipe.batch.sequences * recipe.sequence_length
    return Estimate(
        parameters=count["total"],
        weights_gib=held * weight / (shards if stage == 3 else 1) / GIB,
        gradients_gib=held * _GRADIENT / GIB,
        optimizer_gib=held * (master + _MOMENTS) / shards / GIB if on_device else 0.0,
        activations_gib=_activation_bytes(recipe, vocab) / GIB,
        checkpoint_gib=count["total"] * (weight + (0 if own_masters else _MASTER) + _MOMENTS) / GIB,
        checkpoints=saved + 1,
        tokens=tokens,
        flops=tokens * flops_per_token(recipe.model, recipe.sequence_length, vocab),
    )


def disk_warning(needed: Estimate, run_dir: Path) -> str | None:
    """A line where the disk has less room than the checkpoints will take; None where it has."""
    existing = Path(run_dir).resolve()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free / GIB
    if free >= needed.disk_gib:
        return None
    return (
        f"the checkpoints will take {_size(needed.disk_gib)} and {run_dir} has {_size(free)} free; "
        "free some space or lower checkpoint.keep"
    )


def _activation_bytes(recipe: Recipe, vocab: int) -> float:
    """What backward keeps of the micro-batches in flight on the first stage, and the logits.

    Elements a token and layer (after Korthikanti et al. 2022, without the square of the
    scores, which fused attention does not keep): 6 hidden (two norms, their inputs, two residual
    sums), queries, keys, values and attention's output, 3 ffn (gate, up, their product). With
    recompute=full one hidden vector; attention and mlp leave their own part out. The
    fp32 logits and their gradient count once, where the last stage holds one micro-batch.
    """
    model, parallel = recipe.model, recipe.parallel
    queries, keys = model.heads * model.head_width, model.query_groups * model.head_width
    parts = {"norms": 6 * model.hidden, "attention": 2 * (queries + keys), "mlp": 3 * model.ffn}
    parts.pop(recipe.recompute, None)
    elements = model.hidden if recipe.recompute == "full" else sum(parts.values())
    tokens = recipe.batch.micro * recipe.sequence_length / parallel.context
    width = 2 if recipe.precision == "bf16" else 4
    layers = model.layers / parallel.pipeline
    kept = tokens * layers * elements * width * parallel.pipeline / parallel.tensor
    logits = tokens * vocab * 8 / parallel.tensor
    return float(kept + logits)


def _size(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.1f} MiB"
