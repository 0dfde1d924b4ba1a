"""What a run read: RUN/sources.json, and of each corpus how it was made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.corpus.inspect.curation import Curation, load_curation
from trainer.errors import LyceumError
from trainer.report.reading.run_record import RunRecord, json_object

SOURCES = "sources.json"
OWN_SETS = ("refusals", "factuality")
"""Folders of a run with the sets that were made of what its own model says."""


@dataclass(frozen=True)
class ReadCorpus:
    """A corpus, or a set of examples, that a run read.

    `weight`: its share of the mixture as the recipe has it, None where it is the only one;
    `splits`: documents and tokens by split; `examples`: what became of a set's examples;
    `curation`: how its documents were chosen, None where that is not known; `missing`: why.
    """

    name: str
    folder: str
    kind: str
    weight: float | None
    splits: Mapping[str, Mapping[str, int]]
    examples: Mapping[str, Any] | None
    curation: Curation | None
    missing: str = ""

    @property
    def documents(self) -> int:
        """Documents of the training split."""
        return self.splits.get("train", {}).get("documents", 0)

    @property
    def tokens(self) -> int:
        """Tokens of the training split."""
        return self.splits.get("train", {}).get("tokens", 0)


def read_corpora(record: RunRecord) -> list[ReadCorpus] | None:
    """The corpora of a run in the order of its mixture; None where it did not record them."""
    sources = json_object(record.folder / SOURCES).get("sources")
    if not isinstance(sources, list):
        return None
    mixture = record.key("data.mixture") or []
    weights = [_weight(one) for one in mixture] if len(mixture) == len(sources) else []
    return [
        _corpus(one, weights[number] if len(weights) > 1 else None)
        for number, one in enumerate(sources)
        if isinstance(one, dict)
    ]


def read_own_sets(record: RunRecord) -> dict[str, dict[str, Any]]:
    """Of each set that was made of what the run's own model says: what it was made of."""
    found = {name: json_object(record.folder / name / "set.json") for name in OWN_SETS}
    return {name: made_of for name, made_of in found.items() if made_of}


def _weight(entry: Any) -> float | None:
    weight = entry.get("weight", 1.0) if isinstance(entry, Mapping) else None
    return float(weight) if isinstance(weight, int | float) else None


def _corpus(source: Mapping[str, Any], weight: float | None) -> ReadCorpus:
    place = str(source.get("folder") or source.get("corpus") or "")
    curation, missing = None, ""
    if "://" in place:
        missing = f"its curation lies with it, at {place}, and is not read"
    elif not Path(place).is_dir():
        missing = f"{place} is not there any more"
    else:
        try:
            curation = load_curation(place)
        except LyceumError as error:
            missing = str(error)
    examples = source.get("examples")
    return ReadCorpus(
        name=str(source.get("name") or Path(place).name),
        folder=place,
        kind=str(source.get("kind") or "documents"),
        weight=weight,
        splits=_splits(source.get("splits")),
        examples=examples if isinstance(examples, Mapping) else None,
        curation=curation,
        missing=missing,
    )


def _splits(found: Any) -> dict[str, dict[str, int]]:
    if not isinstance(found, Mapping):
        return {}
    return {
        str(name): {key: value for key, value in part.items() if type(value) is int}
        for name, part in found.items()
        if isinstance(part, Mapping)
    }
