"""Going back from a spike: to which checkpoint, what is left out, and of which documents it was."""

import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainer.addresses import redacted_values
from trainer.checkpoint import CheckpointReader, list_checkpoints
from trainer.checkpoint.marks import mark_given_up
from trainer.errors import TrainingError
from trainer.files import whole_file
from trainer.recipe import Recipe
from trainer.recovery import Heartbeat
from trainer.recovery.rollbacks import (
    DOCUMENTS,
    ROLLBACKS,
    Rollback,
    add_rollback,
    batches_left_out,
    left_out_between,
    read_rollbacks,
)
from trainer.recovery.spikes import Spike
from trainer.trace import TraceEntry, trace_steps

_log = logging.getLogger(__name__)


def good_checkpoint_before(run: Path, step: int) -> Path | None:
    """The newest checkpoint before a step that counts as good; to be called on one rank."""
    good = [c for c in list_checkpoints(run) if c.problem is None and c.settled and c.step < step]
    return good[-1].path if good else None


def left_out_of(recipe: Recipe, new: bool) -> dict[int, int]:
    """Batches that a run leaves out before each step, as its recipe and its decisions say.

    Of a run that begins anew (`new`) the decisions of the one before are put aside. To be called
    on one rank; raises TrainingError for a damaged file.
    """
    run = Path(recipe.run)
    if new and (run / ROLLBACKS).exists():
        aside = run / f"{ROLLBACKS}.before-{uuid.uuid4().hex[:4]}"
        (run / ROLLBACKS).replace(aside)
        _log.warning("%s: what an earlier training left out is in %s now", run, aside.name)
    return dict(batches_left_out(recipe.recovery.leave_out, read_rollbacks(run)))


def decide(
    recipe: Recipe,
    spike: Spike,
    checkpoint: Path,
    arguments: Mapping[str, Any],
    keeps_position: bool,
    heartbeat: Heartbeat,
) -> None:
    """Write down that the run goes back to a checkpoint, what it leaves out, and what that was of.

    `arguments`: of `Stream`. To be called on one rank. Raises TrainingError where nothing can be
    written, and where the run has gone back as often as it may.
    """
    run, reader = Path(recipe.run), CheckpointReader(checkpoint)
    decided = read_rollbacks(run)
    if len(decided) >= recipe.recovery.rollbacks:
        raise TrainingError(
            f"{spike}: the run has gone back {len(decided)} times before (recovery.rollbacks), as "
            f"{run / ROLLBACKS} says; look at the data, or lower optimizer.lr (--force), and "
            "resume with a higher recovery.rollbacks, or with recovery.spike=null"
        )
    left_out = batches_left_out(recipe.recovery.leave_out, decided)
    first = reader.step + 1
    state = reader.counters.get("stream") if keeps_position else None
    entries = trace_steps(
        dict(arguments), recipe.batch.sequences, range(first, spike.step + 1), state, left_out
    )
    again = sum(one.step == spike.step for one in decided)
    suffix = f"-{again + 1}" if again else ""
    named = Path(DOCUMENTS) / f"step-{spike.step:08d}{suffix}.json"
    batches = spike.step - reader.step + left_out_between(left_out, first, spike.step)
    decision = Rollback(
        step=spike.step,
        figure=spike.figure,
        value=spike.value,
        mean=spike.mean,
        sigmas=spike.sigmas,
        checkpoint=checkpoint.name,
        before_step=first,
        batches=batches,
        documents=str(named),
    )
    try:
        (run / DOCUMENTS).mkdir(exist_ok=True)
        count, own = _name_documents(run / named, decision, entries, heartbeat)
        add_rollback(run, decision)
        for listed in list_checkpoints(run):
            if listed.step > reader.step:
                mark_given_up(listed.path, reader.step)
    except OSError as error:
        raise TrainingError(
            f"{error.filename or run}: cannot be written: {error.strerror}; make room, and the "
            "same command goes on"
        ) from None
    more = f" and {len(own) - 5} more" if len(own) > 5 else ""
    _log.warning(
        "%s; going back to %s and leaving out the %d batches behind it, of %d documents: %s has "
        "them; step %d was of %s%s",
        *(spike, checkpoint.name, batches, count, run / named, spike.step),
        *(", ".join(own[:5]), more),
    )


def _name_documents(
    path: Path,
    decision: Rollback,
    entries: Iterable[tuple[int, TraceEntry]],
    heartbeat: Heartbeat,
) -> tuple[int, list[str]]:
    """Write a decision and the documents of its steps, each once a step, in the order in which they
    were read: how many there are, and the ids of those of the last step.

    One by one, as a window may have millions. Raises OSError.
    """
    count, own = 0, []
    seen: set[tuple[str, int]] = set()
    latest = 0
    with whole_file(path) as file:
        told = json.dumps(redacted_values(vars(decision)), indent=1)
        file.write(told.removesuffix("\n}").encode() + b',\n "documents": [')
        for step, entry in entries:
            if step != latest:
                latest = step
                seen.clear()
                heartbeat.again()
            place = (entry.shard, entry.index)
            if place in seen:
                continue
            seen.add(place)
            described = redacted_values({"step": step, **_described(entry)})
            file.write((b",\n  " if count else b"\n  ") + json.dumps(described).encode())
            count += 1
            if step == decision.step:
                own.append(entry.document_id)
        file.write(b"\n ]\n}\n")
    return count, own


def _described(entry: TraceEntry) -> dict[str, Any]:
    return {
        "id": entry.document_id,
        "source": entry.source,
        "corpus": entry.corpus,
        "shard": entry.shard,
        "index": entry.index,
    }
