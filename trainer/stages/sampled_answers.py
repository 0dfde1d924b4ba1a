"""The answers of a sampling of `stage: reinforce`: kept for people, and in checkpoints."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.errors import DataError
from trainer.questions.verdict import Found

SAMPLES = "samples"
"""The folder of a run that holds a file of answers for each sampling."""


@dataclass(frozen=True)
class SampledAnswer:
    """One answer of the policy, with what it earned.

    `question`: the question's id; `asked`: its text; `kind`: as of the question; `answerable`:
    whether anybody can know; `text`, `ended`: the answer, and whether it came to an end of its own;
    `outcome`, `why`: its verdict; `rewards`: what it earned, by what for; `advantage`: how far it
    is ahead of its group; `update`: which batch of the sampling it is in, from 0; `row`, `start`:
    its place there; `prompt`, `tokens`: token ids, the answer's with the one that ended it;
    `nats`: the sampling policy's log-probability of each of `tokens`, in the training's forward
    pass (empty where no step needs it).
    """

    question: str
    asked: str
    kind: str | None
    answerable: bool
    text: str
    ended: bool
    outcome: Found
    why: str
    rewards: dict[str, float]
    advantage: float
    update: int
    row: int
    start: int
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    nats: tuple[float, ...] = ()

    @property
    def reward(self) -> float:
        """All that it earned."""
        return sum(self.rewards.values())

    def line(self) -> str:
        """The answer as a line of JSON; its numbers read back to the same bit."""
        fields = asdict(self)
        rewards = fields.pop("rewards")
        ahead = {"reward": self.reward, "rewards": rewards}
        named = list(fields.items())
        before = [name for name, _ in named].index("advantage")
        return json.dumps(dict([*named[:before], *ahead.items(), *named[before:]]))


def lines_of(answers: Iterable[SampledAnswer]) -> bytes:
    """The answers as JSON lines."""
    return "".join(f"{answer.line()}\n" for answer in answers).encode()


def answers_of(lines: bytes, source: str) -> list[SampledAnswer]:
    """What `lines_of` wrote; raises DataError, which calls it `source`, where it is damaged."""
    found = []
    for number, line in enumerate(lines.splitlines(), 1):
        try:
            fields: dict[str, Any] = json.loads(line)
            fields.pop("reward")
            for name in ("prompt", "tokens", "nats"):
                fields[name] = tuple(fields[name])
            found.append(SampledAnswer(**fields))
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
            raise DataError(
                f"{source} line {number}: holds no sampled answer; restore it, or resume from an"
                " earlier checkpoint"
            ) from None
    return found


def samples_file(run: Path, step: int) -> Path:
    """The file of the sampling whose first optimizer step is `step`, from 1."""
    return run / SAMPLES / f"step-{step:08d}.jsonl"


def samples_of_step(run: Path, step: int, lag: int) -> tuple[int, Path] | None:
    """The sampling from which step `step` learned: its first step, and its file; None: it is gone.

    `lag`: as `ReinforceSection.lag`.
    """
    for first in range(step, max(step - lag - 1, 0), -1):
        path = samples_file(run, first)
        if path.exists():
            return first, path
    return None


def of_update(answers: Sequence[SampledAnswer], update: int) -> list[SampledAnswer]:
    """The answers of one batch of a sampling, in their order."""
    return [answer for answer in answers if answer.update == update]
