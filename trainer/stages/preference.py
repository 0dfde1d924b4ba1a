"""Preference tuning on pairs of answers (chosen, rejected), or on answers judged good or bad."""

from collections.abc import Callable, Iterator
from functools import partial
from math import isnan
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels.launch import sent
from trainer.data.batch import Batch
from trainer.data.loader import Loader, validation_batches
from trainer.model.lora import adapters_off
from trainer.model.micro_batches import MicroBatch, MicroBatchCutter
from trainer.parallel.megatron import evaluating
from trainer.parallel.schedule import Losses, run_schedule
from trainer.stages.answers import (
    answer_log_probabilities,
    segment_ids,
    segment_indices,
    sum_over_context,
)
from trainer.stages.example import show_first_example
from trainer.stages.preference_losses import (
    JUDGED_FIGURES,
    judged_losses,
    mean_metrics,
    pair_figures,
    pair_losses,
)
from trainer.stages.reference import AnswerPass, ensure_references
from trainer.stages.stage import StageParts, open_loader

LossOf = Callable[[MicroBatch, Tensor], tuple[Tensor, Tensor, dict[str, Tensor]]]
"""(micro-batch, nats fp32 [batch, sequence / context]) -> (loss [], token count [], metrics)."""


class Preference:
    """A loss over pairs of answers, or over judged ones (KTO), against a reference model.

    The loss is a mean over the pairs of the global batch, independent of packing, micro-batch and
    layout. KTO's baseline is over the whole global batch too: it takes a forward pass of its own
    before each step.
    """

    def __init__(self, parts: StageParts) -> None:
        self.parts = parts
        self._section = parts.recipe.preference
        self._cutter = MicroBatchCutter(parts.recipe, parts.layout)
        self._answers = AnswerPass(parts.chunks, parts.recipe, parts.layout)
        self._judged = self._section.loss == "kto"
        self._figures = JUDGED_FIGURES if self._judged else pair_figures(self._section)
        stored = self._section.needs_reference and self._section.reference == "stored"
        self._references = ensure_references(parts) if stored else None
        if parts.step == 0 and parts.layout.reports:
            show_first_example(parts, self.stream_arguments())

    def stream_arguments(self) -> dict[str, Any]:
        """The arguments of `Stream`; answers come with their reference log-probabilities."""
        arguments = self.parts.sources.stream_arguments(self.parts.recipe)
        return arguments | {"references": self._references}

    def open_stream(self, state: dict[str, Any] | None) -> Loader:
        """This rank's rows of the global batches, from the saved `state` on."""
        return open_loader(self.parts, self.stream_arguments(), state)

    def kept(self, state: dict[str, Any] | None) -> dict[str, bytes]:
        """Nothing: the stream's state says all."""
        return {}

    def weight_of(self, batch: Batch) -> int:
        """Pairs in these rows, or judged answers."""
        assert batch.segments is not None, "a stream of pairs gives segments"
        return int(batch.segments.counts.sum()) // 2

    def run(self, batch: Batch, weight: Tensor) -> Losses:
        """Forward and backward; `weight`: pairs of the global batch, fp32 [].

        Its figures are the rewards, accuracy, log-probabilities and KL of these pairs.
        """
        sums = self._run(batch, weight, forward_only=False)
        return Losses(_mean(sums.pop("loss"), weight), mean_metrics(sums, weight))

    def validate(self) -> dict[str, float]:
        """`loss` and training's figures over the held-out rows, with their own KTO baseline."""
        zero = torch.zeros((), dtype=torch.float64, device=self.parts.layout.device)
        totals = dict.fromkeys(self._figures, zero)
        loss = pairs = zero
        with evaluating(self.parts.chunks), torch.no_grad():
            baseline = self._held_out_baseline() if self._judged else None
            for batch, weight in self._held_out():
                sums = self._run(batch, weight, forward_only=True, baseline=baseline)
                # As the loss of a step, and of other stages' validation: a mean of fp32 a batch.
                loss = loss + _mean(sums.pop("loss"), weight).double() * weight
                totals = {name: total + sums[name] for name, total in totals.items()}
                pairs = pairs + weight
        means = {"loss": _mean(loss, pairs), **mean_metrics(totals, pairs)}
        numbers = {name: mean.item() for name, mean in means.items()}
        return {name: number for name, number in numbers.items() if not isnan(number)}

    def _held_out(self) -> Iterator[tuple[Batch, Tensor]]:
        """This rank's rows of the validation's batches, and the pairs of each whole one."""
        recipe, layout = self.parts.recipe, self.parts.layout
        share = recipe.batch.micro * layout.pipeline.size
        rows = range(layout.data.rank * share, (layout.data.rank + 1) * share)
        together = layout.data.size * share
        arguments, count = self.stream_arguments(), recipe.evaluate.sequences
        for batch in validation_batches(arguments, count, together, rows):
            weight = torch.tensor(float(self.weight_of(batch)), device=layout.device)
            dist.all_reduce(weight, group=layout.data.group)
            yield batch, weight

    def _held_out_baseline(self) -> Tensor:
        """KTO's baseline over all held-out rows, fp32 []: independent of the batch size."""
        total = pairs = torch.zeros((), device=self.parts.layout.device)
        for batch, weight in self._held_out():
            total = total + self._ahead_of_reference(batch, self._of_base(batch))
            pairs = pairs + weight
        return _mean(total, pairs)

    def _run(
        self, batch: Batch, weight: Tensor, *, forward_only: bool, baseline: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The sums over the global batch of the loss and the figures, fp32 [] each."""
        layout = self.parts.layout
        base = self._of_base(batch)
        if self._judged and baseline is None:
            baseline = _mean(self._ahead_of_reference(batch, base), weight)
        # Gradients are averaged over replicas afterwards; this undoes that division.
        scale = layout.replicas.size / weight.clamp(min=1)
        loss = partial(self._loss, scale, base, baseline)
        return run_schedule(
            partial(_forward_step, loss),
            self._cutter.cut(batch),
            self.parts.chunks,
            layout,
            figures=self._figures,
            forward_only=forward_only,
        )

    def _of_base(self, batch: Batch) -> list[Tensor] | None:
        """The frozen base's log-probabilities, fp32 [rows, most] for each micro-batch.

        [] on all pipeline stages but the last; None where the reference is stored, or not needed.
        """
        if self._section.reference == "stored" or not self._section.needs_reference:
            return None
        with adapters_off(self.parts.chunks):
            return self._answers.of(batch)

    def _ahead_of_reference(self, batch: Batch, base: list[Tensor] | None) -> Tensor:
        """Log-ratios to the reference of mismatched answers, summed over the global batch; []."""
        layout = self.parts.layout
        total = torch.zeros((), device=layout.device)
        micro_batches = self._cutter.cut(batch)
        for micro, policy in zip(micro_batches.items, self._answers.of(batch), strict=False):
            ahead = policy - self._reference(micro, base)
            total += _in_twos(micro, ahead)[:, 1].sum() / layout.context.size
        for axis in (layout.replicas, layout.pipeline):
            if axis.size > 1:
                dist.all_reduce(total, group=axis.group)
        return total

    def _reference(self, micro: MicroBatch, base: list[Tensor] | None) -> Tensor:
        """The reference's log-probability of each answer, [rows, most]."""
        assert micro.segments is not None
        return base[micro.number] if base else micro.segments.reference

    def _loss(
        self,
        scale: Tensor,
        base: list[Tensor] | None,
        baseline: Tensor | None,
        micro: MicroBatch,
        nats: Tensor,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        assert micro.segments is not None
        context = self.parts.layout.context
        ids = segment_ids(micro.layout.position_ids)[:, micro.places]
        most = micro.segments.reference.shape[1]
        sums, counts = answer_log_probabilities(nats, micro.labels, ids, most)
        policy = _in_twos(micro, sum_over_context(sums, context))
        tokens = _in_twos(micro, sum_over_context(counts.float(), context))
        reference = _in_twos(micro, self._reference(micro, base))
        if baseline is not None:
            good = _in_twos(micro, micro.segments.good)[:, 0]
            losses, metrics = judged_losses(
                self._section, policy[:, 0], reference[:, 0], good, baseline
            )
        else:
            known = reference if self._section.needs_reference else None
            losses, metrics = pair_losses(self._section, policy, tokens, known)
        # Every context rank computes the same losses, whose sum must count once.
        report = {"loss": losses.detach(), **metrics}
        sums_of = {name: values.sum() / context.size for name, values in report.items()}
        return losses.sum() * scale, torch.ones((), dtype=torch.int), sums_of


def _mean(total: Tensor, pairs: Tensor) -> Tensor:
    """The mean, `total` / `pairs`, both []; 0 without pairs."""
    return total / pairs.clamp(min=1)


def _in_twos(micro: MicroBatch, answers: Tensor) -> Tensor:
    """The real answers of a padded [rows, most] as [pairs, 2]."""
    assert micro.segments is not None
    indices = segment_indices(micro.segments.counts, answers.shape[1])
    return answers.flatten()[sent(indices, answers.device)].view(-1, 2)


def _forward_step(
    loss: LossOf, micro_batches: Iterator[MicroBatch], chunk: Any
) -> tuple[Tensor, Callable[..., Any]]:
    micro = next(micro_batches)
    nats = chunk(micro.tokens, micro.layout, micro.labels, reduction="none")
    return nats, partial(loss, micro)
