"""Checkpoints of small models with random weights, to be merged: whole ones, and adapters."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.model.lora import lora_run_recipe
from tests.parity.training import recipe_of
from trainer.checkpoint import Piece, folder_name, save_checkpoint
from trainer.checkpoint.lora_base import LoraBase
from trainer.data.added_tokens import with_added_tokens
from trainer.data.tokenizer import Tokenizer, train_tokenizer
from trainer.model.transformer import build_model
from trainer.parallel.join import create_layout, leave
from trainer.parallel.sharding import sharded_parameters

TOKENS = 288


@dataclass(frozen=True)
class Planned:
    """One checkpoint: where, from which seed, and what of it is not as usual.

    `keys`: of the recipe; `added`: tokens beyond the others'; `text`: what its tokenizer learned
    from; `base`: the folder that its adapters are for.
    """

    run: Path
    seed: int
    keys: dict[str, Any] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    text: str = "the cat sat on the mat and a dog ran to the mat"
    base: Path | None = None


def tokenizer_of(planned: Planned) -> Tokenizer:
    """The tokenizer that is saved with it."""
    return with_added_tokens(train_tokenizer([planned.text] * 9, 280), planned.added, [])


def save_models(plans: list[Planned]) -> list[Path]:
    """Save them all, on one rank; the folders of the checkpoints."""
    return [_save(planned) for planned in plans]


def _save(planned: Planned) -> Path:
    usual = {"model__vocab": TOKENS, "model__layers": 2}
    if planned.base is None:
        recipe = recipe_of(**usual | planned.keys)
    else:
        recipe = lora_run_recipe(planned.base, **usual | planned.keys)
    layout = create_layout(recipe)
    attachments = {"recipe.yaml": recipe.to_yaml().encode()}
    for name, content in tokenizer_of(planned).files.items():
        attachments[f"tokenizer/{name}"] = content
    step = planned.seed
    folder = planned.run / "checkpoints"
    if planned.base is not None:
        attachments |= LoraBase.of(planned.base).attachment(folder / folder_name(step))
    pieces = []
    generator = torch.Generator().manual_seed(planned.seed)
    try:
        assert recipe.model.vocab is not None
        for parameter, sharding in sharded_parameters(
            build_model(recipe, recipe.model.vocab, layout)
        ):
            if not parameter.requires_grad:
                continue
            values = 0.1 * torch.randn(sharding.shape, generator=generator)
            zeros = (0,) * values.dim()
            shape = sharding.boxes[0].global_shape
            saved = {f"model/{sharding.name}": values.to(parameter.dtype)}
            if recipe.precision == "bf16":
                saved[f"optimizer/master/{sharding.name}"] = values
            pieces += [Piece(key, shape, zeros, tensor) for key, tensor in saved.items()]
    finally:
        leave()
    return save_checkpoint(
        folder,
        step,
        pieces,
        model=recipe.model.model_dump(mode="json"),
        counters={"step": step, "longest_sequence": 32},
        attachments=attachments,
    )
