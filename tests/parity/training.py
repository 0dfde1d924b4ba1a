"""A few training steps of a tiny model at any layout, and what must be equal to one process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import kernels.dispatch
from tests.nested import nested
from trainer.data.batch import IGNORE, Batch
from trainer.model.passes import NextToken
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.layout import Layout
from trainer.parallel.schedule import finalize_gradients
from trainer.parallel.sharding import sharded_parameters
from trainer.parallel.zero import create_optimizer
from trainer.recipe import Recipe

VOCAB, SEQUENCE, SEQUENCES = 128, 32, 8


@dataclass(frozen=True)
class Curve:
    """Loss and gradient norm a step, and this rank's boxes of the first step's gradients."""

    losses: list[float]
    norms: list[float]
    gradients: list[tuple[str, tuple[int, ...], tuple[int, ...], np.ndarray]]

    def gradient(self, name: str) -> np.ndarray:
        """A whole gradient, on one process."""
        boxes = [box for box in self.gradients if box[0] == name]
        whole = np.zeros(boxes[0][1], dtype=np.float32)
        for _, _, offset, values in boxes:
            whole[_place(offset, values)] = values
        return whole


def recipe_of(**keys: Any) -> Recipe:
    """The tiny model of the invariants: 4 layers, hidden 64, vocabulary 128; keys override."""
    tree: dict[str, Any] = {
        "run": "unused",
        "device": "cpu",
        "seed": 7,
        "steps": 20,
        "sequence_length": SEQUENCE,
        "model": {
            **{"layers": 4, "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128},
            "vocab": VOCAB,
        },
        "batch": {"sequences": SEQUENCES, "micro": 2},
        # At 1e-2 rounding alone grows to 2e-5 in 5 steps for some seeds: here it stays near 1e-6.
        "optimizer": {"lr": 5e-3, "clip": 0.3},
        "zero": {"stage": 0},
    }
    return Recipe.from_keys(nested(tree, keys))


def batch_of(step: int, rows: int = SEQUENCES) -> Batch:
    """A global batch of two documents a row and labels missing here and there, unevenly."""
    generator = torch.Generator().manual_seed(100 + step)
    tokens = torch.randint(0, VOCAB, (rows, SEQUENCE + 1), generator=generator)
    labels = tokens[:, 1:].clone()
    shares = torch.rand(rows, 1, generator=generator) * 0.6
    labels[torch.rand(labels.shape, generator=generator) < shares] = IGNORE
    positions = torch.arange(SEQUENCE).repeat(rows, 1)
    for row in positions:
        border = int(torch.randint(3, SEQUENCE - 3, (1,), generator=generator))
        row[border:] -= border
    return Batch(tokens[:, :-1].contiguous(), labels, positions, step * rows, {})


def train_steps(
    recipe: Recipe,
    steps: int,
    leave_out: str | None = None,
    prepare: Callable[[list[Any], Layout], None] | None = None,
) -> Curve:
    """Train from the recipe's seed; `leave_out` "finalize" plants a missing all-reduce.

    `prepare` may change the weights that the model starts with.
    """
    layout = create_layout(recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        if prepare is not None:
            prepare(chunks, layout)
        passes = NextToken(chunks, recipe, layout)
        optimizer = create_optimizer(chunks, recipe, layout)
        share = recipe.batch.sequences // layout.data.size
        rows = slice(layout.data.rank * share, (layout.data.rank + 1) * share)
        losses, norms, gradients = [], [], []
        for step in range(steps):
            whole = batch_of(step, recipe.batch.sequences)
            supervised = (whole.labels != IGNORE).sum().float()
            own = Batch(whole.tokens[rows], whole.labels[rows], whole.position_ids[rows], 0, {})
            with optimizer.accumulate():
                measured = passes.run(own, supervised)
                if leave_out != "finalize":
                    finalize_gradients(chunks, layout, measured)
            if step == 0:
                for parameter, sharding in sharded_parameters(chunks):
                    if not parameter.requires_grad:
                        continue
                    gradient = optimizer.gradient(parameter)
                    for box in sharding.boxes:
                        values = box.of(gradient).detach().float().cpu().numpy().copy()
                        gradients.append((box.name, box.global_shape, box.offset, values))
            outcome = optimizer.step(recipe.optimizer.lr)
            losses.append(measured.mean.item())
            norms.append(outcome.grad_norm.item())
        return Curve(losses, norms, gradients)
    finally:
        leave()


def train_steps_on_triton(recipe: Recipe, steps: int) -> Curve:
    """`train_steps` as LYCEUM_KERNELS=triton makes it: on the CPU, in Triton's interpreter."""
    kernels.dispatch.MODE = "triton"
    return train_steps(recipe, steps)


def largest_gradient_difference(curve: Curve, reference: Curve) -> tuple[float, str]:
    """The largest absolute difference of any element of the first gradients, and where."""
    worst = (0.0, "")
    wholes: dict[str, np.ndarray] = {}
    for name, _, offset, values in curve.gradients:
        whole = wholes.setdefault(name, reference.gradient(name))
        difference = float(np.abs(values - whole[_place(offset, values)]).max())
        worst = max(worst, (difference, name))
    return worst


def _place(offset: tuple[int, ...], values: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(o, o + s) for o, s in zip(offset, values.shape, strict=True))
