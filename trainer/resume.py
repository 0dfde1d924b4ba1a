"""Where a run begins: at its own checkpoint, at the weights of another run's, or from scratch.

Under `lora` a checkpoint holds adapters only, and names the base checkpoint that they modify.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from trainer.checkpoint import CheckpointReader, latest_checkpoint, resolve_checkpoint
from trainer.checkpoint.files import complete_manifest
from trainer.checkpoint.fitted import padded_otherwise, used_rows
from trainer.checkpoint.folders import checkpoints_to_resume, give_up_behind, passed_over
from trainer.checkpoint.format import BEST
from trainer.checkpoint.marks import is_settled, mark_chosen, mark_damaged
from trainer.data.added_tokens import grown_folder
from trainer.data.remote.location import place
from trainer.data.tokenizer import Tokenizer, listed_tokens, load_tokenizer
from trainer.errors import CheckpointError, RecipeError
from trainer.hub.names import is_address
from trainer.mixture_folders import lists_tars
from trainer.parallel.agreement import Ranks, on_first_rank
from trainer.recipe import Recipe, learning_changes
from trainer.recipe.model import ModelSection
from trainer.stages.learning_rate import learning_rate

_log = logging.getLogger(__name__)

_JUMP = 0.05
"""A rate that changes by a larger share than this, where nobody asked for it, is said."""

_STREAM_KEYS = (
    *("data.", "corpus.", "tokenizer", "sequence_length", "seed"),
    *("stage", "conversations.", "preference.loss"),
)


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint to resume from, whose files are verified, and whether its position in the data
    stream is still valid.
    """

    checkpoint: str
    keeps_position: bool


def with_verified_resume(recipe: Recipe, ranks: Ranks) -> Recipe:
    """The recipe with the checkpoint that it resumes from in `resume`, every file's sha256 checked.

    `auto` takes the newest good checkpoint of the run, where that is damaged the one before, and
    says so; a run that has none begins. Nothing of a checkpoint is read before. Collective. Raises
    CheckpointError, on all ranks alike, where the one that was asked for is damaged, or all are.
    """
    if recipe.resume == "never":
        return recipe
    if recipe.resume != "auto":
        named = on_first_rank(ranks, lambda: str(resolve_checkpoint(Path(recipe.resume))))
        CheckpointReader(Path(named)).verify()
        on_first_rank(ranks, partial(_tell_way_back, Path(recipe.run), Path(named)))
        return recipe.model_copy(update={"resume": named})
    run = Path(recipe.run)
    candidates = ranks.share([str(path) for path in checkpoints_to_resume(run)])
    faults: list[str] = []
    for candidate in map(Path, candidates):
        try:
            on_first_rank(ranks, partial(_require_complete, candidate))
            CheckpointReader(candidate).verify()
        except CheckpointError as error:
            faults.append(str(error).partition(";")[0])
            on_first_rank(ranks, partial(_tell_damage, candidate, faults[-1]))
            continue
        on_first_rank(ranks, partial(_tell_choice, run, candidate))
        return recipe.model_copy(update={"resume": str(candidate)})
    if not faults:
        return recipe
    raise CheckpointError(
        f"run {run}: none of its {len(faults)} checkpoints can be read: {faults[0]}; put one back, "
        "or let it begin anew with resume=never"
    )


def _require_complete(checkpoint: Path) -> None:
    """Raise CheckpointError, before all ranks read, where one rank can see why they cannot."""
    complete_manifest(checkpoint)


def _tell_way_back(run: Path, chosen: Path) -> None:
    """Note which of the run's own checkpoints a resume from an earlier one gives up, and say so."""
    inside = chosen.resolve().parent == (run / "checkpoints").resolve()
    if inside:
        _noted(lambda: mark_chosen(chosen))
    step = CheckpointReader(chosen).step

    def give_up() -> None:
        if given_up := give_up_behind(run, step):
            names = ", ".join(path.name for path in given_up)
            _log.warning("going on from step %d gives up %s: they stay, marked so", step, names)

    _noted(give_up)


def _tell_damage(checkpoint: Path, fault: str) -> None:
    _log.warning("%s; the checkpoint before it is tried", fault)
    _noted(lambda: mark_damaged(checkpoint, fault))


def _tell_choice(run: Path, chosen: Path) -> None:
    """Say which checkpoint a resume takes, and why not a newer one."""
    _noted(lambda: mark_chosen(chosen))
    settled = "" if is_settled(chosen) else ", though it has not settled, as none has"
    reasons = "; ".join(passed_over(run, chosen))
    why = f" ({reasons})" if reasons else ""
    _log.info("resuming from %s: the newest good checkpoint%s%s", chosen, settled, why)


def _noted(note: Callable[[], None]) -> None:
    """Make a note that only saves work later, and may fail where nothing can be written."""
    try:
        note()
    except OSError as error:
        _log.warning("%s: %s", error.filename, error.strerror)


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
    traits = recipe.stage_traits
    makes = traits.reads_sets or traits.asks or any(map(lists_tars, recipe.data.mixture))
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
    """The base that a resumed run started from: the base's run may have newer checkpoints now.

    However its path is spelled, and though it is gone.
    """
    saved = start / "recipe.yaml"
    if not saved.exists():
        return None
    old = Recipe.from_yaml(saved.read_text(encoding="utf-8"), str(saved)).init_from
    if old is None:
        return None
    if named.name == BEST and (named.is_symlink() or not named.exists()):
        named = named.parent  # the base's run may have a better checkpoint now, or be gone
    base, within = Path(old), named.resolve()
    return base if within in (base.resolve(), *base.resolve().parents) else None


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
        if padded_otherwise(old.model, recipe.model):
            changes = [c for c in changes if c[0] not in ("model.vocab", "model.padding_rows")]
        if _same_tokenizer(checkpoint, tokenizer):
            # Only its path has changed.
            changes = [change for change in changes if change[0] != "tokenizer"]
        changes += _left_out_otherwise(old, recipe, CheckpointReader(checkpoint).step)
        _check_changes(changes, folder, force)
        _tell_jump(old, recipe, CheckpointReader(checkpoint).step)
    moved = any(
        key.startswith(_STREAM_KEYS) and not _keeps_position(key, before, after)
        for key, before, after in changes
    )
    return ResumePoint(str(checkpoint), keeps_position=not moved)


def _left_out_otherwise(old: Recipe, new: Recipe, step: int) -> list[tuple[str, object, object]]:
    """The change of what is left out before steps that are made: nothing can follow from it."""
    before, after = (
        [one.model_dump() for one in recipe.recovery.leave_out if one.before <= step]
        for recipe in (old, new)
    )
    return [] if before == after else [("recovery.leave_out", before, after)]


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
