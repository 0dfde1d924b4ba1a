"""Where a run's weights come from: `init_from` and, under `lora`, the base and its adapters."""

from pathlib import Path
from typing import Any

from trainer.checkpoint.adapted import AdaptedReader, Reader, open_merged, open_trained
from trainer.checkpoint.folders import resolve_checkpoint
from trainer.checkpoint.lora_base import Base, holds_adapters, named_seal
from trainer.checkpoint.read import CheckpointReader
from trainer.checkpoint.state import restore_weights
from trainer.errors import CheckpointError, RecipeError
from trainer.model.lora.targets import adapted_names
from trainer.parallel.zero import Optimizer
from trainer.recipe import Recipe
from trainer.recipe.fine_tuning import LoraSection


def start_from(recipe: Recipe, chunks: list[Any], optimizer: Optimizer) -> Base | None:
    """Put the weights of `init_from` in place; under `lora`, the base that the adapters are for.

    From a checkpoint of adapters, a run of all weights starts from the merged ones, and one of the
    same adapters goes on with these on their base. Collective. Raises CheckpointError, and
    RecipeError where the recipe's adapters are others.
    """
    assert recipe.init_from is not None
    folder = resolve_checkpoint(Path(recipe.init_from))
    reader = open_merged(folder) if recipe.lora is None else open_trained(folder)
    base = base_of(reader, recipe)
    restore_weights(reader, chunks, optimizer)
    return base


def open_resumed(checkpoint: Path, recipe: Recipe) -> tuple[Reader, Base | None]:
    """The checkpoint to go on from and, under `lora`, the base; collective.

    The base is looked for at `init_from` too. Raises RecipeError where the checkpoint holds other
    adapters than the recipe's, or adapters and the recipe none, or `init_from` is another base.
    """
    named = None
    if recipe.lora is not None and recipe.init_from is not None:
        named = Path(recipe.init_from)
    reader = open_trained(checkpoint, base_at=named)
    adapters = isinstance(reader, AdaptedReader)
    if adapters != (recipe.lora is not None):
        held, mend = ("adapters", "set lora") if adapters else ("all weights", "leave lora out")
        raise RecipeError(
            f"lora: {checkpoint} holds {held}; {mend} to go on from it, or choose another run"
        )
    base = base_of(reader, recipe)
    if base is not None and named is not None:
        _check_same_base(base, named)
    return reader, base


def base_of(reader: Reader, recipe: Recipe) -> Base | None:
    """The base of the recipe's adapters, where these start or go on from `reader`'s weights.

    Raises RecipeError where the checkpoint's adapters are not the recipe's.
    """
    if recipe.lora is None:
        return None
    if not isinstance(reader, AdaptedReader):
        return Base.of(reader.folder)
    differing = _differing(reader.lora(), recipe.lora, recipe.model.layers)
    if differing:
        raise RecipeError(
            f"lora: the adapters in {reader.folder} are others: {', '.join(differing)}; use the "
            "same, or start from their base"
        )
    return reader.named


def _differing(theirs: LoraSection, ours: LoraSection, layers: int) -> list[str]:
    """What makes two sections' adapters different ones; targets may be named in other ways."""
    pairs = {"rank": (theirs.rank, ours.rank), "alpha / rank": (theirs.scale, ours.scale)}
    found = [
        f"{key} is {old} there and {new} here" for key, (old, new) in pairs.items() if old != new
    ]
    if adapted_names(theirs, layers) != adapted_names(ours, layers):
        old, new = ", ".join(theirs.targets), ", ".join(ours.targets)
        found.append(f"targets are {old} there and {new} here")
    return found


def _check_same_base(base: Base, named: Path) -> None:
    """Refuse another base than the adapters'; a run stands for all of its checkpoints."""
    if base.folder.resolve().is_relative_to(named.resolve()):
        return
    try:
        found = CheckpointReader(resolve_checkpoint(named))
    except CheckpointError:
        return  # gone, and the adapters' own base is there
    seal = named_seal(found) if holds_adapters(found) else Base.of(found.folder).seal
    if seal != base.seal:
        raise RecipeError(
            f"init_from: {named} is another base than {base.folder}, which the run's adapters are "
            f"for; set init_from={base.folder}, or choose another run"
        )
