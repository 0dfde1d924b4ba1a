"""Next-token prediction: the loss a supervised token, shared by pre-training and fine-tuning."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainer.data.batch import Batch
from trainer.model.micro_batches import BeforeForward, MicroBatch, MicroBatchCutter
from trainer.model.output import PLAIN
from trainer.model.transformer import LanguageModel
from trainer.parallel.layout import Layout
from trainer.parallel.schedule import Losses, run_schedule
from trainer.recipe import Recipe
from trainer.recipe.loss import LossSection

OBJECTIVE = "objective"
"""The figure of a step that says what was minimised, nats a supervised token."""


class NextToken:
    """Runs batches through the model's schedule, with the loss a supervised token.

    Changing micro-batch or layout must not change it: trainer/README.md, D9.
    """

    def __init__(
        self,
        chunks: list[LanguageModel],
        recipe: Recipe,
        layout: Layout,
        before_forward: BeforeForward | None = None,
    ) -> None:
        self._chunks = chunks
        self._layout = layout
        self._cutter = MicroBatchCutter(recipe, layout)
        self._before_forward = before_forward
        self._trained = recipe.loss

    def run(self, batch: Batch, supervised: Tensor, *, forward_only: bool = False) -> Losses:
        """Forward, and unless `forward_only` backward, of this rank's rows of a global batch.

        `supervised`: how many tokens of the *global* batch have a label, fp32 []. The loss that is
        reported is the plain cross entropy, and the figure `objective` what is minimised, where the
        recipe's `loss` is not plain; with `forward_only` that is left out. A token that counts more
        than once does so in the sum alone, not in the number that it is divided by.
        """
        trained = PLAIN if forward_only else self._trained
        weight = supervised.clamp(min=1)
        # Gradients are averaged over replicas afterwards; this undoes that division.
        scale = self._layout.replicas.size / weight
        before = None if forward_only else self._before_forward
        sums = run_schedule(
            partial(_forward_step, scale, trained, before),
            self._cutter.cut(batch),
            self._chunks,
            self._layout,
            forward_only=forward_only,
            figures=() if trained.plain else (OBJECTIVE,),
        )
        means = {name: total / weight for name, total in sums.items()}
        return Losses(mean=means.pop("loss"), figures=means)


_ONE = torch.ones((), dtype=torch.int)
"""The number of tokens that the schedule asks for; the loss is divided by theirs already."""


def _plain_loss(scale: Tensor, total: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    return total * scale, _ONE, {"loss": total.detach()}


def _loss_with_terms(
    scale: Tensor, weights: Tensor | None, total: Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """`total`: objective and cross entropy, fp32 [2]; a token's, where tokens have `weights`."""
    if weights is not None:
        total = torch.stack([(total[0] * weights).sum(), total[1].sum()])
    objective, nats = total.unbind()
    return objective * scale, _ONE, {"loss": nats.detach(), OBJECTIVE: objective.detach()}


def _forward_step(
    scale: Tensor,
    trained: LossSection,
    before: BeforeForward | None,
    micro_batches: Iterator[MicroBatch],
    chunk: Any,
) -> tuple[Tensor, Callable[..., Any]]:
    micro = next(micro_batches)
    if before is not None:
        before(micro)
    weights = None
    if trained.weighs_tokens:
        assert micro.first_tokens is not None, "the micro-batches are cut by the same recipe"
        weights = 1.0 + micro.first_tokens * (trained.first_token_weight - 1)
    total = chunk(
        *(micro.tokens, micro.layout, micro.labels),
        reduction="sum" if weights is None else "none",
        expected_gradient=scale if weights is None else None,
        loss=trained,
    )
    if trained.plain:
        return total, partial(_plain_loss, scale)
    return total, partial(_loss_with_terms, scale, weights)
