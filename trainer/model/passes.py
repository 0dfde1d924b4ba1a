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
        recipe's `loss` is not plain; with `forward_only` that is left out.
        """
        trained = PLAIN if forward_only else self._trained
        weight = supervised.clamp(min=1)
        # Gradients are averaged over replicas afterwards; this undoes that division.
        scale = self._layout.replicas.size / weight
        before = None if forward_only else self._before_forward
        sums = run_schedule(
            partial(_forward_step, _loss(scale, trained), scale, trained, before),
            self._cutter.cut(batch),
            self._chunks,
            self._layout,
            forward_only=forward_only,
            figures=() if trained.plain else (OBJECTIVE,),
        )
        means = {name: total / weight for name, total in sums.items()}
        return Losses(mean=means.pop("loss"), figures=means)


def _loss(
    scale: Tensor, trained: LossSection
) -> Callable[[Tensor], tuple[Tensor, Tensor, dict[str, Tensor]]]:
    tokens = torch.ones((), dtype=torch.int)

    def loss(total: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        if trained.plain:
            return total * scale, tokens, {"loss": total.detach()}
        objective, nats = total.unbind()
        sums = {"loss": nats.detach(), OBJECTIVE: objective.detach()}
        return objective * scale, tokens, sums

    return loss


def _forward_step(
    loss: Callable[..., Any],
    scale: Tensor,
    trained: LossSection,
    before: BeforeForward | None,
    micro_batches: Iterator[MicroBatch],
    chunk: Any,
) -> tuple[Tensor, Callable[..., Any]]:
    micro = next(micro_batches)
    if before is not None:
        before(micro)
    total = chunk(
        *(micro.tokens, micro.layout, micro.labels),
        reduction="sum",
        expected_gradient=scale,
        loss=trained,
    )
    return total, loss
