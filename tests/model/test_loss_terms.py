"""The keys of `loss`: what the model minimises, and what it reports of it."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kernels.dispatch
from tests.parity.ranks import on_ranks
from tests.parity.training import VOCAB, batch_of, recipe_of
from trainer.data.batch import IGNORE, Batch
from trainer.model.micro_batches import MicroBatchCutter
from trainer.model.passes import NextToken
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.schedule import finalize_gradients
from trainer.parallel.sharding import sharded_parameters
from trainer.parallel.zero import create_optimizer
from trainer.recipe import Recipe

SIZES = {"batch__sequences": 4}
# So large that each term is much of the loss: squares of log-sums are near ln(128)^2 = 24.
TERMS = {"loss__z": 0.02, "loss__label_smoothing": 0.2}

# Of tokens, beside the terms, at the layouts that change what a rank sees of a sequence or a loss.
WEIGHTS: dict[str, Any] = {
    **{"stage": "sft", "data__mixture": [{"corpus": "unused"}]},
    **{"loss__first_token_weight": 8.0, **TERMS},
}

Found = tuple[dict[str, float], dict[str, np.ndarray]]
"""Reported numbers, and whole gradients by global name."""


def weights_of(recipe: Recipe, batch: Batch) -> torch.Tensor:
    """How often each label counts, fp32 [rows, sequence]; told position by position."""
    weights = torch.ones(batch.labels.shape)
    for row, labels in enumerate(batch.labels.tolist()):
        for place, label in enumerate(labels):
            inside = batch.position_ids[row, place] > 0
            if label != IGNORE and inside and labels[place - 1] == IGNORE:
                weights[row, place] = recipe.loss.first_token_weight
    return weights


def by_formula(recipe: Recipe) -> Found:
    """From PyTorch's own operators on the model's logits, in one process."""
    layout = create_layout(recipe)
    try:
        (chunk,) = build_model(recipe, VOCAB, layout)
        batch = batch_of(0, recipe.batch.sequences)
        nats, objective = torch.zeros(()), torch.zeros(())
        for micro in MicroBatchCutter(recipe, layout).cut(batch).items:
            logits = chunk(micro.tokens, micro.layout).flatten(0, 1)
            labels = micro.labels.flatten()
            smoothing = recipe.loss.label_smoothing
            total = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
            squares = logits.logsumexp(dim=-1).square() * (labels != IGNORE)
            weights = weights_of(recipe, batch)[micro.sequences.start : micro.sequences.stop]
            objective = objective + ((total + recipe.loss.z * squares) * weights.flatten()).sum()
            nats = nats + F.cross_entropy(logits, labels, reduction="sum").detach()
        count = (batch.labels != IGNORE).sum()
        (objective / count).backward()
        gradients = {name: p.grad.numpy() for name, p in chunk.named_parameters()}
        means = {"loss": nats / count, "objective": objective.detach() / count}
        return {name: value.item() for name, value in means.items()}, gradients
    finally:
        leave()


def by_training(recipe: Recipe, mode: str = "") -> Found:
    """From the trainer's own pass; `evaluated` is the loss of a pass without gradients."""
    kernels.dispatch.MODE = mode
    layout = create_layout(recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        optimizer = create_optimizer(chunks, recipe, layout)
        passes, batch = NextToken(chunks, recipe, layout), batch_of(0, recipe.batch.sequences)
        supervised = (batch.labels != IGNORE).sum().float()
        with torch.no_grad():
            evaluated = passes.run(batch, supervised, forward_only=True)
        assert not evaluated.figures
        with optimizer.accumulate():
            losses = passes.run(batch, supervised)
            finalize_gradients(chunks, layout, losses)
        gradients: dict[str, np.ndarray] = {}
        for parameter, sharding in sharded_parameters(chunks):
            for box in sharding.boxes:
                whole = gradients.setdefault(box.name, np.full(box.global_shape, np.nan))
                place = tuple(slice(o, o + s) for o, s in zip(box.offset, box.shape, strict=True))
                whole[place] = box.of(optimizer.gradient(parameter)).numpy()
        means = {"loss": losses.mean, "evaluated": evaluated.mean, **losses.figures}
        return {name: value.item() for name, value in means.items()}, gradients
    finally:
        leave()


LAYOUTS: dict[str, tuple[int, dict[str, Any], str]] = {
    "logits": (1, {"kernels__loss": "logits"}, ""),
    "fused": (1, {"kernels__loss": "fused"}, ""),
    "logits, tensor": (2, {"kernels__loss": "logits", "parallel__tensor": 2}, ""),
    "fused, tensor": (
        2,
        {"kernels__loss": "fused", "parallel__tensor": 2, "parallel__sequence": True},
        "",
    ),
    "pipeline": (2, {"parallel__pipeline": 2, "parallel__virtual": 2}, ""),
    "logits, triton": (1, {"kernels__loss": "logits"}, "triton"),
    "fused, triton, tensor": (2, {"kernels__loss": "fused", "parallel__tensor": 2}, "triton"),
    "context": (2, {"parallel__context": 2}, ""),
}
OF_WEIGHTS = ("logits", "fused, tensor", "pipeline", "fused, triton, tensor", "context")
"""Those that change what a rank sees of a sequence, or how losses a token get their gradient."""


@pytest.fixture(scope="module")
def asked(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Found]:
    keys = {"terms": TERMS, "weights": WEIGHTS}[request.param]
    return keys, on_ranks(1, by_formula, recipe_of(**SIZES, **keys))[0]


CASES = [("terms", layout) for layout in LAYOUTS] + [("weights", layout) for layout in OF_WEIGHTS]


@pytest.mark.parametrize(("asked", "layout"), CASES, indirect=["asked"])
def test_the_model_minimises_the_formula(layout: str, asked: tuple[dict[str, Any], Found]) -> None:
    """Catches a term that a kernel, a layout or the evaluation gets wrong, and one left out."""
    terms, (means, gradients) = asked
    ranks, keys, mode = LAYOUTS[layout]
    for found, pieces in on_ranks(ranks, by_training, recipe_of(**SIZES, **terms, **keys), mode):
        # In fp32; of sums near 6 nats that is 5e-7 an operation.
        assert found["loss"] == pytest.approx(means["loss"], abs=1e-5)
        assert found["objective"] == pytest.approx(means["objective"], abs=1e-5)
        assert found["evaluated"] == pytest.approx(means["loss"], abs=1e-5)
        for name, piece in pieces.items():
            held = ~np.isnan(piece)
            # Rounding gives 1e-8 (tests/parity).
            np.testing.assert_allclose(piece[held], gradients[name][held], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("asked", ["terms", "weights"], indirect=True)
def test_each_term_is_much_of_the_objective(asked: tuple[dict[str, Any], Found]) -> None:
    """The negative control: the tolerances above would see any term left out."""
    terms, (means, gradients) = asked
    assert means["objective"] - means["loss"] > 0.1
    without_it = {"loss__z": 0.0, "loss__label_smoothing": 0.0, "loss__first_token_weight": 1.0}
    for key in terms.keys() & without_it.keys():
        keys = terms | {key: without_it[key]}
        _, without = on_ranks(1, by_formula, recipe_of(**SIZES, **keys))[0]
        worst = max(np.abs(without[name] - gradients[name]).max() for name in gradients)
        assert worst > 1e-4, key
