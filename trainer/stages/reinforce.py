"""Reinforcement with a reward that is verified: the policy is asked, judged, and moved."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainer.data.batch import Batch
from trainer.errors import CheckpointError
from trainer.model.lora import adapters_off
from trainer.model.micro_batches import MicroBatch, MicroBatchCutter
from trainer.model.transformer import LanguageModel
from trainer.parallel.megatron import evaluating
from trainer.parallel.schedule import Losses, forward_backward, run_schedule
from trainer.stages.answer_rows import AnswerBatch
from trainer.stages.answer_stream import KEPT, AnswerStream
from trainer.stages.answers import segment_ids
from trainer.stages.asking import AskedQuestion, Policy, asked_questions
from trainer.stages.policy_losses import POLICY_FIGURES, TokenTerms, policy_loss
from trainer.stages.sampled_answers import lines_of
from trainer.stages.stage import KEPT_BY_STAGE, StageParts

log = logging.getLogger(__name__)

REFERENCE = f"{KEPT_BY_STAGE}reference"
"""The attachment that holds the seal and the folder of what the policy is held to."""


class Reinforcement:
    """Group-relative policy optimization on questions with a key.

    A step learns from answers that the policy wrote up to `reinforce.updates` x `passes` - 1 steps
    before; the loss is a mean over the global batch, independent of packing, micro-batch, layout.
    """

    def __init__(self, parts: StageParts) -> None:
        self.parts = parts
        self.section = parts.recipe.reinforce
        self.questions = asked_questions(parts.recipe, parts.sources)
        self.policy = Policy(parts.chunks, parts.recipe, parts.layout, parts.sources)
        self._cutter = MicroBatchCutter(parts.recipe, parts.layout)
        self._stream: AnswerStream | None = None
        _check_reference(parts)
        if parts.step == 0 and parts.layout.reports:
            _describe(parts, self.questions)

    def stream_arguments(self) -> dict[str, Any]:
        """Nothing: there is no stream of documents."""
        return {}

    def open_stream(self, state: dict[str, Any] | None) -> "AnswerStream":
        """This rank's rows of the global batches, each sampling made when its first is wanted."""
        self._stream = AnswerStream(
            *(self.parts, self.questions, self.policy.answers, self.log_probabilities, state)
        )
        return self._stream

    def kept(self, state: dict[str, Any] | None) -> dict[str, bytes]:
        """The answers that the step after `state` still learns from, and the reference's seal."""
        frozen = self.parts.frozen
        found = {} if frozen is None else {REFERENCE: f"{frozen.seal} {frozen.folder}\n".encode()}
        if state is None or self._stream is None or not self._stream.goes_on(state):
            return found
        return found | {KEPT: lines_of(self._stream.answers)}

    def weight_of(self, batch: Batch) -> int:
        """Answers in these rows."""
        assert isinstance(batch, AnswerBatch)
        return batch.answers

    def run(self, batch: Batch, weight: Tensor) -> Losses:
        """Forward and backward; `weight`: answers of the global batch, which are weighted already.

        Its figures are those of the policy, per token, and those of the answers.
        """
        assert isinstance(batch, AnswerBatch) and self._stream is not None
        layout = self.parts.layout
        reference = self._reference(batch) if self.section.beta else None
        sums = run_schedule(
            partial(self._forward_step, batch, reference),
            self._cutter.cut(batch),
            self.parts.chunks,
            layout,
            figures=self._figures,
        )
        mean = sums.pop("loss")
        tokens = self._stream.tokens_of(batch)
        figures = {name: total / max(tokens, 1) for name, total in sums.items()}
        for name, number in self._stream.figures_of(batch).items():
            # A fill, since copying one number from the host would synchronise.
            figures[name] = torch.full((), number, device=layout.device)
        return Losses(mean, figures)

    def _reference(self, batch: AnswerBatch) -> list[Tensor]:
        """As `log_probabilities`, of the weights that `beta` holds the policy to."""
        if self.parts.frozen is not None:
            return self._log_probabilities(batch, self.parts.frozen.chunks)
        with adapters_off(self.parts.chunks):
            return self.log_probabilities(batch)

    @property
    def _figures(self) -> tuple[str, ...]:
        return (
            POLICY_FIGURES if self.section.beta else tuple(n for n in POLICY_FIGURES if n != "kl")
        )

    def validate(self) -> dict[str, float]:
        """Nothing: suites measure the policy (the recipe is refused with `evaluate.every`)."""
        return {}

    def log_probabilities(self, batch: Batch) -> list[Tensor]:
        """The log-probability of each label, fp32 [rows, sequence / context] a micro-batch.

        By the forward pass that training makes, without gradients; [] on all pipeline stages but
        the last. Collective over the ranks of a replica.
        """
        return self._log_probabilities(batch, self.parts.chunks)

    @torch.no_grad()
    def _log_probabilities(self, batch: Batch, chunks: list[LanguageModel]) -> list[Tensor]:
        with evaluating(chunks):
            reports = forward_backward(
                partial(_forward_only, self.section.temperature),
                self._cutter.cut(batch),
                chunks,
                forward_only=True,
            )
        return [report["policy"] for report in reports]

    def _forward_step(
        self,
        batch: AnswerBatch,
        reference: list[Tensor] | None,
        micro_batches: Iterator[MicroBatch],
        chunk: Any,
    ) -> tuple[Tensor, Callable[..., Any]]:
        micro = next(micro_batches)
        output = chunk(
            *(micro.tokens, micro.layout, micro.labels),
            temperature=self.section.temperature,
            entropy=True,
        )
        return output, partial(self._loss, batch, reference, micro)

    def _loss(
        self,
        batch: AnswerBatch,
        reference: list[Tensor] | None,
        micro: MicroBatch,
        output: Tensor,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        layout = self.parts.layout
        first = micro.number * len(micro.tokens)
        rows = slice(first, first + len(micro.tokens))
        nats, entropies = output
        place = partial(torch.Tensor.to, device=layout.device, non_blocking=True)
        sampled = None
        if batch.sampled is not None:
            sampled = place(batch.sampled[rows])[:, micro.places]
        terms = TokenTerms(
            policy=-nats,
            sampled=sampled,
            reference=None if reference is None else reference[micro.number],
            labels=micro.labels,
            segments=segment_ids(micro.layout.position_ids)[:, micro.places],
            ahead=place(batch.ahead[rows]),
            weights=place(batch.weights[rows]),
            lengths=place(batch.lengths[rows]),
        )
        loss, sums = policy_loss(self.section, terms, layout.context)
        sums["entropy"] = terms.of_targets(entropies.detach()).sum()
        # Gradients are averaged over replicas afterwards; this undoes that division.
        return loss * layout.replicas.size, torch.ones((), dtype=torch.int), sums


def _check_reference(parts: StageParts) -> None:
    """Raise CheckpointError where a resumed run would be held to other weights than before."""
    before = parts.kept.get(REFERENCE)
    if parts.frozen is None or before is None:
        return
    seal, _, folder = before.decode().strip().partition(" ")
    if seal != parts.frozen.seal:
        raise CheckpointError(
            f"init_from: {parts.frozen.folder} is not what reinforce.beta has held this run to; put"
            f" that back, as init_from={folder}, or choose another run"
        )


def _describe(parts: StageParts, questions: Sequence[AskedQuestion]) -> None:
    section = parts.recipe.reinforce
    unknowable = sum(not asked.question.answerable for asked in questions)
    each = parts.recipe.batch.sequences // section.group
    log.info(
        "%d questions, %d of them with no answer to know; a step learns from %d answers to each of"
        " %d questions, sampled up to %d steps before",
        *(len(questions), unknowable, section.group, each, section.lag),
    )


def _forward_only(
    temperature: float, micro_batches: Iterator[MicroBatch], chunk: Any
) -> tuple[Tensor, Callable[..., Any]]:
    micro = next(micro_batches)
    nats = chunk(micro.tokens, micro.layout, micro.labels, temperature=temperature)
    return nats, _report


def _report(nats: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    return nats.sum(), torch.ones((), dtype=torch.int), {"policy": -nats}
