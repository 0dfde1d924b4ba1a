"""A second copy of the weights that a run starts from, which never learns."""

from pathlib import Path

from trainer.checkpoint import resolve_checkpoint
from trainer.checkpoint.adapted import open_merged
from trainer.checkpoint.lora_base import LoraBase
from trainer.checkpoint.state import load_best_weights
from trainer.model.transformer import build_model
from trainer.parallel.layout import Layout
from trainer.recipe import Recipe
from trainer.restore import fitted
from trainer.stages.stage import FrozenCopy


def frozen_copy(recipe: Recipe, layout: Layout) -> FrozenCopy | None:
    """The weights of `init_from`, adapters merged, where the stage compares with a copy of them.

    Whole on every replica, whatever `zero.stage`: as large as the weights of `lyceum plan`.
    Collective. Raises CheckpointError where they are gone or damaged.
    """
    if not recipe.reinforce.keeps_copy:
        return None
    assert recipe.init_from is not None, "the recipe was checked"
    assert recipe.model.vocab is not None, "a resolved recipe has it"
    folder = resolve_checkpoint(Path(recipe.init_from))
    reader = open_merged(folder)
    plain = recipe.model_copy(update={"lora": None, "offload": "none"})
    chunks = build_model(plain, recipe.model.vocab, layout)
    load_best_weights(fitted(reader, plain), chunks)
    for chunk in chunks:
        chunk.requires_grad_(False)
    reader.close()
    return FrozenCopy(chunks, folder, LoraBase.of(folder).seal)
