"""The texts that a run wrote while it trained: samples, and answers that earned a reward."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.report.reading.records import records_in

SAMPLES, ANSWERS = "samples.jsonl", "samples"
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
