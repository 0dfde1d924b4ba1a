"""One batch from a file of examples through a stage of ours, and its model as a peer has it."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from tests.training.runs import recipe_of
from trainer.data.manifest import load_manifest
from trainer.data.tokenizer import Tokenizer, load_tokenizer
from trainer.hugging_face.names import tensor_map
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.layout import Layout
from trainer.parallel.schedule import finalize_gradients
from trainer.parallel.sharding import sharded_parameters
from trainer.parallel.zero import create_optimizer
from trainer.recipe import Recipe
from trainer.sources import Sources
from trainer.stages import StageParts, create_stage

VOCAB = 384
TOLERANCE = 1e-5
"""Of a loss in nats, and of a gradient beside its weight's largest one: both sides add up fp32
numbers in other orders (rows here are packed, there padded; heads and projections are joined here).
Measured on the sets of these tests: 3e-6 at most."""

Weights = dict[str, np.ndarray]
"""A model's tensors under Hugging Face's names; no torch tensors, which processes would share."""


@dataclass(frozen=True)
class Work:
    """A recipe, its sets, the weights it starts with, and those that the batch then meets."""

    recipe: Recipe
    folders: list[Path]
    start: Weights
    then: Weights


@dataclass(frozen=True)
class Passed:
    """What one batch gave: its loss, the stage's figures, and this rank's boxes of the gradients.

    `weight`: what the loss is a mean over; `segments`: how many stretches each row has, the padding
    included.
    """

    loss: float
    figures: dict[str, float]
    weight: int
    segments: list[int]
    boxes: list[tuple[str, tuple[slice, ...], np.ndarray]]


def network(seed: int, **config: Any) -> Any:
    """A small random Llama of transformers, fp32, in which no two weights are alike.

    `config`: further keys of its configuration.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    # Weights so large that it matters which tokens attention sees.
    more = {"rms_norm_eps": 1e-5, "initializer_range": 0.1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, **shape, **heads, **more | config))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def weights_of(model: Any) -> Weights:
    """Copies of a model's weights."""
    return {name: values.numpy().copy() for name, values in model.state_dict().items()}


def set_recipe(
    folder: Path, stage: str, records: list[dict[str, Any]], tokenizer: Tokenizer, **keys: Any
) -> Recipe:
    """`stage` on a file of these records, none held out; keys override, __ for the dot."""
    tokenizer.save(folder / "tokenizer")
    data = folder / "set.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    changed = {
        "stage": stage,
        "precision": "fp32",
        "tokenizer": str(folder / "tokenizer"),
        "data__mixture": [{"corpus": str(data)}],
        "conversations__validation": 0.0,
        "model__layers": 2,
        **keys,
    }
    (folder / "run").mkdir()
    return recipe_of(folder / "run", folder, **changed)


def with_parallel(recipe: Recipe, **keys: Any) -> Recipe:
    """The recipe at another layout."""
    return Recipe.from_keys({**recipe.model_dump(mode="json"), "parallel": keys})


def pass_batches(works: list[Work]) -> list[Passed]:
    """On each rank: the first batch of each work, forward and backward."""
    return [_pass_batch(work) for work in works]


def _sources(work: Work) -> Sources:
    manifests = tuple(map(load_manifest, work.folders))
    return Sources(tuple(work.folders), manifests, load_tokenizer(work.folders[0] / "tokenizer"))


def _pass_batch(work: Work) -> Passed:
    recipe, layout = work.recipe, create_layout(work.recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        _load(chunks, layout, recipe, work.start)
        stage = create_stage(StageParts(recipe, layout, _sources(work), chunks, step=0))
        _load(chunks, layout, recipe, work.then)
        optimizer = create_optimizer(chunks, recipe, layout)
        batch = next(stage.open_stream(None))
        weight = torch.tensor(float(stage.weight_of(batch)))
        with optimizer.accumulate():
            losses = stage.run(batch, weight)
            finalize_gradients(chunks, layout, losses)
        boxes = [
            (box.name, _place(box), box.of(optimizer.gradient(parameter)).numpy().copy())
            for parameter, sharding in sharded_parameters(chunks)
            for box in sharding.boxes
        ]
        segments = (batch.position_ids == 0).sum(dim=1).tolist()
        figures = {name: mean.item() for name, mean in losses.figures.items()}
        return Passed(losses.mean.item(), figures, int(weight), segments, boxes)
    finally:
        leave()


def losses_of_steps(work: Work, steps: int) -> list[float]:
    """On each rank: the loss of each of some steps of training, all on the work's first batch."""
    recipe, layout = work.recipe, create_layout(work.recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        _load(chunks, layout, recipe, work.start)
        stage = create_stage(StageParts(recipe, layout, _sources(work), chunks, step=0))
        optimizer = create_optimizer(chunks, recipe, layout)
        batch = next(stage.open_stream(None))
        sums = torch.tensor(float(stage.weight_of(batch)))
        dist.all_reduce(sums, group=layout.data.group)
        found = []
        for _ in range(steps):
            with optimizer.accumulate():
                losses = stage.run(batch, sums)
                finalize_gradients(chunks, layout, losses)
            optimizer.step(recipe.optimizer.lr)
            found.append(losses.mean.item())
        return found
    finally:
        leave()


@torch.no_grad()
def _load(chunks: list[Any], layout: Layout, recipe: Recipe, weights: Weights) -> None:
    read = {name: torch.from_numpy(values) for name, values in weights.items()}.__getitem__
    wholes = {joined.name: joined.join(read) for joined in tensor_map(recipe.model)}
    for parameter, sharding in sharded_parameters(chunks):
        for box in sharding.boxes:
            box.of(parameter).copy_(wholes[box.name][_place(box)])


def _place(box: Any) -> tuple[slice, ...]:
    return tuple(slice(o, o + size) for o, size in zip(box.offset, box.shape, strict=True))


def gradients_of(ranks: list[Passed], recipe: Recipe) -> dict[str, Tensor]:
    """Whole gradients under Hugging Face's names, from the boxes of all ranks."""
    found = {}
    for joined in tensor_map(recipe.model):
        whole = torch.full(joined.shape, torch.nan)
        for passed in ranks:
            for name, place, values in passed.boxes:
                if name == joined.name:
                    whole[place] = torch.from_numpy(values)
        for part in joined.parts:
            found[part.name] = part.take(lambda first, last, w=whole: w[first:last], torch.float32)
    return found


def peer_gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of every weight of a transformers model."""
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def largest_gradient_difference(
    found: dict[str, Tensor], expected: dict[str, Tensor]
) -> tuple[float, str]:
    """Of any element of a weight's gradient, beside the largest of that weight; and whose."""
    assert found.keys() == expected.keys()
    worst = (0.0, "")
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        assert scale > 0, name
        difference = (found[name] - gradient).abs().max().item() / scale
        assert not math.isnan(difference), f"{name}: a part of it is on no rank"
        worst = max(worst, (difference, name))
    return worst
