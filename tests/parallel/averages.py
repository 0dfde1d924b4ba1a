"""A few steps of a tiny model at any layout, with the average of its weights kept beside."""

from typing import Any

import torch

from tests.parity.lora import wake
from tests.parity.training import SEQUENCES, VOCAB, batch_of, recipe_of
from trainer.data.batch import IGNORE, Batch
from trainer.model.passes import NextToken
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.schedule import finalize_gradients
from trainer.parallel.sharding import sharded_parameters
from trainer.parallel.zero import create_optimizer
from trainer.recipe import Recipe

AverageBox = tuple[str, tuple[int, ...], tuple[int, ...], torch.Tensor]
"""Global name, global shape, offset, values."""
DECAY = 0.6
EMA = {"kind": "ema", "decay": DECAY}
LORA: dict[str, Any] = {
    **{"stage": "sft", "init_from": "unused", "data__mixture": [{"corpus": "unused.jsonl"}]},
    "lora__rank": 4,
}
SKIPPED = 2


def averaging(**keys: Any) -> Recipe:
    """The tiny model with an average; Adam's root is kept from making much of rounding."""
    return recipe_of(**{"checkpoint__average": EMA, "optimizer__eps": 1e-2} | keys)


def averages_of(recipe: Recipe, steps: int) -> tuple[list[AverageBox], bool, int, int]:
    """This rank's boxes of the average after so many steps, of which one has a gradient of NaN.

    Also: whether they are, bit for bit, what torch.lerp makes of the masters after each step; how
    many times weights entered; and the bytes that this rank holds of the average.
    """
    layout = create_layout(recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        if recipe.lora is not None:
            wake(chunks, layout)
        optimizer = create_optimizer(chunks, recipe, layout)
        passes = NextToken(chunks, recipe, layout)
        learning = [(p, s) for p, s in sharded_parameters(chunks) if p.requires_grad]
        expected: list[torch.Tensor] = []
        entered = 0
        for step in range(steps):
            _gradients(optimizer, passes, chunks, layout, step)
            optimizer.average(optimizer.step(recipe.optimizer.lr))
            masters = [optimizer.state(p)["master"].clone() for p, _ in learning]
            if step == SKIPPED:
                continue
            entered += 1
            share = torch.tensor(max(1 / entered, 1 - DECAY))
            pairs = zip(expected or masters, masters, strict=True)
            expected = [torch.lerp(old, new, share) for old, new in pairs]
        found = [optimizer.state(p)["average"].clone() for p, _ in learning]
        same = all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
        boxes = [
            (box.name, box.global_shape, box.offset, box.of(values).clone())
            for (_, sharding), values in zip(learning, found, strict=True)
            for box in sharding.boxes
        ]
        return boxes, same, optimizer.weight_average.entered, _held(optimizer)
    finally:
        leave()


def wholes_of(boxes: list[AverageBox]) -> dict[str, torch.Tensor]:
    """The boxes of one process as whole tensors, by name."""
    found: dict[str, torch.Tensor] = {}
    for name, shape, offset, values in boxes:
        whole = found.setdefault(name, torch.zeros(shape))
        part_of(whole, offset, values).copy_(values)
    return found


def part_of(whole: torch.Tensor, offset: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """The box of a whole tensor at `offset`, of the shape of `like`; a view."""
    return whole[tuple(slice(o, o + s) for o, s in zip(offset, like.shape, strict=True))]


def _gradients(optimizer: Any, passes: Any, chunks: Any, layout: Any, step: int) -> None:
    share = SEQUENCES // layout.data.size
    rows = slice(layout.data.rank * share, (layout.data.rank + 1) * share)
    whole = batch_of(step)
    own = Batch(whole.tokens[rows], whole.labels[rows], whole.position_ids[rows], 0, {})
    supervised = (whole.labels != IGNORE).sum().float()
    with optimizer.accumulate():
        weight = supervised * (float("nan") if step == SKIPPED else 1.0)
        finalize_gradients(chunks, layout, passes.run(own, weight))


def _held(optimizer: Any) -> int:
    """Bytes of the average on this rank: of whole tensors at stage 0, of a partition beyond."""
    if hasattr(optimizer, "_averages"):
        return sum(values.nbytes for values in optimizer._averages.values())
    states = optimizer._zero.optimizer.state.values()
    return sum(state["average"].nbytes for state in states if "average" in state)
