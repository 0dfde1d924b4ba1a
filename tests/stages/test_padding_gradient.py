"""Fine-tuning all weights follows TRL's SFTTrainer step for step, the padding's row included.

The base pads with its end of turn, which every example holds: transformers gives that row of the
embedding no gradient from where it is read (`torch.nn.Embedding.padding_idx`).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parity.ranks import on_ranks
from tests.stages.peers import Work, losses_of_steps, network, weights_of
from tests.stages.test_peers import alone, trl_of, works
from trainer.data.tokenizer import TURN_END
from trainer.recipe import Recipe

__all__ = ["alone", "works"]

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")

STEPS = 4
TOLERANCE = 2e-6
RATE = {"lr": 2e-4, "betas": (0.9, 0.95), "eps": 1e-8}
LAYOUTS = {
    "one process": (1, {}),
    "tensor": (2, {"tensor": 2}),
    "sequence": (2, {"tensor": 2, "sequence": True}),
    "pipeline": (2, {"pipeline": 2}),
}


def padding(works: dict[str, Work]) -> int:
    """The id of the end of turn."""
    from trainer.data.tokenizer import load_tokenizer

    return load_tokenizer(works["turns"].folders[0] / "tokenizer").special_tokens[TURN_END]


def their_losses(works: dict[str, Work], folder: Path, tied: bool, learns: bool) -> list[float]:
    """Of steps of AdamW on TRL's own loss, all examples in each."""
    model = network(0, tie_word_embeddings=tied, pad_token_id=padding(works))
    model.load_state_dict(network(0, tie_word_embeddings=tied).state_dict())  # no row of zeros
    if learns:
        model.get_input_embeddings().padding_idx = None
    peer = trl_of("turns", works, folder, model)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, **RATE)
    losses = []
    for _ in range(STEPS):
        loss = peer.loss()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def our_work(works: dict[str, Work], tied: bool, learns: bool, parallel: dict[str, Any]) -> Work:
    """The same weights and examples."""
    keys = works["turns"].recipe.model_dump(mode="json")
    keys |= {"parallel": parallel, "sequence_length": 136}
    keys["model"] |= {"tied_embeddings": tied, "padding_token": padding(works)}
    keys["model"]["padding_gradient"] = learns
    keys["optimizer"] |= {**RATE, "betas": list(RATE["betas"]), "weight_decay": 0.0, "clip": 1.0}
    weights = weights_of(network(0, tie_word_embeddings=tied))
    return replace(works["turns"], recipe=Recipe.from_keys(keys), start=weights, then=weights)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("learns", [False, True], ids=["silent", "learns"])
def test_steps_of_full_tuning_are_trls(works, tmp_path, tied: bool, learns: bool) -> None:
    """Catches a row that learns where transformers' does not, or the other way round, at a layout
    where another rank has it, or where the output projection is the same matrix.
    """
    theirs = their_losses(works, tmp_path, tied, learns)
    for name, (ranks, parallel) in LAYOUTS.items():
        if learns and ranks > 1:
            continue  # as in every other test of layouts
        work = our_work(works, tied, learns, parallel)
        for ours in on_ranks(ranks, losses_of_steps, work, STEPS):
            worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
            assert worst < TOLERANCE, (name, worst)


def test_the_row_makes_a_difference(works, tmp_path) -> None:
    """The negative control: both ways are further apart than they are from TRL's."""
    silent, learning = (
        on_ranks(1, losses_of_steps, our_work(works, False, learns, {}), STEPS)[0]
        for learns in (False, True)
    )
    assert silent[0] == learning[0]
    assert abs(silent[-1] - learning[-1]) > 100 * TOLERANCE
