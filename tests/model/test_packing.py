"""Documents packed in a row are learned as if each stood alone (trainer/README.md, invariant 6)."""

from typing import Any

import pytest
import torch

from tests.parity.ranks import on_ranks
from tests.parity.training import VOCAB, recipe_of
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import SequenceLayout
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
        rotary = rotary_embedding(recipe)
        with torch.no_grad():
            for parameter in chunk.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
            packed = chunk(row[:1], SequenceLayout.whole(positions, rotary), row[1:])[0]
            alone = [
                chunk(tokens[:1], SequenceLayout.whole(p[None], rotary), tokens[1:])[0]
                for tokens, p in zip(row.split(LENGTHS, dim=1), starts, strict=True)
            ]
        return packed, torch.cat(alone)
    finally:
        leave()


def test_packed_documents_have_the_losses_that_each_has_alone() -> None:
    """Catches attention across documents, and positions that run on."""
    packed, alone = on_ranks(1, losses, recipe_of(), True)[0]
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rotation", ["dynamic", "longrope", "yarn"])
def test_a_document_turns_by_its_own_length(rotation: str) -> None:
    """Catches a row's length, or a neighbour's, where the rotation follows from the document's."""
    scaling: dict[str, Any] = {"type": rotation, "factor": 4.0, "original_context": 8}
    if rotation == "longrope":
        scaling |= {"short_factors": [1.0] * 8, "long_factors": [4.0] * 8}
    recipe = recipe_of(model__rope_scaling=scaling, model__window=6)
    packed, alone = on_ranks(1, losses, recipe, True)[0]
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=0)
    plain, _ = on_ranks(1, losses, recipe_of(model__window=6), True)[0]
    # NTK reads documents of up to 8 tokens as before, and nothing turns a single token.
    pairs = zip(packed.split(LENGTHS), plain.split(LENGTHS), strict=True)
    same = [torch.equal(*pair) for pair in pairs]
    assert same == [rotation == "dynamic", True, False, False]


def test_a_row_without_borders_does_not() -> None:
    """The negative control: one border left out is seen."""
    packed, alone = on_ranks(1, losses, recipe_of(), False)[0]
    assert packed.tolist() != pytest.approx(alone.tolist(), abs=1e-2)
