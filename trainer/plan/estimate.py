"""What a run will need, before its first step: memory a rank, disk, tokens."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from trainer.plan.devices import GIB
from trainer.plan.memory import memory
from trainer.plan.size import adapter_count, flops_per_token, parameter_count, trained_count
from trainer.recipe import Recipe

_MASTER, _MOMENTS, _AVERAGE = 4, 8, 4  # bytes a parameter in a checkpoint, all fp32


@dataclass(frozen=True)
class Estimate:
    """What a run needs. Memory is of the rank that needs most; disk is of all ranks together.

    `parameters`: adapters included; `trained`: those that learn, which a checkpoint holds;
    `frozen_gib`: of the weights, their frozen copy; `checkpoints`: how many the disk holds at once,
    the one being written included; `average_gib`: of RUN/average. `flops`: of the whole run, all
    ranks together.
    """

    parameters: int
    trained: int
    weights_gib: float
    frozen_gib: float
    gradients_gib: float
    optimizer_gib: float
    activations_gib: float
    checkpoint_gib: float
    checkpoints: int
    average_gib: float
    tokens: int
    flops: float

    @property
    def memory_gib_per_rank(self) -> float:
        """The sum of the parts; the allocator's and the libraries' own needs come on top."""
        states = self.weights_gib + self.gradients_gib + self.optimizer_gib
        return states + self.activations_gib

    @property
    def disk_gib(self) -> float:
        """All checkpoints that the disk holds at once, two averages of the weights among them."""
        return self.checkpoint_gib * self.checkpoints + 2 * self.average_gib

    def seconds(self, rate: float, share: float = 1.0) -> float:
        """The least time that `share` of the run takes at `rate` FLOP/s over all ranks."""
        return self.flops * share / rate

    @property
    def _learning(self) -> str:
        if self.trained == self.parameters:
            return ""
        return f", {self.trained:,} of them ({self.trained / self.parameters:.2%}) learn"

    @property
    def _frozen(self) -> str:
        return f", {_size(self.frozen_gib)} of them a frozen copy" if self.frozen_gib else ""

    def lines(self) -> list[str]:
        """The estimate in words, for printing."""
        return [
            f"{self.parameters:,} parameters{self._learning}, {self.tokens:,} tokens to be read",
            f"memory a rank: about {_size(self.memory_gib_per_rank)} (weights "
            f"{_size(self.weights_gib)}{self._frozen}, gradients {_size(self.gradients_gib)},"
            f" optimizer {_size(self.optimizer_gib)}, activations {_size(self.activations_gib)})",
            f"disk: {_size(self.checkpoint_gib)} a checkpoint, {_size(self.disk_gib)} in all",
        ]


def estimate(recipe: Recipe, world_size: int, vocab: int) -> Estimate:
    """What the recipe will need on `world_size` ranks. `vocab`: rows of the embedding.

    Memory by the formula of trainer.plan.memory, for a GPU unless the recipe's device is the CPU;
    `activations_gib` is all that the peak of a step takes beyond weights, gradients and optimizer.
    """
    base = parameter_count(recipe.model, vocab)["total"]
    adapters = int(sum(adapter_count(recipe.model, vocab, recipe.lora).values()))
    trained = int(trained_count(recipe.model, vocab, recipe.lora)["total"])
    needed = memory(recipe, world_size, vocab, "cpu" if recipe.device == "cpu" else "cuda")
    weight = 2 if recipe.precision == "bf16" else 4
    own_masters = recipe.precision == "fp32"  # fp32 weights are not saved twice
    held = needed.weights + needed.gradients + needed.optimizer
    saved = recipe.checkpoint.keep
    if saved == 0:
        saved = max(1, recipe.steps // recipe.checkpoint.every) if recipe.checkpoint.every else 1
    averaged = _AVERAGE if recipe.checkpoint.average is not None else 0
    states = _MOMENTS + averaged + (0 if own_masters else _MASTER)
    tokens = recipe.steps * recipe.batch.sequences * recipe.sequence_length
    return Estimate(
        parameters=base + adapters,
        trained=trained,
        weights_gib=needed.weights / GIB,
        frozen_gib=needed.frozen / GIB,
        gradients_gib=needed.gradients / GIB,
        optimizer_gib=needed.optimizer / GIB,
        activations_gib=(needed.peak - held) / GIB,
        checkpoint_gib=trained * (weight + states) / GIB,
        checkpoints=saved + 1,
        average_gib=trained * averaged / GIB,
        tokens=tokens,
        flops=tokens * flops_per_token(recipe.model, recipe.sequence_length, vocab, recipe.lora),
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


def _size(gib: float) -> str:
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.1f} MiB"
