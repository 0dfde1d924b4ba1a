"""The last stages of a build: the split, the tokenizer, the shards, and the folder as a whole."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from trainer import __version__
from trainer.data.curate.plan import QUARANTINE, Plan
from trainer.data.curate.record import AUDIT, LENGTH_BINS, read_counts
from trainer.data.curate.shuffle import KEYS, bucket_borders, merge_range
from trainer.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    Shard,
    token_dtype_for,
    total_split,
    write_manifest,
)
from trainer.data.reading.quarantine import Tally
from trainer.data.tokenizer import MAIN_FILE, Tokenizer, load_tokenizer, train_tokenizer
from trainer.data.writer import Record, write_shards
from trainer.data.writing import write_whole
from trainer.errors import DataError

TOKENIZER = "tokenizer"
SPLITS = ("train", "validation")
SPLIT, SEALED, CURATION, TIMINGS = "split.json", "sealed", "curation.json", "timings.json"
TOKENIZER_CHARACTERS = 200_000_000
"""The tokenizer is trained on the first training documents that hold this much text."""
PLACES_KEPT = 20


def judge_input(plan: Plan, rank: int) -> None:
    """Raise DataError where too much of the input is malformed, or nothing is left of it."""
    counts = read_counts(Path(plan.folder), "read")
    _tally(counts).check(plan.section.limits.malformed)
    _refuse_empty(plan, counts)


def _refuse_empty(plan: Plan, counts: list[dict[str, Any]]) -> None:
    funnel = _funnel(counts)
    if funnel and funnel[-1]["documents"]:
        return
    read = funnel[0]["documents"] if funnel else 0
    dropped = _dropped(counts)
    rules = ", ".join(f"{rule} ({reason}): {count}" for (rule, reason), count in dropped[:8])
    what = f"dropped by {rules}" if rules else "the input has no text"
    raise DataError(
        f"the corpus {plan.out} is empty: {read} documents read, {what}; add sources, or loosen"
        " corpus.minimum_characters or corpus.rules (corpus.rules=null passes every document)"
    )


def fit_tokenizer(plan: Plan, rank: int) -> None:
    """Decide where the validation split ends, and train the tokenizer on what is not in it.

    Validation documents stay unseen by everything that is fitted.
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


def _border(plan: Plan, facts: list[dict[str, Any]]) -> int:
    """The key below which documents are held out; a tiny corpus has something on both sides."""
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


def write_bucket(plan: Plan, rank: int) -> None:
    """Tokenize one range of keys into shards; the first tasks have the validation split's."""
    folder = Path(plan.folder)
    border = json.loads((folder / SPLIT).read_bytes())["border"]
    held_out = plan.validation_buckets
    split = "validation" if rank < held_out else "train"
    ranges = bucket_borders(0, border, held_out) + bucket_borders(border, KEYS, plan.buckets)
    low, high = ranges[rank]

    def documents(start: int) -> Iterator[Record]:
        for document in merge_range(folder, plan.tasks, low, high, start):
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


def finish(plan: Plan, rank: int) -> None:
    """Write what was done to the documents, the manifest and, last, the data card."""
    from trainer.data.card import write_card

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
        curation = _curation(plan, splits["train"].tokens + splits["validation"].tokens)
        write_whole(folder / TIMINGS, json.dumps(_timings(plan, curation)).encode())
        write_whole(folder / CURATION, json.dumps(curation, indent=1, ensure_ascii=False).encode())
        tokenizer = _tokenizer(folder)
        manifest = Manifest(
            tokenizer_fingerprint=tokenizer.fingerprint,
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
    """sha256 of the files that tell what became of the documents, by name."""
    found = {}
    parts = [*(folder / AUDIT).glob("*.parquet"), *(folder / QUARANTINE).glob("*.jsonl")]
    for path in sorted([folder / CURATION, *parts]):
        with path.open("rb") as file:
            found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _curation(plan: Plan, tokens: int) -> dict[str, Any]:
    folder = Path(plan.folder)
    reading, cleaning = read_counts(folder, "read"), read_counts(folder, "clean")
    counts = reading + cleaning
    funnel = [*_funnel(reading), *_funnel(cleaning)]
    documents = sum(count["facts"]["documents"] for count in cleaning)
    last = funnel[-1]["bytes"]
    for step in funnel:
        step["tokens"] = round(step["bytes"] * tokens / last) if last else 0
        step["exact"] = False
    funnel.append(
        {"step": "tokenized", "documents": documents, "bytes": last, "tokens": tokens}
        | {"exact": True}
    )
    lengths = {name: _summed(counts, f"lengths {name}") for name in ("read", "kept")}
    return {
        "funnel": funnel,
        "controls": _controls(counts),
        "languages": dict(_summed(counts, "languages").most_common()),
        "lengths": {
            "edges": [2**place for place in range(LENGTH_BINS)],
            **{
                name: [bins[str(place)] for place in range(LENGTH_BINS)]
                for name, bins in lengths.items()
            },
        },
        "balance": _balance(_summed(counts, "balance"), documents),
        "malformed": _malformed(reading),
        "sources": _sources(counts),
        "rules": plan.settings["rules"],
    }


def _timings(plan: Plan, curation: dict[str, Any]) -> dict[str, dict[str, float]]:
    """CPU-seconds of each rule, with the documents and bytes that came to it.

    A file of its own: all others are the same for the same input.
    """
    folder = Path(plan.folder)
    seconds = _sum(
        count["seconds"] for stage in ("read", "clean") for count in read_counts(folder, stage)
    )
    came = {after["step"]: before for before, after in pairwise(curation["funnel"])}
    return {
        rule: {
            "seconds": spent,
            "documents": came[rule]["documents"],
            "bytes": came[rule]["bytes"],
        }
        for rule, spent in seconds.items()
        if rule in came
    }


def _balance(counts: Counter[str], documents: int) -> list[dict[str, Any]]:
    if not counts:
        return []
    from trainer.data.curate.balance import balance_report

    return balance_report(counts, documents)


def _funnel(counts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Documents and bytes that came out of each step, over all tasks."""
    totals: dict[str, list[int]] = {}
    for count in counts:
        for step, (documents, size) in count["funnel"].items():
            total = totals.setdefault(step, [0, 0])
            total[0] += documents
            total[1] += size
    return [
        {"step": step, "documents": documents, "bytes": size}
        for step, (documents, size) in totals.items()
    ]


def _controls(counts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    totals: dict[tuple[str, str, str], Counter[str]] = {}
    for count in counts:
        for rule, reason, threshold, action, number in count["controls"]:
            totals.setdefault((rule, reason, threshold), Counter())[action] += number
    return [
        {
            "rule": rule,
            "reason": reason,
            "threshold": threshold,
            "dropped": actions["dropped"],
            "changed": actions["changed"] + actions["added"],
        }
        for (rule, reason, threshold), actions in totals.items()
    ]


def _dropped(counts: list[dict[str, Any]]) -> list[tuple[tuple[str, str], int]]:
    total: Counter[tuple[str, str]] = Counter()
    for control in _controls(counts):
        total[(control["rule"], control["reason"])] += control["dropped"]
    return [(key, number) for key, number in total.most_common() if number]


def _tally(counts: list[dict[str, Any]]) -> Tally:
    total = Tally()
    for count in counts:
        if "tally" in count["facts"]:
            total.absorb(Tally.from_summary(count["facts"]["tally"]))
    return total


def _malformed(counts: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [row for count in counts for row in count["facts"].get("set aside", [])]
    return {**_tally(counts).summary(), "first": rows[:PLACES_KEPT]}


def _sources(counts: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    files, read, kept = (_summed(counts, f"sources {name}") for name in ("files", "read", "kept"))
    return {
        name: {"files": files[name], "read": read[name], "kept": kept[name]}
        for name in sorted({*files, *read})
    }


def _summed(counts: list[dict[str, Any]], group: str) -> Counter[str]:
    return _sum(count["counts"].get(group, {}) for count in counts)


def _sum(parts: Iterable[dict[str, Any]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return total
