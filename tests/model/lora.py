"""A LoRA run in small: a saved base, adapters that train on it, and their checkpoints."""

from pathlib import Path
from typing import Any

import torch

from tests.parity.lora import wake
from tests.parity.training import SEQUENCES, VOCAB, batch_of, recipe_of
from trainer.checkpoint import folder_name, save_checkpoint
from trainer.checkpoint.adapted import Reader
from trainer.checkpoint.state import restore_training, training_pieces
from trainer.data.batch import IGNORE, Batch
from trainer.model.passes import NextToken
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import SequenceLayout
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.layout import Layout
from trainer.parallel.schedule import finalize_gradients
from trainer.parallel.zero import Optimizer, create_optimizer
from trainer.recipe import Recipe
from trainer.restore import open_resumed, start_from


def lora_run_recipe(base: Path, **keys: Any) -> Recipe:
    """The tiny model with adapters of rank 4 on the base in this folder."""
    fine_tuning = {
        **{"stage": "sft", "init_from": str(base), "data__mixture": [{"corpus": "unused.jsonl"}]},
        **{"lora__rank": 4},
    }
    return recipe_of(**fine_tuning | keys)


def save_base(folder: Path, seed: int = 7, **keys: Any) -> Path:
    """A checkpoint of a whole model, norms and biases uneven, of the recipe's first weights."""
    recipe = recipe_of(seed=seed, **keys)
    layout = create_layout(recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in chunks[0].parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * (0.1 if parameter.dim() == 1 else 0.05))
        optimizer = create_optimizer(chunks, recipe, layout)
        return save_checkpoint(
            folder / "checkpoints",
            1,
            training_pieces(chunks, optimizer),
            model=recipe.model.model_dump(mode="json"),
            counters={},
            attachments={"recipe.yaml": recipe.to_yaml().encode()},
        )
    finally:
        leave()


def own_rows(whole: Batch, layout: Layout) -> tuple[Batch, torch.Tensor]:
    """This rank's rows of a global batch, and how many tokens of that are supervised."""
    share = SEQUENCES // layout.data.size
    rows = slice(layout.data.rank * share, (layout.data.rank + 1) * share)
    own = Batch(whole.tokens[rows], whole.labels[rows], whole.position_ids[rows], 0, {})
    return own, (whole.labels != IGNORE).sum().float()


def one_step(
    passes: NextToken,
    chunks: list[Any],
    optimizer: Optimizer,
    recipe: Recipe,
    layout: Layout,
    number: int,
) -> float:
    """The loss of batch `number`, from which the model then learns."""
    own, supervised = own_rows(batch_of(number), layout)
    with optimizer.accumulate():
        measured = passes.run(own, supervised)
        finalize_gradients(chunks, layout, measured)
    optimizer.step(recipe.optimizer.lr)
    return measured.mean.item()


def train_adapters(
    recipe: Recipe, run: Path | None, steps: int, resume: Path | None = None
) -> tuple[list[float], Path | None]:
    """Losses of the steps up to `steps`, and the checkpoint after them, where there is a `run`.

    Adapters that start anew are awake.
    """
    layout = create_layout(recipe)
    try:
        chunks = build_model(recipe, VOCAB, layout)
        wake(chunks, layout)
        optimizer = create_optimizer(chunks, recipe, layout)
        first = 0
        if resume is None:
            base = start_from(recipe, chunks, optimizer)
        else:
            reader, base = open_resumed(resume, recipe)
            first = optimizer.updates = reader.counters["updates"]
            restore_training(reader, chunks, optimizer)
        passes = NextToken(chunks, recipe, layout)
        losses = [
            one_step(passes, chunks, optimizer, recipe, layout, step)
            for step in range(first, steps)
        ]
        if run is None:
            return losses, None
        attachments = {"recipe.yaml": recipe.to_yaml().encode()}
        if base is not None:
            attachments |= base.attachment(run / "checkpoints" / folder_name(steps))
        path = save_checkpoint(
            run / "checkpoints",
            steps,
            training_pieces(chunks, optimizer),
            model=recipe.model.model_dump(mode="json"),
            counters={"updates": optimizer.updates},
            attachments=attachments,
        )
        return losses, path
    finally:
        leave()


def tensors_of(reader: Reader, prefix: str = "") -> dict[str, torch.Tensor]:
    """The global tensors whose names begin so."""
    return {key: reader.read(key) for key in reader.keys() if key.startswith(prefix)}  # noqa: SIM118


def logits_of(chunks: list[Any], recipe: Recipe, tokens: torch.Tensor) -> torch.Tensor:
    """One process's logits [batch, sequence, vocab]."""
    positions = torch.arange(tokens.shape[1]).expand(tokens.shape)
    with torch.no_grad():
        logits: torch.Tensor = chunks[0](
            tokens, SequenceLayout.whole(positions, rotary_embedding(recipe))
        )
    return logits
