"""A run's first weights and state: of its own checkpoint, or the weights of another run's."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import CheckpointReader, resolve_checkpoint
from trainer.checkpoint.adapted import (
    AdaptedReader,
    Reader,
    open_merged,
    open_trained,
    saved_recipe,
    saved_tokenizer,
    trained_length,
)
from trainer.checkpoint.fitted import FittedReader, new_rows, padded_otherwise
from trainer.checkpoint.format import AVERAGE
from trainer.checkpoint.lora_base import LoraBase, holds_adapters, recorded_seal
from trainer.checkpoint.state import holds_optimizer_state, restore_training, restore_weights
from trainer.data.tokenizer import load_tokenizer
from trainer.errors import CheckpointError, RecipeError
from trainer.hugging_face.importing import FROM_IMPORT
from trainer.model.lora import adapters_off
from trainer.model.lora.targets import adapted_names
from trainer.model.transformer import LanguageModel
from trainer.parallel.zero import Optimizer
from trainer.recipe import Recipe
from trainer.recipe.lora import LoraSection, saved_modules
from trainer.recipe.model import ModelSection
from trainer.resume import ResumePoint
from trainer.run import Beginning, Counters
from trainer.stages.stage import KEPT_BY_STAGE

_log = logging.getLogger(__name__)

_SHORT = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def restore(
    recipe: Recipe,
    point: ResumePoint | None,
    chunks: list[LanguageModel],
    optimizer: Optimizer,
    verified: bool,
) -> Beginning:
    """Load the weights, and for a resumed run the optimizer state; returns the other state.

    `verified`: all ranks together have hashed the point's checkpoint a moment ago. Overwrites the
    parameters of `chunks` and, with a `point`, `optimizer` in place. Collective.
    Raises CheckpointError for a damaged checkpoint, RecipeError for one of another model or of
    other adapters.
    """
    if point is not None:
        reader, base = open_resumed(Path(point.checkpoint), recipe, verified)
        reader.require_model(_model_keys(recipe, reader.model))
        other_rows = reader.model["vocab"] != recipe.model.vocab
        padded = FittedReader(reader, recipe.model) if other_rows else reader
        counters = Counters(**reader.counters)
        if not point.keeps_position:
            counters.stream = None  # other data: start at its beginning
        if holds_optimizer_state(reader):
            optimizer.updates = counters.updates
            averaged = _goes_on_averaging(recipe, reader, counters)
            restore_training(padded, chunks, optimizer, averaged)
            optimizer.weight_average.entered = counters.averaged if averaged else 0
        else:
            # `updates` stays 0: Adam's correction of its bias counts from moments of zero.
            restore_weights(padded, chunks, optimizer)
            _log.info("resuming from %s, which has no optimizer state: begun anew", reader.folder)
        kept = _attached(reader, KEPT_BY_STAGE)
        return Beginning(counters, base, _attached(reader, FROM_IMPORT), kept)
    if recipe.init_from is None:
        return Beginning()
    base = start_from(recipe, chunks, optimizer)
    reader = CheckpointReader(Path(recipe.init_from))
    precision = _told_precision(recipe, reader)
    _log.info("starting from the weights of %s%s", recipe.init_from, precision)
    counters = Counters(longest_sequence=trained_length(reader))
    return Beginning(counters, base, _attached(reader, FROM_IMPORT))


def _goes_on_averaging(recipe: Recipe, reader: Reader, counters: Counters) -> bool:
    """Whether the average in a checkpoint is what the recipe goes on with; says where it is not."""
    if not counters.averaged:
        return False
    theirs, ours = saved_recipe(reader), recipe.checkpoint.average
    old = theirs.checkpoint.average
    if old is not None and ours is not None and old.over(theirs.steps) == ours.over(recipe.steps):
        return True
    stays = f"is not kept any more; {recipe.run}/{AVERAGE} stays as it is, of an earlier training"
    now = stays if ours is None else "begins anew, over other steps"
    _log.info("checkpoint.average: the weights' average %s", now)
    return False


@contextmanager
def base_weights(
    recipe: Recipe, point: ResumePoint | None, chunks: list[LanguageModel], optimizer: Optimizer
) -> Iterator[None]:
    """A block in which the model has the weights that its run started from; collective.

    A new run (no `point`) has them before its first step. Otherwise they are loaded, and after the
    block the checkpoint again. Raises CheckpointError where the base is gone or damaged.
    """
    if point is None:
        yield
        return
    assert recipe.init_from is not None, "a run without a base has nothing to compare with"
    start_from(recipe, chunks, optimizer)
    # Adapters that the base does not hold began without an effect; here they have learned.
    without: AbstractContextManager[None] = adapters_off(chunks)
    if recipe.lora is None or holds_adapters(CheckpointReader(Path(recipe.init_from))):
        without = nullcontext()
    try:
        with without:
            yield
    finally:
        restore(recipe, point, chunks, optimizer, verified=False)


def _told_precision(recipe: Recipe, reader: Reader) -> str:
    """In what precision a base's weights are stored and go on, where that is another one."""
    weights = [key for key in reader.keys() if key.startswith("model/")]  # noqa: SIM118
    kinds = {reader.dtype(key) for key in weights}
    stored = " and ".join(sorted(_SHORT.get(kind, str(kind)) for kind in kinds))
    if stored in ("", recipe.precision):
        return ""
    masters = ", with fp32 master weights" if recipe.precision == "bf16" else ""
    return f", stored in {stored}; trained in {recipe.precision} (precision){masters}"


def _attached(reader: Reader, prefix: str) -> dict[str, bytes]:
    """The files in a checkpoint whose names begin so: Hugging Face's, which every later one carries
    on for its export, or what the stage goes on from.
    """
    names = [name for name in reader.attachments() if name.startswith(prefix)]
    return {name: reader.attachment(name) for name in names}


def _model_keys(recipe: Recipe, saved: dict[str, Any]) -> dict[str, Any]:
    """The model section, without the defaults of keys that are newer than the checkpoint."""
    defaults = {name: field.default for name, field in type(recipe.model).model_fields.items()}
    keys = recipe.model.model_dump(mode="json")
    if padded_otherwise(ModelSection(**saved), recipe.model):
        keys |= {key: saved[key] for key in ("vocab", "padding_rows") if key in saved}
    return {k: v for k, v in keys.items() if k in saved or v != defaults[k]}


def start_from(
    recipe: Recipe, chunks: list[LanguageModel], optimizer: Optimizer
) -> LoraBase | None:
    """Load the weights of `init_from` in place; returns, under `lora`, the adapters' base.

    From a checkpoint of adapters, a run without `lora` starts from the merged weights, and one with
    the same adapters continues them on their base. Collective. Raises CheckpointError, and
    RecipeError where the recipe's adapters differ.
    """
    assert recipe.init_from is not None
    folder = resolve_checkpoint(Path(recipe.init_from))
    reader = open_merged(folder) if recipe.lora is None else open_trained(folder)
    base = _base_of(reader, recipe)
    restore_weights(fitted(reader, recipe), chunks, optimizer)
    return base


def fitted(reader: Reader, recipe: Recipe) -> Reader | FittedReader:
    """The weights that a run starts from, as its model has them: rows for tokens that are added,
    and padding.

    Without any, another vocabulary stays an error, which reading finds.
    """
    untied = not recipe.model.tied_embeddings and reader.model.get("tied_embeddings")
    model = recipe.model.model_copy(update={"vocab": reader.model.get("vocab")})
    if not recipe.added_tokens and not recipe.added_special_tokens:
        if padded_otherwise(ModelSection(**reader.model), recipe.model):
            return FittedReader(reader, recipe.model)
        return FittedReader(reader, model) if untied else reader
    assert recipe.tokenizer is not None, "a resolved recipe has it"
    known = saved_tokenizer(reader)
    grown = load_tokenizer(recipe.tokenizer, recipe.data.remote)
    return FittedReader(reader, recipe.model, known.size, new_rows(known, grown, model))


def open_resumed(
    checkpoint: Path, recipe: Recipe, verified: bool = False
) -> tuple[Reader, LoraBase | None]:
    """The checkpoint to resume from and, under `lora`, its base; collective.

    `verified`: as for `restore`. The base is looked for at `init_from` too. Raises RecipeError
    where the checkpoint's adapters differ from the recipe's, where only one of the two has
    adapters, or where `init_from` is another base.
    """
    named = None
    if recipe.lora is not None and recipe.init_from is not None:
        named = Path(recipe.init_from)
    reader = open_trained(checkpoint, base_at=named, verified=verified)
    adapters = isinstance(reader, AdaptedReader)
    if adapters != (recipe.lora is not None):
        held, mend = ("adapters", "set lora") if adapters else ("all weights", "leave lora out")
        raise RecipeError(
            f"lora: {checkpoint} holds {held}; {mend} to go on from it, or choose another run"
        )
    base = _base_of(reader, recipe)
    if base is not None and named is not None:
        _check_same_base(base, named)
    return reader, base


def _base_of(reader: Reader, recipe: Recipe) -> LoraBase | None:
    """The base of the recipe's adapters, which start from or continue `reader`'s weights.

    Raises RecipeError where the checkpoint's adapters are not the recipe's.
    """
    if recipe.lora is None:
        return None
    if not isinstance(reader, AdaptedReader):
        return LoraBase.of(reader.folder)
    differing = _differing(reader.lora(), recipe.lora, recipe.model)
    if differing:
        raise RecipeError(
            f"lora: the adapters in {reader.folder} are others: {', '.join(differing)}; use the "
            "same, or start from their base"
        )
    return reader.named


def _differing(theirs: LoraSection, ours: LoraSection, model: ModelSection) -> list[str]:
    """The differences between two sections' adapters; equal targets may be named differently."""
    old, new = (adapted_names(section, model.layers) for section in (theirs, ours))
    if old != new:
        named = [", ".join(section.targets) for section in (theirs, ours)]
        return [f"targets are {named[0]} there and {named[1]} here"]
    found = []
    for key, value in (("rank", LoraSection.rank_of), ("alpha / rank", LoraSection.scale_of)):
        pairs = ((name, value(theirs, name), value(ours, name)) for name in old)
        different = [pair for pair in pairs if pair[1] != pair[2]]
        if different:
            name, before, after = different[0]
            where = "" if len(different) == len(old) else f" of {name}"
            found.append(f"{key}{where} is {before} there and {after} here")
    if saved_modules(theirs, model) != saved_modules(ours, model):
        named = [", ".join(section.modules_to_save) or "none" for section in (theirs, ours)]
        found.append(f"modules_to_save are {named[0]} there and {named[1]} here")
    return found


def _check_same_base(base: LoraBase, named: Path) -> None:
    """Raise RecipeError unless `named` is the adapters' base, or the run that holds it."""
    if base.folder.resolve().is_relative_to(named.resolve()):
        return
    try:
        found = CheckpointReader(resolve_checkpoint(named))
    except CheckpointError:
        return  # it is gone, and the adapters' own base is present
    seal = recorded_seal(found) if holds_adapters(found) else LoraBase.of(found.folder).seal
    if seal != base.seal:
        raise RecipeError(
            f"init_from: {named} is another base than {base.folder}, which the run's adapters are "
            f"for; set init_from={base.folder}, or choose another run"
        )
