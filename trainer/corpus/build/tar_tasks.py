"""One task of tokenising tars: some of them become shards of ours, whole or not at all."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.corpus.build.writer import KEYS_A_BUCKET, ShardWriter, StoredDocument, tokenized
from trainer.corpus.reading.files import InputFile
from trainer.corpus.reading.quarantine import Quarantine, Tally
from trainer.corpus.reading.read import read_file
from trainer.corpus.reading.record import ReadOptions
from trainer.corpus.reading.tar_samples import LINKS
from trainer.corpus.reading.webdataset import TarInput
from trainer.data.manifest import token_dtype_for
from trainer.data.tokenizer import Tokenizer
from trainer.errors import DataError
from trainer.files import write_whole

SPLITS = ("train", "validation")
EMPTY = "empty text"
"""What samples whose text has no character are counted as, beside the records that they are."""
KINDS_SHOWN = 6
"""Kinds of samples without a text that the account names."""


@dataclass(frozen=True)
class TarTask:
    """Tars that are tokenised together.

    `number`: of the task, from 0, which names its shards; `split`: where their samples belong.
    """

    number: int
    split: str
    files: list[InputFile]


@dataclass(frozen=True)
class TarWork:
    """What all tasks of a list of tars have in common.

    `folder`: where the shards go; `given`: all tars; `options`: how they are read; `shard_tokens`:
    tokens from which a shard is full; `held_out`: the share of samples held out for validation.
    """

    folder: Path
    given: TarInput
    tokenizer: Tokenizer
    options: ReadOptions
    shard_tokens: int
    held_out: float


def samples_in(tally: Tally) -> int:
    """How many samples were read, with a text or without."""
    counts = tally.passed_over
    return tally.records + counts.total() - counts[EMPTY] - counts[LINKS]


def account_of(tally: Tally, members: Counter[str], texts: int) -> str:
    """What became of the samples, in one line."""
    parts = [f"{texts:,} texts of {samples_in(tally):,} samples"]
    if len(members) > 1:
        listed = ", ".join(f"{count:,} from {name}" for name, count in members.most_common(4))
        parts[0] += f" ({listed})"
    kinds = tally.passed_over.most_common(KINDS_SHOWN)
    parts += [f"{count:,} {kind}" for kind, count in kinds]
    if others := tally.passed_over.total() - sum(count for _, count in kinds):
        parts.append(f"{others:,} of other kinds")
    if tally.malformed:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in tally.reasons.most_common())
        parts.append(f"{tally.malformed:,} malformed ({reasons}), the first: {tally.first}")
    return "; ".join(parts)


def ended_task(work: TarWork, task: TarTask) -> dict[str, Any]:
    """What became of a task's tars, tokenised unless an earlier build ended the same task.

    JSON values: `of`, what decides on the rest; `shards`, entries of the manifest by split;
    `tally`, of the samples; `members`, texts by the member that they stood in. Raises DataError as
    `read_file` does.
    """
    path = work.folder / "tasks" / f"{task.number:05d}.json"
    files = [file.identity for file in task.files]
    counted = [work.given.samples.get(file.path) for file in task.files]
    of = [task.split, work.shard_tokens, work.held_out, files, counted]
    if path.is_file():
        known = dict(json.loads(path.read_bytes()))
        if known["of"] == of:
            return known
    dtype, members = token_dtype_for(work.tokenizer.size), Counter[str]()
    writers = {
        split: ShardWriter(work.folder, split, dtype, work.shard_tokens, task.number)
        for split in SPLITS
    }
    with Quarantine() as quarantine:
        texts = _texts(work, task, quarantine, members)
        for document, sample in tokenized(
            texts, work.tokenizer, dtype, task.number * KEYS_A_BUCKET
        ):
            identity = hashlib.sha256(document["text"].encode()).hexdigest()
            out = int(identity[:16], 16) < work.held_out * 2**64
            writers["validation" if out else task.split].add(sample, identity)
    if work.held_out and task.number == 0 and writers["validation"].empty:
        # Of few samples one is held out all the same: there is something to evaluate on.
        for sample in writers["train"].give_up_first():
            writers["validation"].add(sample, "")
    shards = {
        split: [shard._asdict() for shard in writer.close()] for split, writer in writers.items()
    }
    ended = {
        "of": of,
        "shards": shards,
        "tally": quarantine.tally.summary(),
        "members": dict(members),
    }
    write_whole(path, json.dumps(ended))
    return ended


def _texts(
    work: TarWork, task: TarTask, quarantine: Quarantine, members: Counter[str]
) -> Iterator[StoredDocument]:
    """The texts of a task's tars, in order, counted by the `members` that they stood in.

    Raises DataError where a tar has not the samples that energon counted.
    """
    tally = quarantine.tally
    for file in task.files:
        before = samples_in(tally)
        empty = 0
        for raw in read_file(file, work.options, quarantine):
            members[raw.metadata["member"]] += 1
            if raw.text:
                key = raw.id.removeprefix(f"{file.shown}:")
                yield {"id": key, "source": raw.source, "text": raw.text}
            else:
                empty += 1
        found = samples_in(tally) - before
        if empty:
            tally.passed_over[EMPTY] += empty
        counted = work.given.samples.get(file.path, found)
        if found != counted:
            raise DataError(
                f"{file.shown}: holds {found:,} samples, and its folder's .nv-meta counts"
                f" {counted:,}: it was cut short or changed; bring it back, or run"
                " `energon prepare` again"
            )
