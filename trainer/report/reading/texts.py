"""The texts that a run wrote while it trained: samples, and answers that earned a reward."""

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.report.reading.records import records_in, shortened_text
from trainer.report.reading.run_record import RunRecord

SAMPLES, ANSWERS = "samples.jsonl", "samples"
_DRAWS = 16
_SAMPLINGS = 4
"""Samplings that are read at the beginning of a run, and at its end."""


@dataclass(frozen=True)
class SampleText:
    """What a run wrote after a step, behind a prompt."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True)
class RewardedAnswer:
    """An answer of a reinforced run: the step that it was sampled for, outcome and reward."""

    step: int
    question: str
    text: str
    outcome: str
    reward: float | None


@dataclass(frozen=True)
class SampledAnswers:
    """What a run's base said to a question, asked several times: (text, outcome) each."""

    question: str
    texts: tuple[tuple[str, str], ...]


def by_hash(names: Iterable[str]) -> list[str]:
    """Names in an order that nobody chose, the same for the same names."""
    return sorted(names, key=hash_of)


def hash_of(name: str) -> bytes:
    """What a name is ordered by where nobody is to choose."""
    return hashlib.sha256(name.encode("utf-8", "replace")).digest()


def read_sampled(record: RunRecord, name: str, most: int) -> list[SampledAnswers]:
    """Of the questions of RUN/NAME/samples.jsonl so many, by the hashes of their names."""
    records = (one for one in records_in(record.folder / name / SAMPLES) if "samples" in one)
    chosen = heapq.nsmallest(most, records, key=lambda one: hash_of(str(one.get("id"))))
    return [
        SampledAnswers(
            str(one.get("question")),
            tuple(
                (shortened_text(str(sample["text"])), str(sample.get("outcome")))
                for sample in (one["samples"] if isinstance(one["samples"], list) else ())[:_DRAWS]
                if isinstance(sample, Mapping) and "text" in sample
            ),
        )
        for one in chosen
    ]


def read_samples(run: Path) -> dict[str, list[SampleText]]:
    """Of each prompt the first and the last sample; {} where there are none."""
    found: dict[str, list[SampleText]] = {}
    for record in records_in(run / SAMPLES):
        step, prompt, text = record.get("step"), record.get("prompt"), record.get("text")
        if type(step) is int and isinstance(prompt, str) and isinstance(text, str):
            kept = found.setdefault(prompt, [])
            kept[1:] = [SampleText(step, prompt, text)]
    return found


def read_rewarded(run: Path) -> tuple[list[RewardedAnswer], list[RewardedAnswer]]:
    """The answers of the first samplings that are kept, and of the last ones; as many of each."""
    files = sorted((run / ANSWERS).glob("step-*.jsonl"))
    each = min(_SAMPLINGS, len(files) // 2)
    first = [one for path in files[:each] for one in _answers(path)]
    last = [one for path in files[len(files) - each :] for one in _answers(path)]
    return first, last


def _answers(path: Path) -> list[RewardedAnswer]:
    step = int(path.stem.removeprefix("step-")) if path.stem[5:].isdecimal() else 0
    return [
        RewardedAnswer(
            step,
            str(record.get("asked") or record.get("question")),
            record["text"],
            str(record.get("outcome")),
            _reward(record),
        )
        for record in records_in(path)
        if isinstance(record.get("text"), str)
    ]


def _reward(record: Mapping[str, Any]) -> float | None:
    value = record.get("reward")
    return float(value) if isinstance(value, int | float) else None
