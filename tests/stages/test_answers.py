"""Log-probabilities of packed answers: cut out right, and learned from alike on any context."""

import pytest
import torch
import torch.distributed as dist
import torch.distributed.nn
from torch import Tensor

from tests.parity.ranks import on_ranks
from tests.parity.training import VOCAB, recipe_of
from trainer.data.batch import IGNORE
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import SequenceLayout, context_slice
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.recipe import Recipe
from trainer.recipe.fine_tuning import PreferenceSection
from trainer.stages.answers import (
    answer_log_probabilities,
    segment_ids,
    segment_indices,
    sum_over_context,
)
from trainer.stages.preference_losses import pair_losses

LENGTHS = ((6, 9, 5, 4, 8), (10, 12, 10), (3, 5, 7, 6, 5, 4, 2), (16, 16))
"""Segments of each row of 32; the last one is padding but in the last row, which has none."""
MOST = 6


def counts() -> Tensor:
    return torch.tensor([len(row) - (len(row) % 2) for row in LENGTHS])


def positions_and_labels() -> tuple[Tensor, Tensor]:
    """int64 [rows, sequence]: the first two tokens of a segment are its prompt."""
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in LENGTHS])
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, VOCAB, positions.shape, generator=generator)
    labels[positions < 2] = IGNORE
    for row, lengths in enumerate(LENGTHS):
        if len(lengths) % 2:
            labels[row, -lengths[-1] :] = IGNORE
    return positions, labels


def test_each_segment_is_numbered_within_its_row() -> None:
    """Catches numbers that run on from row to row, or begin at 1."""
    positions = torch.tensor([[0, 1, 2, 0, 0, 1], [0, 1, 2, 3, 4, 5]])
    assert segment_ids(positions).tolist() == [[0, 0, 0, 1, 2, 2], [0, 0, 0, 0, 0, 0]]


def test_an_answer_gets_its_own_labelled_tokens_alone() -> None:
    """Catches prompts, padding or a neighbour's tokens counted in an answer, and a wrong sign."""
    positions, labels = positions_and_labels()
    nats = torch.rand(positions.shape, generator=torch.Generator().manual_seed(2))
    sums, tokens = answer_log_probabilities(nats, labels, segment_ids(positions), MOST)
    for row, lengths in enumerate(LENGTHS):
        pieces = zip(nats[row].split(lengths), labels[row].split(lengths), strict=True)
        expected = [(-own[known != IGNORE].sum(), (known != IGNORE).sum()) for own, known in pieces]
        expected += [(torch.tensor(0.0), torch.tensor(0))] * MOST
        for segment in range(MOST):
            torch.testing.assert_close(sums[row, segment], expected[segment][0])
            assert tokens[row, segment] == expected[segment][1]


def test_the_real_answers_are_found_in_order() -> None:
    """Catches pairs put together across rows, or with the empty places of a short row."""
    values = torch.arange(4 * MOST).view(4, MOST)
    indices = segment_indices(counts(), MOST)
    pairs = [[0, 1], [2, 3], [6, 7], [12, 13], [14, 15], [16, 17], [18, 19]]
    assert values.flatten()[indices].view(-1, 2).tolist() == pairs
    assert segment_indices(torch.tensor([0, 0]), MOST).tolist() == []


def gradients(recipe: Recipe, summed: str = "ours") -> dict[str, Tensor]:
    """Each weight's gradient of the mean pair loss, averaged over replicas as the optimizer does.

    `summed`: "ours", or, for the negative controls, "adjoint" (an all-reduce whose backward is one
    too) or "apart" (each context rank's part taken for the whole).
    """
    layout = create_layout(recipe)
    try:
        chunk = build_model(recipe, VOCAB, layout)[0]
        context, replicas = layout.context, layout.replicas
        share = len(LENGTHS) // layout.data.size
        own = slice(layout.data.rank * share, (layout.data.rank + 1) * share)
        positions, labels = (whole[own] for whole in positions_and_labels())
        generator = torch.Generator().manual_seed(4)
        ids = torch.randint(0, VOCAB, (len(LENGTHS), 32), generator=generator)[own]
        reference = torch.rand(len(LENGTHS), MOST, generator=generator)[own] * -30
        held = context_slice(32, context.rank, context.size)
        form = SequenceLayout.whole(positions, rotary_embedding(recipe), context.rank, context.size)
        nats = chunk(ids[:, held], form, labels[:, held])
        sums, tokens = answer_log_probabilities(
            nats, labels[:, held], segment_ids(positions)[:, held], MOST
        )
        tokens = sum_over_context(tokens, context)
        if summed == "ours":
            sums = sum_over_context(sums, context)
        elif summed == "adjoint":
            sums = torch.distributed.nn.all_reduce(sums, group=context.group)
        indices = segment_indices(counts()[own], MOST)
        policy, tokens, reference = (
            whole.flatten()[indices].view(-1, 2) for whole in (sums, tokens, reference)
        )
        section = PreferenceSection(beta=0.5, nll_weight=0.3, length_normalised=True)
        losses, _ = pair_losses(section, policy, tokens, reference)
        (losses.sum() * replicas.size / (counts().sum() / 2)).backward()
        found = {}
        for name, parameter in chunk.named_parameters():
            dist.all_reduce(parameter.grad, group=replicas.group)
            found[name] = parameter.grad / replicas.size
        return found
    finally:
        leave()


def difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensor]:
    found: dict[str, Tensor] = on_ranks(1, gradients, recipe_of())[0]
    return found


@pytest.mark.parametrize("ranks", [2, 4])
def test_context_ranks_make_the_gradient_of_one_process(
    alone: dict[str, Tensor], ranks: int
) -> None:
    """Catches a loss counted once a context rank, or a part of an answer taken for the whole.

    On four ranks the replicas are two data by two context ranks. Tolerance: that of
    invariant 1 (trainer/README.md).
    """
    for found in on_ranks(ranks, gradients, recipe_of(parallel__context=2)):
        assert difference(found, alone) < 1e-6


@pytest.mark.parametrize("wrong", ["adjoint", "apart"])
def test_a_wrong_sum_over_context_would_be_seen(alone: dict[str, Tensor], wrong: str) -> None:
    """Negative control: gradients that are twice too large, or of other losses, differ clearly."""
    found = on_ranks(2, gradients, recipe_of(parallel__context=2), wrong)[0]
    assert difference(found, alone) > 1e-3
