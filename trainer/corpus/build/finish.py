"""The last stages of a build: the split, the tokenizer, the shards, the manifest and the card."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trainer import __version__
from trainer.corpus.build.account import curation_of, drops_of, funnel_of, tally_of, timings_of
from trainer.corpus.build.canaries import CANARIES, plant
from trainer.corpus.build.plan import QUARANTINE, BuildPlan
from trainer.corpus.build.record import AUDIT, read_counts
from trainer.corpus.build.shuffle import KEYS, bucket_borders, merge_range
from trainer.corpus.build.writer import StoredDocument, write_shards
from trainer.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    Shard,
    token_dtype_for,
    total_split,
    write_manifest,
)
from trainer.data.tokenizer import MAIN_FILE, Tokenizer, load_tokenizer, train_tokenizer
from trainer.errors import DataError
from trainer.files import write_whole

TOKENIZER = "tokenizer"
SPLITS = ("train", "validation")
SPLIT, SEALED, CURATION, TIMINGS = "split.json", "sealed", "curation.json", "timings.json"
TOKENIZER_CHARACTERS = 200_000_000
"""The tokenizer is trained on the first training documents, up to this much text."""


def judge_input(plan: BuildPlan, rank: int) -> None:
    """Raise DataError where too many records are malformed, or no document passed the rules."""
    counts = read_counts(Path(plan.folder), "read")
    tally_of(counts).check(plan.section.limits.malformed)
    _refuse_empty(plan, counts)


def _refuse_empty(plan: BuildPlan, counts: list[dict[str, Any]]) -> None:
    funnel = funnel_of(counts)
    if funnel and funnel[-1]["documents"]:
        return
    read = funnel[0]["documents"] if funnel else 0
    dropped = drops_of(counts)
    rules = ", ".join(f"{rule} ({reason}): {count}" for (rule, reason), count in dropped[:8])
    what = f"dropped by {rules}" if rules else _without_text(counts)
    raise DataError(
        f"the corpus {plan.out} is empty: {read} documents read, {what}; add sources, or loosen"
        " corpus.minimum_characters or corpus.rules (corpus.rules=null passes every document)"
    )


def _without_text(counts: list[dict[str, Any]]) -> str:
    """That the input has no text, and what it has."""
    found = tally_of(counts).passed_over.most_common(4)
    listed = "; ".join(f"{count:,} {kind}" for kind, count in found)
    return "the input has no text" + (f" ({listed})" if listed else "")


def fit_tokenizer(plan: BuildPlan, rank: int) -> None:
    """Decide where the validation split ends, and train the tokenizer on the documents beyond it.

    A tokenizer that the recipe names is copied instead. Raises DataError for an empty corpus.
    """
    folder = Path(plan.folder)
    counts = read_counts(folder, "clean")
    _refuse_empty(plan, read_counts(folder, "read") + counts)
    border = _border(plan, [count["facts"] for count in counts])
    write_whole(folder / SPLIT, json.dumps({"border": border}).encode())
    if (folder / TOKENIZER / MAIN_FILE).is_file():
        return
    if plan.tokenizer is not None:
        tokenizer = load_tokenizer(plan.tokenizer)
    else:
        texts = merge_range(folder, plan.tasks, border, KEYS)
        tokenizer = train_tokenizer(
            _beginning(document.whole for document in texts), plan.section.vocab
        )
    tokenizer.save(folder / TOKENIZER)


def _border(plan: BuildPlan, facts: list[dict[str, Any]]) -> int:
    """The key below which documents are held out; two documents or more give one to each split."""
    documents = sum(fact["documents"] for fact in facts)
    held_out = sum(fact["validation"] for fact in facts)
    if documents > 1 and held_out == 0:
        return sorted(key for fact in facts for key in fact["smallest"])[1]
    if documents > 1 and held_out == documents:
        return max(fact["largest"] for fact in facts)
    return 0 if documents == 1 else plan.validation_keys


def _beginning(texts: Iterable[str]) -> Iterator[str]:
    characters = 0
    for text in texts:
        yield text
        characters += len(text)
        if characters >= TOKENIZER_CHARACTERS:
            return


def plant_canaries(plan: BuildPlan, rank: int) -> None:
    """Add the canaries to the training documents; the tokenizer was trained without them."""
    plant(plan, json.loads((Path(plan.folder) / SPLIT).read_bytes())["border"])


def write_bucket(plan: BuildPlan, rank: int) -> None:
    """Tokenize one range of keys into shards; ranks below `validation_buckets` are validation's."""
    folder = Path(plan.folder)
    border = json.loads((folder / SPLIT).read_bytes())["border"]
    held_out = plan.validation_buckets
    split = "validation" if rank < held_out else "train"
    ranges = bucket_borders(0, border, held_out) + bucket_borders(border, KEYS, plan.buckets)
    low, high = ranges[rank]

    def documents(start: int) -> Iterator[StoredDocument]:
        for document in merge_range(folder, plan.runs, low, high, start):
            yield {"id": document.id, "source": document.source, "text": document.whole}

    bucket = rank if split == "validation" else rank - held_out
    shards = write_shards(
        folder, split, bucket, documents, _tokenizer(folder), plan.section.shard_tokens
    )
    (folder / SEALED).mkdir(exist_ok=True)
    entries = json.dumps([shard._asdict() for shard in shards]).encode()
    write_whole(folder / SEALED / f"{split}-{bucket:05d}.json", entries)


def _tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder / TOKENIZER)


def finish(plan: BuildPlan, rank: int) -> None:
    """Write curation.json, timings.json, the manifest and, last, the data card."""
    from trainer.corpus.inspect.card import write_card

    folder = Path(plan.folder)
    if not (folder / MANIFEST_NAME).is_file():
        splits = {
            split: total_split(
                [
                    Shard(**entry)
                    for path in sorted((folder / SEALED).glob(f"{split}-*.json"))
                    for entry in json.loads(path.read_bytes())
                ]
            )
            for split in SPLITS
        }
        curation = curation_of(plan, splits["train"].tokens + splits["validation"].tokens)
        write_whole(folder / TIMINGS, json.dumps(timings_of(plan, curation)).encode())
        write_whole(folder / CURATION, json.dumps(curation, indent=1, ensure_ascii=False).encode())
        tokenizer = _tokenizer(folder)
        manifest = Manifest(
            tokenizer_fingerprint=tokenizer.fingerprint,
            tokenizer_files=tokenizer.hashes,
            tokenizer_size=tokenizer.size,
            end_of_text=tokenizer.end_of_text,
            token_dtype=token_dtype_for(tokenizer.size),
            splits=splits,
            provenance={
                "builder": f"lyceum {__version__}",
                "settings": plan.settings,
                "inputs": plan.inputs,
                "files": _trail(folder),
            },
        )
        write_manifest(folder, manifest)
    write_card(folder)


def _trail(folder: Path) -> dict[str, str]:
    """sha256 of curation.json, of canaries.json where there is one, and of the files of audit/ and
    quarantine/, by relative path.
    """
    found = {}
    parts = [*(folder / AUDIT).glob("*.parquet"), *(folder / QUARANTINE).glob("*.jsonl")]
    parts += [folder / CANARIES] if (folder / CANARIES).is_file() else []
    for path in sorted([folder / CURATION, *parts]):
        with path.open("rb") as file:
            found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
