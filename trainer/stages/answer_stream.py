"""The batches of `stage: reinforce`: each sampling asked, verified and packed when it is wanted."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.data.batch import Batch
from trainer.errors import CheckpointError, DataError, TrainingError
from trainer.evaluate.respondent import WrittenAnswer
from trainer.files import write_whole
from trainer.model.sequence import context_slice
from trainer.questions.verifiers import verify
from trainer.stages.answer_figures import answer_figures
from trainer.stages.answer_rows import AnswerBatch, AnswerPacker, positions_of, row_places
from trainer.stages.asking import AskedQuestion, QuestionOrder, digest_of
from trainer.stages.policy_losses import advantages, constant_groups
from trainer.stages.rewards import Rewards
from trainer.stages.sampled_answers import (
    SampledAnswer,
    answers_of,
    lines_of,
    of_update,
    samples_file,
)
from trainer.stages.stage import KEPT_BY_STAGE, StageParts

log = logging.getLogger(__name__)

KEPT = f"{KEPT_BY_STAGE}samples.jsonl"
"""The attachment of a checkpoint that lies between a sampling and the last step it serves."""

WriteAnswers = Callable[[Sequence[AskedQuestion], int], list[WrittenAnswer]]
"""As `Policy.answers`."""


class AnswerStream:
    """The batches of a run, endless; each rank gets its rows. Collective.

    `answers`: those of the newest sampling. Its state is a few integers, and between a sampling and
    the last step it serves the answers themselves (`Reinforcement.kept`). `write`: who answers;
    `measure`: the log-probability of each label of a batch, as `Reinforcement.log_probabilities`.
    """

    def __init__(
        self,
        parts: StageParts,
        questions: Sequence[AskedQuestion],
        write: WriteAnswers,
        measure: Callable[[Batch], list[Tensor]],
        state: dict[str, Any] | None,
    ) -> None:
        self._parts, self._section = parts, parts.recipe.reinforce
        self._questions, self._write, self._log_probabilities = questions, write, measure
        recipe, layout = parts.recipe, parts.layout
        sizes = recipe.parallel
        whole = layout.data.size * recipe.batch.micro
        self._packer = AnswerPacker(
            self._section,
            recipe.sequence_length,
            whole * (sizes.pipeline if sizes.virtual > 1 else 1),
            (layout.data.rank, layout.data.size),
            parts.sources.tokenizer.end_of_text,
        )
        self._rewards = Rewards(self._section)
        self._order = QuestionOrder(len(questions), recipe.seed)
        self._digest = digest_of(questions)
        self._seconds = 0.0
        self.answers: list[SampledAnswer] = []
        self._state = _beginning(self._digest)
        if state is not None:
            self._resume(state)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> AnswerBatch:
        if not self.goes_on(self._state):
            self._sample()
        state = self._state
        within = state["steps"] - state["sampled"]
        answers = of_update(self.answers, within % self._section.updates)
        count = len(answers)
        self._state = state = {
            **state,
            "steps": state["steps"] + 1,
            "sequences": state["sequences"] + count,
            "sources": [{"taken": state["sequences"] + count}],
        }
        tokens = sum(map(self._packer.learned, self.answers))
        return self._packer.batch(
            *(answers, tokens, state["sequences"] - count, state), on_policy=within == 0
        )

    def goes_on(self, state: Mapping[str, Any]) -> bool:
        """Whether the step after `state` learns from a sampling that was made already."""
        return 0 < state["steps"] - state["sampled"] <= self._section.lag

    def close(self) -> None:
        """Nothing is open."""

    def tokens_of(self, batch: AnswerBatch) -> int:
        """Learned tokens of the global batch that this one is a part of."""
        return sum(map(self._packer.learned, self._answers_of(batch)))

    def figures_of(self, batch: AnswerBatch) -> dict[str, float]:
        """What to report of the answers that a step learned from, and of their sampling."""
        within = batch.state["steps"] - 1 - batch.state["sampled"]
        figures = answer_figures(self._answers_of(batch), self._section.group)
        if within == 0:
            figures["sampling_seconds"] = self._seconds
        return figures | {"lag": float(within)}

    def _answers_of(self, batch: AnswerBatch) -> list[SampledAnswer]:
        within = batch.state["steps"] - 1 - batch.state["sampled"]
        return of_update(self.answers, within % self._section.updates)

    def _sample(self) -> None:
        """Ask the next questions, verify, and keep what the coming steps learn from. Collective."""
        started = time.perf_counter()
        section, steps = self._section, self._state["steps"]
        each = self._parts.recipe.batch.sequences // section.group
        first = steps // (section.lag + 1) * each * section.updates
        places = range(first, first + each * section.updates)
        asked = [self._questions[self._order[place]] for place in places]
        written = self._write(asked, first)
        self.answers = self._judged(asked, written)
        if section.lag:
            self._measure()
        constant = self._state["constant"] + 1 if self._all_constant() else 0
        self._state = {**self._state, "sampled": steps, "constant": constant}
        self._seconds = time.perf_counter() - started
        if self._parts.layout.reports:
            path = samples_file(self._parts.run, steps + 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lines_of(self.answers))
        self._tell_constant(steps + 1, constant)

    def _judged(
        self, asked: Sequence[AskedQuestion], written: Sequence[WrittenAnswer]
    ) -> list[SampledAnswer]:
        """The written answers with their verdicts, rewards, advantages and places."""
        group = self._section.group
        found = [
            self._verified(asked[number // group], answer) for number, answer in enumerate(written)
        ]
        rewards = torch.tensor([one.reward for one in found], dtype=torch.float64)
        ahead = advantages(rewards.view(-1, group), self._section.scale_rewards).flatten().tolist()
        count = len(found) // self._section.updates
        placed = []
        for update in range(self._section.updates):
            own = found[update * count : (update + 1) * count]
            places = row_places(
                [positions_of(one) for one in own], self._parts.recipe.sequence_length
            )
            for one, (row, start) in zip(own, places, strict=True):
                placed.append(replace(one, update=update, row=row, start=start))
        return [replace(one, advantage=a) for one, a in zip(placed, ahead, strict=True)]

    def _verified(self, asked: AskedQuestion, written: WrittenAnswer) -> SampledAnswer:
        question = asked.question
        verdict = verify(question, written.text)
        end = () if written.end is None else (written.end,)
        tokens = (*written.tokens, *end)
        rewards = self._rewards.of(
            *(verdict.outcome, question.answerable, written.text, len(tokens), written.ended)
        )
        return SampledAnswer(
            question=question.id,
            asked=question.text,
            kind=question.kind,
            answerable=question.answerable,
            text=written.text,
            ended=written.ended,
            outcome=verdict.outcome,
            why=verdict.why,
            rewards=rewards,
            advantage=0.0,
            update=0,
            row=0,
            start=0,
            prompt=asked.ids,
            tokens=tokens,
        )

    def _measure(self) -> None:
        """Keep the sampling policy's log-probability of each token, which later steps compare with.

        By the forward pass of training, and not the generator's. Collective.
        """
        measured = []
        for update in range(self._section.updates):
            answers = of_update(self.answers, update)
            batch = self._packer.batch(answers, 1, 0, self._state, on_policy=True)
            table = self._gathered(batch)
            for answer in answers:
                first = answer.start + len(answer.prompt) - 1
                nats = table[answer.row, first : first + len(answer.tokens)].tolist()
                measured.append(replace(answer, nats=tuple(nats)))
        self.answers = measured

    def _gathered(self, batch: AnswerBatch) -> Tensor:
        """The log-probability of every label of the global batch, fp32 [rows, sequence_length]."""
        layout = self._parts.layout
        share, length = batch.tokens.shape
        found = self._log_probabilities(batch)
        table = torch.zeros(layout.data.size * share, length, device=layout.device)
        if found and layout.tensor.rank == 0:
            own = table[layout.data.rank * share : (layout.data.rank + 1) * share]
            context = layout.context
            own[:, context_slice(length, context.rank, context.size)] = torch.cat(found)
        dist.all_reduce(table)
        return table.cpu()

    def _all_constant(self) -> bool:
        rewards = torch.tensor([one.reward for one in self.answers], dtype=torch.float64)
        return bool(constant_groups(rewards.view(-1, self._section.group)).all())

    def _tell_constant(self, step: int, constant: int) -> None:
        """Say that a sampling teaches nothing; raises TrainingError after too many in a row."""
        if not constant:
            return
        earned = sorted({one.reward for one in self.answers})
        each = f"{earned[0]:g}" if len(earned) == 1 else "one reward a group"
        limit = self._section.constant_in_a_row
        if not limit or constant < limit:
            log.warning(
                "step %d: in every group all answers earn the same (%s): nothing is learned from"
                " this sampling, %d in a row",
                *(step, each, constant),
            )
            return
        raise TrainingError(
            f"step {step}: in every group all answers earn the same ({each}), {constant} samplings"
            " in a row: ask easier or harder questions, raise reinforce.temperature or group, or"
            " look at the verifier"
        )

    def _resume(self, state: Mapping[str, Any]) -> None:
        if state.get("questions") != self._digest:
            raise DataError(
                "reinforce.questions: are others than those that the run began with; restore them,"
                " or choose another run"
            )
        self._state = dict(state)
        if not self.goes_on(state):
            return
        kept = self._parts.kept.get(KEPT)
        if kept is None:
            raise CheckpointError(
                f"the checkpoint after step {state['steps']} lacks {KEPT}, from which the next step"
                " learns; resume from another"
            )
        self.answers = answers_of(kept, KEPT)


def _beginning(digest: str) -> dict[str, Any]:
    """The state before the first step.

    `steps`: batches given; `sampled`: of these, before the newest sampling; `constant`: samplings
    in a row in which no group had two rewards; `questions`: their digest. `sequences` and `sources`
    are as in the state of a stream over one source.
    """
    counted = {"steps": 0, "sampled": 0, "constant": 0, "questions": digest}
    return {**counted, "sequences": 0, "sources": [{"taken": 0}]}
