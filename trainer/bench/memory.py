"""`lyceum bench memory`: a step's memory by formula, the largest micro-batch, and a measured peak.

Measured is what PyTorch's allocator hands out at most from the first weight on: on a GPU by its own
count, which this code never met, on the CPU from the profiler's record of every allocation.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from trainer.bench.display import table_of
from trainer.data.batch import Batch
from trainer.errors import RecipeError
from trainer.files import write_output
from trainer.model.passes import NextToken
from trainer.model.transformer import build_model
from trainer.parallel.join import choose_device, create_layout, leave
from trainer.parallel.layout import Layout
from trainer.parallel.schedule import finalize_gradients
from trainer.parallel.zero import create_optimizer
from trainer.plan.activations import Device
from trainer.plan.devices import device_memory
from trainer.plan.memory import Memory, largest_micro, memory, with_micro
from trainer.plan.recompute_choice import choose_recompute
from trainer.recipe import Recipe

_GIB = 2**30

STEPS = 2
"""Steps that are measured: the first one allocates what stays."""


def memory_command(
    recipe: Recipe, *, gib: float | None, run: bool, json_file: Path | None
) -> dict[str, float | int | None]:
    """Print the formula's table and, with `run`, the measured peak; also as JSON.

    `gib`: memory a rank to fill instead of this device's. Raises RecipeError where the vocabulary
    is left to a tokenizer, or the recipe needs other ranks than there are.
    """
    vocab = recipe.model.vocab
    if vocab is None:
        raise RecipeError("model.vocab: is left to a tokenizer; set it, as in model.vocab=32768")
    kind, room = _device(recipe, gib, run)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if not run:
        world = max(world, recipe.parallel.model_ranks)
    recipe.validate_world(world, kind)
    recipe = _decided(recipe) if run else recipe
    largest = largest_micro(recipe, room, world, vocab, kind)
    console = Console()
    console.print(_table(recipe, memory(recipe, world, vocab, kind), kind))
    console.print(f"The largest batch.micro in {room / _GIB:.2f} GiB a rank: {largest}")
    found: dict[str, float | int | None] = {"largest_micro": largest, "room_gib": room / _GIB}
    if run:
        micro = _micro_to_run(recipe, largest, kind, console)
        # Two micro-batches are enough: the second finds the first one's gradients.
        small = with_micro(recipe, micro, world, min(2, recipe.micro_batches(world)))
        predicted = memory(small, world, vocab, kind).peak
        measured = measured_peak(small, vocab)
        found |= {
            "micro": micro,
            "predicted_gib": predicted / _GIB,
            "measured_gib": measured / _GIB,
            "difference": predicted / measured - 1,
        }
        console.print(
            f"Measured over {STEPS} steps at batch.micro {micro}: {measured / _GIB:.4f} GiB, "
            f"predicted {predicted / _GIB:.4f} GiB, {predicted / measured - 1:+.2%}"
        )
    write_output(json_file, found)
    return found


def _device(recipe: Recipe, gib: float | None, run: bool) -> tuple[Device, int]:
    """The kind of device, and the bytes a rank may fill; a GPU that is not here can be planned."""
    if recipe.device == "cuda" and not run and not torch.cuda.is_available():
        if gib is None:
            raise RecipeError(
                "--memory: a GPU that is not here has to be named by its GiB, as --memory 138"
            )
        return "cuda", int(gib * _GIB)
    device = choose_device(recipe.device)
    kind: Device = "cpu" if device.type == "cpu" else "cuda"
    return kind, device_memory(device) if gib is None else int(gib * _GIB)


def _decided(recipe: Recipe) -> Recipe:
    """The recipe with `recompute: auto` decided."""
    if recipe.recompute != "auto":
        return recipe
    layout = create_layout(recipe)
    try:
        chosen = choose_recompute(recipe, layout)
    finally:
        leave()
    return recipe.replaced({"recompute": chosen})


def _micro_to_run(recipe: Recipe, largest: int, kind: Device, console: Console) -> int:
    """The largest, but on the CPU, whose memory takes hours to fill, no more than the recipe's."""
    if largest == 0:
        console.print("Not even batch.micro 1 fits by the formula; it is tried all the same.")
        return 1
    if kind == "cpu" and largest > recipe.batch.micro:
        console.print(f"On the CPU the recipe's own batch.micro {recipe.batch.micro} is run.")
        return recipe.batch.micro
    return largest


def measured_peak(recipe: Recipe, vocab: int) -> float:
    """The most bytes allocated at one time while a model is built and trained on random ids."""
    layout = create_layout(recipe)
    try:
        with _counted(layout.device) as peak:
            _train(recipe, vocab, layout)
        return peak[0]
    finally:
        leave()


def _train(recipe: Recipe, vocab: int, layout: Layout) -> None:
    chunks = build_model(recipe, vocab, layout)
    optimizer = create_optimizer(chunks, recipe, layout)
    passes = NextToken(chunks, recipe, layout)
    rows = recipe.batch.sequences // layout.data.size
    drawn = torch.Generator().manual_seed(recipe.seed)
    for _ in range(STEPS):
        tokens = torch.randint(0, vocab, (rows, recipe.sequence_length + 1), generator=drawn)
        # Moved once, as the loader does.
        places = torch.arange(recipe.sequence_length).repeat(rows, 1)
        batch = Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), places, 0, {})
        supervised = torch.tensor(
            float(recipe.batch.sequences * recipe.sequence_length), device=layout.device
        )
        with optimizer.accumulate():
            losses = passes.run(batch, supervised)
            finalize_gradients(chunks, layout, losses)
        optimizer.step(recipe.optimizer.lr)


@contextmanager
def _counted(device: torch.device) -> Iterator[list[float]]:
    """Inside, what is allocated counts; afterwards the list holds the most bytes at one time."""
    found: list[float] = []
    if device.type != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        found.append(float(torch.cuda.max_memory_allocated(device) - before))
        return
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        yield found
    assert recorded.profiler is not None and recorded.profiler.kineto_results is not None
    events = recorded.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    allocated, most = 0, 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        allocated += change
        most = max(most, allocated)
    found.append(float(most))


def _table(recipe: Recipe, needed: Memory, kind: Device) -> Table:
    title = f"{recipe.run}, {kind}: a rank's memory, batch.micro {recipe.batch.micro}"
    rows = {
        "weights": needed.weights,
        "optimizer": needed.optimizer,
        "gradients": needed.gradients,
        **{f"kept: {part}": size for part, size in needed.activations.items()},
        **{f"step: {moment}": needed.states + size for moment, size in needed.moments.items()},
        f"peak ({needed.moment})": needed.peak,
    }
    cells = ((part, f"{size / _GIB:.4f}") for part, size in rows.items())
    return table_of(title, ("part", "GiB"), cells)
