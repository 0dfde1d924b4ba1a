"""Documents packed in a row are learned as if each stood alone (trainer/README.md, invariant 6)."""

import pytest
import torch

from tests.parity.ranks import on_ranks
from tests.parity.training import VOCAB, recipe_of
from trainer.model.sequence import SequenceLayout, rope_frequencies
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.recipe import Recipe

LENGTHS = (5, 1, 11, 15)


def losses(recipe: Recipe, separate: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token's loss in the packed row, and in its document alone; [32] each."""
    layout = create_layout(recipe)
    try:
        chunk = build_model(recipe, VOCAB, layout)[0]
        generator = torch.Generator().manual_seed(3)
        row = torch.randint(0, VOCAB, (2, 32), generator=generator)
        starts = [torch.arange(length) for length in LENGTHS]
        positions = torch.cat(starts if separate else [torch.arange(32)])[None]
        frequencies = rope_frequencies(recipe)
        with torch.no_grad():
            for parameter in chunk.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
            packed = chunk(row[:1], SequenceLayout.whole(positions, frequencies), row[1:])[0]
            alone = [
                chunk(tokens[:1], SequenceLayout.whole(p[None], frequencies), tokens[1:])[0]
                for tokens, p in zip(row.split(LENGTHS, dim=1), starts, strict=True)
            ]
        return packed, torch.cat(alone)
    finally:
        leave()


def test_packed_documents_have_the_losses_that_each_has_alone() -> None:
    """Catches attention across documents, and positions that run on."""
    packed, alone = on_ranks(1, losses, recipe_of(), True)[0]
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=0)


def test_a_row_without_borders_does_not() -> None:
    """The negative control: one border left out is seen."""
    packed, alone = on_ranks(1, losses, recipe_of(), False)[0]
    assert packed.tolist() != pytest.approx(alone.tolist(), abs=1e-2)
