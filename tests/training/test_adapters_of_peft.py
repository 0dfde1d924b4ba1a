"""An adapter that PEFT made goes on training here as it does there: the same losses each step."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from tests.hugging_face.models import make_model
from tests.hugging_face.test_adapters import CASES, published_adapter
from tests.model.lora import one_step
from tests.parity.ranks import on_ranks
from tests.parity.training import batch_of
from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import saved_recipe
from trainer.data.batch import IGNORE
from trainer.hugging_face.adapter_import import import_adapter_command
from trainer.model.passes import NextToken
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.zero import create_optimizer
from trainer.recipe import Recipe
from trainer.restore import start_from

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

STEPS, RATE = 4, 1e-3
TOLERANCE = 2e-6
"""Nats; losses near 5.6, of which an fp32 number is 5e-7 exact."""


def our_losses(recipe: Recipe) -> list[float]:
    """Of steps from the adapters that `init_from` names."""
    layout = create_layout(recipe)
    try:
        assert recipe.model.vocab is not None
        chunks = build_model(recipe, recipe.model.vocab, layout)
        optimizer = create_optimizer(chunks, recipe, layout)
        start_from(recipe, chunks, optimizer)
        passes = NextToken(chunks, recipe, layout)
        return [one_step(passes, chunks, optimizer, recipe, layout, n) for n in range(STEPS)]
    finally:
        leave()


def their_losses(published: Path, adapter: Path) -> list[float]:
    """Of the same steps by PEFT and PyTorch's AdamW."""
    base = AutoModelForCausalLM.from_pretrained(published, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter, is_trainable=True).eval()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=0.0)
    losses = []
    for number in range(STEPS):
        loss = _loss(model, number)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def _loss(model: Any, number: int) -> Tensor:
    batch, total = batch_of(number), torch.zeros(())
    for row, places in enumerate(batch.position_ids):
        starts = [*(places == 0).nonzero().flatten().tolist(), len(places)]
        for first, last in pairwise(starts):  # each document of a row by itself
            logits = model(input_ids=batch.tokens[row : row + 1, first:last]).logits[0]
            labels = batch.labels[row, first:last]
            total = total + cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
    return total / (batch.labels != IGNORE).sum()


@pytest.mark.parametrize(
    ("case", "tied", "parallel"),
    [
        ("patterns", False, {}),
        ("tables", True, {}),
        ("whole", False, {"tensor": 2, "sequence": True}),
        ("embedding alone", True, {"tensor": 2}),
    ],
)
def test_an_adapter_goes_on_as_it_would_with_peft(
    tmp_path: Path, case: str, tied: bool, parallel: dict[str, Any]
) -> None:
    """Catches a module that stays frozen or moves otherwise than PEFT moves it."""
    options = {"tie_word_embeddings": tied, "initializer_range": 0.05}
    make_model(tmp_path / "published", "llama", options)
    published_adapter(tmp_path / "published", tmp_path / "peft", **CASES[case])
    import_adapter_command(tmp_path / "peft", tmp_path / "run", tmp_path / "published")
    saved = resolve_checkpoint(tmp_path / "run")
    keys = saved_recipe(CheckpointReader(saved)).model_dump(mode="json")
    keys |= {"init_from": str(saved), "sequence_length": 32, "parallel": parallel, "device": "cpu"}
    keys["batch"] = {"sequences": 8, "micro": 2}
    optimizer = {"lr": RATE, "betas": [0.9, 0.999], "weight_decay": 0.0, "clip": 1.0}
    keys["optimizer"] = optimizer
    keys["model"]["padding_gradient"] = False  # its configuration names a padding token
    theirs = their_losses(tmp_path / "published", tmp_path / "peft")
    for ours in on_ranks(parallel.get("tensor", 1), our_losses, Recipe.from_keys(keys)):
        worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
        assert worst < TOLERANCE, (ours, theirs)
