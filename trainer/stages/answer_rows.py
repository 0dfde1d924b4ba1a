"""Answers packed into rows, as the batches of other stages, with what the policy's loss needs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trainer.data.batch import Batch, RowsBeingFilled
from trainer.data.packing import pack_rows
from trainer.data.token_flags import TARGET
from trainer.recipe.reinforce import ReinforceSection
from trainer.stages.policy_losses import token_weights
from trainer.stages.sampled_answers import SampledAnswer


@dataclass(frozen=True)
class AnswerBatch(Batch):
    """A batch of answers: the prompts' tokens are no targets, each answer is a segment of its row.

    Of each answer, fp32 [rows, most]: `ahead`, its advantage; `weights`, what the loss of each of
    its tokens counts; `lengths`, its tokens that are learned. `most` is equal on all ranks.
    `answers`: real ones in these rows. `sampled`: the sampling policy's log-probability of each
    label, fp32 [rows, sequence_length], None where that is the policy of this very step.
    """

    ahead: Tensor = field(default_factory=Tensor)
    weights: Tensor = field(default_factory=Tensor)
    lengths: Tensor = field(default_factory=Tensor)
    answers: int = 0
    sampled: Tensor | None = None


def row_places(lengths: Sequence[int], sequence_length: int) -> list[tuple[int, int]]:
    """(row, first position) of each text, by best fit; `lengths`: positions of each."""
    rows = pack_rows(np.array(lengths, dtype=np.int64), sequence_length)
    filled = [0] * (int(rows.max()) + 1)
    places = []
    for row, length in zip(rows.tolist(), lengths, strict=True):
        places.append((row, filled[row]))
        filled[row] += length
    return places


def positions_of(answer: SampledAnswer) -> int:
    """Positions that an answer with its prompt takes: its last token is a label only."""
    return len(answer.prompt) + len(answer.tokens) - 1


class AnswerPacker:
    """Makes the batches of a run. `multiple`: what the number of rows must be a multiple of;
    `data`: (rank, size) on the data axis; `padding`: the token that fills rows up.
    """

    def __init__(
        self,
        section: ReinforceSection,
        sequence_length: int,
        multiple: int,
        data: tuple[int, int],
        padding: int,
    ) -> None:
        self._section = section
        self._length = sequence_length
        self._multiple, self._data, self._padding = multiple, data, padding

    def learned(self, answer: SampledAnswer) -> int:
        """How many tokens of an answer are targets."""
        left_out = self._section.mask_truncated and not answer.ended
        return 0 if left_out else len(answer.tokens)

    def batch(
        self,
        answers: Sequence[SampledAnswer],
        sampling_tokens: int,
        first_sequence: int,
        state: dict[str, object],
        on_policy: bool,
    ) -> AnswerBatch:
        """This rank's rows of one update's `answers`, whose places are set.

        `sampling_tokens`: learned tokens of all answers of the sampling; `on_policy`: whether the
        policy is still the one that wrote them.
        """
        count = self._rows(answers)
        share = count // self._data[1]
        own = range(self._data[0] * share, (self._data[0] + 1) * share)
        by_row: list[list[int]] = [[] for _ in range(count)]
        for number in sorted(range(len(answers)), key=lambda n: answers[n].start):
            by_row[answers[number].row].append(number)
        filled = RowsBeingFilled(share, self._length, self._padding, marked=True)
        for row in own:
            filled.fill(row - own.start, [self._piece(answers[n]) for n in by_row[row]])
        whole = filled.pack(first_sequence, dict(state)).unpack()

        lengths = torch.tensor([self.learned(answer) for answer in answers])
        weights = token_weights(self._section, lengths, sampling_tokens, self._section.updates)
        ahead = torch.tensor([answer.advantage for answer in answers], dtype=torch.float64)
        most = max(max(map(len, by_row)), 1)
        table = torch.zeros(3, share, most, dtype=torch.float64)
        sampled = None if on_policy else torch.zeros(share, self._length)
        for row in own:
            for place, number in enumerate(by_row[row]):
                values = torch.stack((ahead[number], weights[number], lengths[number].double()))
                table[:, row - own.start, place] = values
                if sampled is not None:
                    answer = answers[number]
                    first = answer.start + len(answer.prompt) - 1
                    known = torch.tensor(answer.nats, dtype=torch.float32)
                    sampled[row - own.start, first : first + len(known)] = known
        ahead, weights, lengths = table.float().unbind()
        return AnswerBatch(
            *(whole.tokens, whole.labels, whole.position_ids, first_sequence, dict(state)),
            padding=whole.padding,
            ahead=ahead,
            weights=weights,
            lengths=lengths,
            answers=sum(len(by_row[row]) for row in own),
            sampled=sampled,
        )

    def _rows(self, answers: Sequence[SampledAnswer]) -> int:
        """Rows of the global batch: as many as the answers fill, up to whole micro-batches."""
        used = max(answer.row for answer in answers) + 1
        return -(-used // self._multiple) * self._multiple

    def _piece(self, answer: SampledAnswer) -> np.ndarray:
        tokens = np.array([*answer.prompt, *answer.tokens], dtype=np.uint32)
        if self.learned(answer):
            tokens[len(answer.prompt) :] |= TARGET
        return tokens
