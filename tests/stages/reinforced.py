"""Fixed answers through `stage: reinforce`, for whoever compares it with another trainer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from tests.stages.peers import VOCAB, Weights, _place
from trainer.data.tokenizer import load_tokenizer
from trainer.evaluate.respondent import WrittenAnswer
from trainer.hugging_face.names import tensor_map
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.schedule import finalize_gradients
from trainer.parallel.sharding import sharded_parameters
from trainer.parallel.zero import create_optimizer
from trainer.recipe import Recipe
from trainer.sources import Sources
from trainer.stages import StageParts, create_stage
from trainer.stages.stage import FrozenCopy

ADAPTER = re.compile(r"layers\.(\d+)\.(\w+)\..*adapters\.(\w+)\.([AB])$")
MODULES = {"self_attention": "self_attn", "mlp": "mlp"}


@dataclass(frozen=True)
class Case:
    """A recipe, what the policy answers, and the weights before and after it has moved."""

    recipe: Recipe
    written: tuple[WrittenAnswer, ...]
    start: Weights
    then: Weights


@dataclass(frozen=True)
class Learned:
    """What two steps gave: of each the loss and the figures; of the second this rank's gradients.

    `answers`: (prompt, tokens, advantage, nats) of each, all updates.
    """

    losses: list[float]
    figures: list[dict[str, float]]
    answers: list[tuple[tuple[int, ...], tuple[int, ...], float, tuple[float, ...]]]
    boxes: list[tuple[str, tuple[slice, ...], np.ndarray]]


def adapter(name: str, shape: tuple[int, ...], moved: bool) -> np.ndarray:
    """An adapter's matrix, before or after the policy has moved; it follows from its name."""
    generator = np.random.default_rng(sum(name.encode()))
    values = 0.2 * generator.standard_normal(shape, dtype=np.float32)
    if moved:
        values += 0.02 * generator.standard_normal(shape, dtype=np.float32)
    return values


def learned(cases: Sequence[Case]) -> list[Learned]:
    """On each rank: the first two steps of each case, the second by the weights `then`."""
    return [_learned(case) for case in cases]


def _learned(case: Case) -> Learned:
    recipe, layout = case.recipe, create_layout(case.recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        _fill(chunks, recipe, case.start, moved=False)
        sources = Sources((), (), load_tokenizer(recipe.tokenizer or ""))
        frozen = None
        if recipe.reinforce.keeps_copy:
            frozen = FrozenCopy(build_model(recipe, VOCAB, layout), Path("base"), "its seal")
            _fill(frozen.chunks, recipe, case.start, moved=False)
        parts = StageParts(recipe, layout, sources, chunks, step=1, frozen=frozen)
        stage: Any = create_stage(parts)
        stage.policy.answers = lambda asked, first: list(case.written)
        stream = stage.open_stream(None)
        optimizer = create_optimizer(chunks, recipe, layout)
        found, figures = [], []
        for moved in (False, True):
            if moved:
                _fill(chunks, recipe, case.then, moved=True)
            for parameter in (p for chunk in chunks for p in chunk.parameters()):
                parameter.grad = None
            batch = next(stream)
            weight = torch.tensor(float(stage.weight_of(batch)))
            dist.all_reduce(weight, group=layout.data.group)
            with optimizer.accumulate():
                losses = stage.run(batch, weight)
                finalize_gradients(chunks, layout, losses)
            found.append(losses.mean.item())
            figures.append({name: mean.item() for name, mean in losses.figures.items()})
        boxes = [
            (box.name, _place(box), box.of(optimizer.gradient(parameter)).numpy().copy())
            for parameter, sharding in sharded_parameters(chunks)
            if parameter.requires_grad
            for box in sharding.boxes
        ]
        answers = [(one.prompt, one.tokens, one.advantage, one.nats) for one in stream.answers]
        return Learned(found, figures, answers, boxes)
    finally:
        leave()


@torch.no_grad()
def _fill(chunks: list[Any], recipe: Recipe, weights: Weights, moved: bool) -> None:
    read = {name: torch.from_numpy(values) for name, values in weights.items()}.__getitem__
    wholes = {joined.name: joined.join(read) for joined in tensor_map(recipe.model)}
    for parameter, sharding in sharded_parameters(chunks):
        for box in sharding.boxes:
            whole = wholes.get(box.name)
            if whole is None:
                whole = torch.from_numpy(adapter(box.name, box.global_shape, moved))
            box.of(parameter).copy_(whole[_place(box)])


def whole_boxes(ranks: Sequence[Learned]) -> dict[str, Tensor]:
    """The gradients of all ranks by our global names, whole."""
    parts: dict[str, list[tuple[tuple[slice, ...], np.ndarray]]] = {}
    for one in ranks:
        for name, place, values in one.boxes:
            parts.setdefault(name, []).append((place, values))
    found = {}
    for name, boxes in parts.items():
        shape = [max(place[axis].stop for place, _ in boxes) for axis in range(len(boxes[0][0]))]
        found[name] = torch.full(shape, torch.nan)
        for place, values in boxes:
            found[name][place] = torch.from_numpy(values)
    return found


def adapted_name(ours: str) -> tuple[str, str]:
    """Hugging Face's name of the weight that an adapter's matrix stands beside, and A or B."""
    found = ADAPTER.search(ours)
    assert found is not None, ours
    layer, module, part, matrix = found.groups()
    return f"model.layers.{layer}.{MODULES[module]}.{part}.weight", matrix


def reinforced_recipe(recipe: Recipe, folder: Path, **keys: Any) -> Recipe:
    """The recipe with other keys, whose run is in this folder."""
    return recipe.replaced({"run": str(folder), **keys})
