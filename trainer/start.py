"""Bringing a run to its first step: directory, corpus, model, optimizer, and where it left off."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from kernels.attention import CHOICES
from trainer.checkpoint import CheckpointReader, latest_checkpoint, resolve_checkpoint
from trainer.checkpoint.adapted import Reader
from trainer.checkpoint.starting import open_resumed, start_from
from trainer.checkpoint.state import restore_training
from trainer.data.remote.place import place
from trainer.data.tokenizer import Tokenizer, load_tokenizer
from trainer.errors import RecipeError
from trainer.files import write_whole
from trainer.hugging_face.importing import KEPT
from trainer.model.backend import choose_backend, read_choices
from trainer.model.transformer import build_model
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.parallel.join import create_layout, leave
from trainer.parallel.layout import Layout
from trainer.parallel.zero import create_optimizer
from trainer.plan.recompute_choice import choose_recompute
from trainer.recipe import Recipe, learning_changes
from trainer.recipe.rules import VOCABULARY_MULTIPLE
from trainer.recovery import RunLock
from trainer.run import Counters, Run
from trainer.sources import Sources, open_sources

_log = logging.getLogger(__name__)

_STREAM_KEYS = (
    *("data.", "corpus.", "tokenizer", "sequence_length", "seed"),
    *("stage", "conversations.", "preference.loss"),
)


@contextmanager
def open_run(recipe: Recipe, force: bool) -> Iterator[Run]:
    """Everything that the loop needs, at the step where the run left off; one writer a directory.

    Raises RecipeError (the recipe, the layout, a directory in use, a resume that would change what
    is learned without `force`), DataError, CheckpointError, ClusterError: on all ranks alike.
    """
    layout = create_layout(recipe)
    # Every rank writes its own log; on the screen one speaks for all.
    logging.getLogger("trainer").propagate = layout.reports
    ranks = Ranks()
    try:
        with ExitStack() as held:
            folder = Path(recipe.run)
            on_first_rank(ranks, lambda: held.enter_context(RunLock(folder)) and None)
            begun = on_first_rank(ranks, lambda: _begun(recipe))
            recipe = recipe.model_copy(update=begun)
            sources = open_sources(recipe, partial(on_first_rank, ranks))
            recipe = _resolve(recipe, sources.tokenizer, layout)
            point = on_first_rank(ranks, lambda: _resume_from(recipe, sources.tokenizer, force))
            _choose_kernels(recipe, layout, ranks)
            recipe = _choose_recompute(recipe, layout, ranks)
            run = _build(recipe, sources, layout, point)
            if layout.reports:
                write_whole(Path(recipe.run) / "recipe.yaml", recipe.to_yaml())
            held.callback(run.close)
            yield run
    finally:
        leave()


def _begun(recipe: Recipe) -> dict[str, str]:
    """What the recipe leaves to `init_from`: which checkpoint that is now, and its tokenizer.

    A run that goes on needs neither: where they are gone, its own newest checkpoint has the
    tokenizer with which its sets were rendered.
    """
    found, start = {}, _start(recipe)
    tokenizer = recipe.tokenizer
    if recipe.init_from is not None:
        named = Path(recipe.init_from)
        base = (_earlier_base(start, named) if start else None) or resolve_checkpoint(named)
        found["init_from"] = str(base)
        tokenizer = tokenizer or str(base / "tokenizer")
    if recipe.stage == "pretrain" or tokenizer is None:
        return found
    folder = place(tokenizer)
    if start is not None and isinstance(folder, Path) and not folder.is_dir():
        tokenizer = str(start / "tokenizer")
    return {**found, "tokenizer": tokenizer}


def _start(recipe: Recipe) -> Path | None:
    """The checkpoint to go on from, if any."""
    if recipe.resume == "never":
        return None
    if recipe.resume == "auto":
        return latest_checkpoint(Path(recipe.run))
    return resolve_checkpoint(Path(recipe.resume))


def _earlier_base(start: Path, named: Path) -> Path | None:
    """Where a run that goes on began: the base's own run may have newer checkpoints by now."""
    saved = start / "recipe.yaml"
    if not saved.exists():
        return None
    old = Recipe.from_yaml(saved.read_text(encoding="utf-8"), str(saved)).init_from
    base = Path(old) if old is not None else None
    return base if base is not None and named in (base, *base.parents) else None


def _resolve(recipe: Recipe, tokenizer: Tokenizer, layout: Layout) -> Recipe:
    """The recipe with its vocabulary filled in."""
    vocab = recipe.model.vocab
    if vocab is None:
        vocab = -(-tokenizer.size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    if vocab < tokenizer.size:
        raise RecipeError(
            f"model.vocab: {vocab} has no row for some of the tokenizer's {tokenizer.size} tokens; "
            f"set it to {tokenizer.size} or more, or leave it out"
        )
    keys = recipe.model_dump(mode="json")
    keys["model"]["vocab"] = vocab
    resolved = Recipe.from_keys(keys)
    resolved.validate_world(layout.world_size, layout.device.type)
    return resolved


def _choose_kernels(recipe: Recipe, layout: Layout, ranks: Ranks) -> None:
    """What `kernels.attention: auto` runs on GPUs: measured by one rank, in RUN/kernels.json.

    A resumed run finds it there: another choice would round otherwise.
    """
    if recipe.kernels.attention != "auto" or layout.device.type != "cuda":
        return
    path = Path(recipe.run) / "kernels.json"

    def measured() -> dict[str, str]:
        known = read_choices(path)
        chosen = choose_backend(recipe, layout, known)
        if chosen != known:
            write_whole(path, json.dumps({"attention": chosen}, indent=2) + "\n")
        return chosen

    CHOICES.restore(on_first_rank(ranks, measured))


def _choose_recompute(recipe: Recipe, layout: Layout, ranks: Ranks) -> Recipe:
    """What `recompute: auto` means here: measured by one rank, and kept in the run's recipe."""
    if recipe.recompute != "auto":
        return recipe
    chosen = on_first_rank(ranks, lambda: choose_recompute(recipe, layout))
    return Recipe.from_keys(recipe.model_dump(mode="json") | {"recompute": chosen})


def _resume_from(recipe: Recipe, tokenizer: Tokenizer, force: bool) -> dict[str, Any] | None:
    """The `checkpoint` to go on from, if any, and whether its place in the stream is `kept`.

    Refuses to mix two runs in one directory, and unasked changes of what is learned.
    """
    folder = Path(recipe.run)
    newest = latest_checkpoint(folder)
    if recipe.resume == "never" and newest is not None:
        raise RecipeError(
            f"run {folder} already holds {newest.name} and resume is never; choose another "
            "run, or resume=auto to go on from it"
        )
    start = _start(recipe)
    if start is None:
        return None
    saved = start / "recipe.yaml"
    changes = []
    if saved.exists():
        old = Recipe.from_yaml(saved.read_text(encoding="utf-8"), str(saved))
        changes = learning_changes(old, recipe)
        if _same_tokenizer(start, tokenizer):
            changes = [change for change in changes if change[0] != "tokenizer"]  # a place only
        _check_changes(changes, folder, force)
    kept = not any(
        key.startswith(_STREAM_KEYS) and not _keeps_place(key, before, after)
        for key, before, after in changes
    )
    return {"checkpoint": str(start), "kept": kept}


def _same_tokenizer(checkpoint: Path, tokenizer: Tokenizer) -> bool:
    saved = checkpoint / "tokenizer"
    return saved.is_dir() and load_tokenizer(saved).fingerprint == tokenizer.fingerprint


def _keeps_place(key: str, before: object, after: object) -> bool:
    """Whether the place in the stream stays good: other weights or caps of the same corpora."""
    if key == "data.curriculum":
        return True
    if key != "data.mixture":
        return False
    corpora = [[source["corpus"] for source in cast(Any, mixture)] for mixture in (before, after)]
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


def _build(recipe: Recipe, sources: Sources, layout: Layout, point: dict[str, Any] | None) -> Run:
    assert recipe.model.vocab is not None
    chunks = build_model(recipe, recipe.model.vocab, layout)
    optimizer = create_optimizer(chunks, recipe, layout)
    counters = Counters()
    base, kept = None, {}
    if point is not None:
        reader, base = open_resumed(Path(point["checkpoint"]), recipe)
        reader.require_model(_model_keys(recipe, reader.model))
        counters = Counters(**reader.counters)
        if not point["kept"]:
            counters.stream = None  # other data: from its beginning
        optimizer.updates = counters.updates
        restore_training(reader, chunks, optimizer)
        kept = _kept(reader)
        _log.info("resuming from %s", reader.folder)
    elif recipe.init_from is not None:
        base = start_from(recipe, chunks, optimizer)
        kept = _kept(CheckpointReader(Path(recipe.init_from)))
        _log.info("starting from the weights of %s", recipe.init_from)
    return Run(recipe, layout, sources, chunks, optimizer, counters, base, kept)


def _kept(reader: Reader) -> dict[str, bytes]:
    """What an import left in a checkpoint for the export of any that follows."""
    names = [name for name in reader.attachments() if name.startswith(KEPT)]
    return {name: reader.attachment(name) for name in names}


def _model_keys(recipe: Recipe, saved: dict[str, Any]) -> dict[str, Any]:
    """The model section, without the defaults of keys that are newer than the checkpoint."""
    defaults = {name: field.default for name, field in type(recipe.model).model_fields.items()}
    keys = recipe.model.model_dump(mode="json")
    return {k: v for k, v in keys.items() if k in saved or v != defaults[k]}
