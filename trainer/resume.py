"""Where a run begins: at its own checkpoint, at the weights of another run's, or from scratch.

Under `lora` a checkpoint holds adapters only, and names the base checkpoint that they modify.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from trainer.checkpoint import CheckpointReader, latest_checkpoint, resolve_checkpoint
from trainer.checkpoint.adapted import (
    AdaptedReader,
    Reader,
    open_merged,
    open_trained,
    saved_tokenizer,
    trained_length,
)
from trainer.checkpoint.fitted import FittedReader, new_rows, used_rows
from trainer.checkpoint.format import BEST
from trainer.checkpoint.lora_base import LoraBase, holds_adapters, recorded_seal
from trainer.checkpoint.state import restore_training, restore_weights
from trainer.data.added_tokens import grown_folder
from trainer.data.remote.location import place
from trainer.data.tokenizer import Tokenizer, listed_tokens, load_tokenizer
from trainer.errors import CheckpointError, RecipeError
from trainer.hub.names import is_address
from trainer.hugging_face.importing import FROM_IMPORT
from trainer.mixture_folders import lists_tars
from trainer.model.lora import adapters_off
from trainer.model.lora.targets import adapted_names
from trainer.model.transformer import LanguageModel
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.parallel.zero import Optimizer
from trainer.recipe import Recipe, learning_changes
from trainer.recipe.lora import LoraSection, saved_modules
from trainer.recipe.model import ModelSection
from trainer.run import Beginning, Counters
from trainer.stages.learning_rate import learning_rate

_log = logging.getLogger(__name__)

_JUMP = 0.05
"""A rate that changes by a larger share than this, where nobody asked for it, is said."""

_SHORT = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}

_STREAM_KEYS = (
    *("data.", "corpus.", "tokenizer", "sequence_length", "seed"),
    *("stage", "conversations.", "preference.loss"),
)


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint to resume from, and whether its position in the data stream is still valid."""

    checkpoint: str
    keeps_position: bool


def starting_keys(recipe: Recipe) -> dict[str, str]:
    """The keys that follow from `init_from`: the checkpoint it resolves to, and its tokenizer, with
    the recipe's added tokens in it.

    A resumed run depends on neither: where the base's tokenizer is gone, it uses the copy in its
    own checkpoint, with which its sets were rendered and its tars tokenised.
    """
    found, start = {}, _checkpoint(recipe)
    tokenizer = recipe.tokenizer
    if recipe.init_from is not None:
        named = Path(recipe.init_from)
        base = (_earlier_base(start, named) if start else None) or resolve_checkpoint(named)
        found["init_from"] = str(base)
        tokenizer = tokenizer or str(base / "tokenizer")
    adds = recipe.added_tokens or recipe.added_special_tokens
    makes = recipe.stage_traits.reads_sets or any(map(lists_tars, recipe.data.mixture))
    if not (makes or adds) or tokenizer is None:
        return found
    if start is not None and not _stays(tokenizer):
        tokenizer = str(start / "tokenizer")
    if adds:
        if start is None:
            _say_what_is_known(recipe, tokenizer)
        names = (recipe.added_tokens, recipe.added_special_tokens)
        tokenizer = grown_folder(tokenizer, *names, recipe.data.remote)
    return {**found, "tokenizer": tokenizer}


def _say_what_is_known(recipe: Recipe, tokenizer: str) -> None:
    """Log the added tokens that need no row of their own."""
    own = load_tokenizer(tokenizer, recipe.data.remote)
    known = [one for one in (*recipe.added_tokens, *recipe.added_special_tokens) if own.has(one)]
    if known:
        _log.info("added tokens: in the base's vocabulary already: %s", listed_tokens(known))


def rows_to_resume(recipe: Recipe) -> int | None:
    """Rows of the embedding that take part in the checkpoint to resume from; None: it is new."""
    start = _checkpoint(recipe)
    return None if start is None else used_rows(ModelSection(**CheckpointReader(start).model))


def _stays(tokenizer: str) -> bool:
    """Whether a tokenizer is still what it was: in a folder that is here, or behind a URL."""
    if is_address(tokenizer):
        return False  # what the hub has under a name may change
    folder = place(tokenizer)
    return not isinstance(folder, Path) or folder.is_dir()


def _checkpoint(recipe: Recipe) -> Path | None:
    """The checkpoint to resume from, if any."""
    if recipe.resume == "never":
        return None
    if recipe.resume == "auto":
        return latest_checkpoint(Path(recipe.run))
    return resolve_checkpoint(Path(recipe.resume))


def _earlier_base(start: Path, named: Path) -> Path | None:
    """The base that a resumed run started from: the base's run may have newer checkpoints now."""
    saved = start / "recipe.yaml"
    if not saved.exists():
        return None
    old = Recipe.from_yaml(saved.read_text(encoding="utf-8"), str(saved)).init_from
    base = Path(old) if old is not None else None
    if named.name == BEST and named.is_symlink():
        named = named.parent  # the base's run may have a better checkpoint now
    return base if base is not None and named in (base, *base.parents) else None


def find_resume_point(
    recipe: Recipe, tokenizer: Tokenizer, force: bool, ranks: Ranks
) -> ResumePoint | None:
    """The checkpoint that the resolved recipe's run resumes from, None for a new run.

    Equal on every rank; collective. Raises RecipeError rather than mix two runs in one directory,
    and for a change of what is learned without `force`.
    """

    def found() -> dict[str, Any] | None:
        point = _resume_point(recipe, tokenizer, force)
        return None if point is None else asdict(point)

    known = on_first_rank(ranks, found)
    return None if known is None else ResumePoint(**known)


def _resume_point(recipe: Recipe, tokenizer: Tokenizer, force: bool) -> ResumePoint | None:
    folder = Path(recipe.run)
    newest = latest_checkpoint(folder)
    if recipe.resume == "never" and newest is not None:
        raise RecipeError(
            f"run {folder} already holds {newest.name} and resume is never; choose another "
            "run, or resume=auto to go on from it"
        )
    checkpoint = _checkpoint(recipe)
    if checkpoint is None:
        return None
    saved = checkpoint / "recipe.yaml"
    changes = []
    if saved.exists():
        old = Recipe.from_yaml(saved.read_text(encoding="utf-8"), str(saved))
        changes = learning_changes(old, recipe)
        if _padded_otherwise(old.model, recipe.model):
            changes = [c for c in changes if c[0] not in ("model.vocab", "model.padding_rows")]
        if _same_tokenizer(checkpoint, tokenizer):
            # Only its path has changed.
            changes = [change for change in changes if change[0] != "tokenizer"]
        _check_changes(changes, folder, force)
        _tell_jump(old, recipe, CheckpointReader(checkpoint).step)
    moved = any(
        key.startswith(_STREAM_KEYS) and not _keeps_position(key, before, after)
        for key, before, after in changes
    )
    return ResumePoint(str(checkpoint), keeps_position=not moved)


def _same_tokenizer(checkpoint: Path, tokenizer: Tokenizer) -> bool:
    saved = checkpoint / "tokenizer"
    return saved.is_dir() and load_tokenizer(saved).fingerprint == tokenizer.fingerprint


def _keeps_position(key: str, before: object, after: object) -> bool:
    """Whether the position stays valid: only weights or caps of the same corpora changed."""
    if key == "data.curriculum":
        return True
    if key != "data.mixture":
        return False
    read = ("corpus", "text", "validation")
    corpora = [
        [[source[key] for key in read] for source in cast(Any, mixture)]
        for mixture in (before, after)
    ]
    return corpora[0] == corpora[1]


def _check_changes(changes: list[tuple[str, object, object]], folder: Path, force: bool) -> None:
    if not changes:
        return
    listed = ", ".join(f"{key} {old!r} -> {new!r}" for key, old, new in changes)
    if not force:
        raise RecipeError(
            f"run {folder}: resuming would change what is learned: {listed}; undo it, choose "
            "another run, or pass --force"
        )
    _log.warning("resuming with a changed recipe (--force): %s", listed)


def _tell_jump(old: Recipe, new: Recipe, step: int) -> None:
    """Warn where the learning rate behind `step` is not what the run has come to."""
    last, planned = learning_rate(old, step), learning_rate(old, step + 1)
    rate = learning_rate(new, step + 1)
    # What the schedule would have done by itself, as in a warmup, is no jump.
    if step == 0 or abs(rate - planned) <= _JUMP * max(rate, planned):
        return
    mend = ""
    if new.steps != old.steps and new.schedule.length is None and old.schedule.length is None:
        mend = (
            f"; steps {old.steps} -> {new.steps} draws the whole {new.schedule.name} schedule anew:"
            f" schedule.length={old.steps} goes on at {learning_rate(old, old.steps):g}"
        )
    _log.warning("the learning rate jumps from %g to %g at step %d%s", last, rate, step + 1, mend)


def restore(
    recipe: Recipe, point: ResumePoint | None, chunks: list[LanguageModel], optimizer: Optimizer
) -> Beginning:
    """Load the weights, and for a resumed run the optimizer state; returns the other state.

    Overwrites the parameters of `chunks` and, with a `point`, `optimizer` in place. Collective.
    Raises CheckpointError for a damaged checkpoint, RecipeError for one of another model or of
    other adapters.
    """
    if point is not None:
        reader, base = open_resumed(Path(point.checkpoint), recipe)
        reader.require_model(_model_keys(recipe, reader.model))
        other_rows = reader.model["vocab"] != recipe.model.vocab
        padded = FittedReader(reader, recipe.model) if other_rows else reader
        counters = Counters(**reader.counters)
        if not point.keeps_position:
            counters.stream = None  # other data: start at its beginning
        optimizer.updates = counters.updates
        restore_training(padded, chunks, optimizer)
        _log.info("resuming from %s", reader.folder)
        return Beginning(counters, base, _imported_files(reader))
    if recipe.init_from is None:
        return Beginning()
    base = start_from(recipe, chunks, optimizer)
    reader = CheckpointReader(Path(recipe.init_from))
    precision = _told_precision(recipe, reader)
    _log.info("starting from the weights of %s%s", recipe.init_from, precision)
    counters = Counters(longest_sequence=trained_length(reader))
    return Beginning(counters, base, _imported_files(reader))


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
        restore(recipe, point, chunks, optimizer)


def _told_precision(recipe: Recipe, reader: Reader) -> str:
    """In what precision a base's weights are stored and go on, where that is another one."""
    weights = [key for key in reader.keys() if key.startswith("model/")]  # noqa: SIM118
    kinds = {reader.dtype(key) for key in weights}
    stored = " and ".join(sorted(_SHORT.get(kind, str(kind)) for kind in kinds))
    if stored in ("", recipe.precision):
        return ""
    masters = ", with fp32 master weights" if recipe.precision == "bf16" else ""
    return f", stored in {stored}; trained in {recipe.precision} (precision){masters}"


def _imported_files(reader: Reader) -> dict[str, bytes]:
    """The Hugging Face files in a checkpoint that every later one carries on, for its export."""
    names = [name for name in reader.attachments() if name.startswith(FROM_IMPORT)]
    return {name: reader.attachment(name) for name in names}


def _padded_otherwise(old: ModelSection, new: ModelSection) -> bool:
    """Whether two embeddings differ in padding rows at most, which other tensor ranks ask for."""
    padded = old.padding_rows or new.padding_rows
    return bool(padded) and used_rows(old) == used_rows(new)


def _model_keys(recipe: Recipe, saved: dict[str, Any]) -> dict[str, Any]:
    """The model section, without the defaults of keys that are newer than the checkpoint."""
    defaults = {name: field.default for name, field in type(recipe.model).model_fields.items()}
    keys = recipe.model.model_dump(mode="json")
    if _padded_otherwise(ModelSection(**saved), recipe.model):
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
        if _padded_otherwise(ModelSection(**reader.model), recipe.model):
            return FittedReader(reader, recipe.model)
        return FittedReader(reader, model) if untied else reader
    assert recipe.tokenizer is not None, "a resolved recipe has it"
    known = saved_tokenizer(reader)
    grown = load_tokenizer(recipe.tokenizer, recipe.data.remote)
    return FittedReader(reader, recipe.model, known.size, new_rows(known, grown, model))


def open_resumed(checkpoint: Path, recipe: Recipe) -> tuple[Reader, LoraBase | None]:
    """The checkpoint to resume from and, under `lora`, its base; collective.

    The base is looked for at `init_from` too. Raises RecipeError where the checkpoint's adapters
    differ from the recipe's, where only one of the two has adapters, or where `init_from` is
    another base.
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
