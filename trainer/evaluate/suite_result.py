"""What a suite found of a model, and how it is stored: read without any model at hand."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from trainer.evaluate.intervals import Figure
from trainer.evaluate.respondent import NOT_FINITE


@dataclass(frozen=True)
class SuiteResult:
    """What a suite found: figures by name; `failed`: reasons and how many items each cost.

    `before`: items that an earlier, interrupted examination had answered; `remarks`: what forbids
    to read the figures as they seem, a line each.
    """

    figures: dict[str, Figure]
    items: int
    failed: dict[str, int] = field(default_factory=dict)
    before: int = 0
    remarks: Sequence[str] = ()

    @property
    def failures(self) -> str:
        """How many items failed, and why, in words; empty where none did."""
        reasons = ", ".join(f"{why} ({count:,})" for why, count in self.failed.items())
        lost = sum(self.failed.values())
        return f"{lost:,} of {self.items:,} items failed: {reasons}" if lost else ""

    @property
    def diverged(self) -> bool:
        """Whether an item failed as the model's log-probabilities were not finite."""
        return NOT_FINITE in self.failed

    def as_json(self) -> dict[str, Any]:
        """Its parts as JSON."""
        figures = {name: figure.as_json() for name, figure in self.figures.items()}
        return {**asdict(replace(self, figures={})), "figures": figures}

    @classmethod
    def of_json(cls, parts: dict[str, Any]) -> "SuiteResult":
        """The result that `as_json` described."""
        figures = {name: Figure.of_json(one) for name, one in parts["figures"].items()}
        return cls(**{**parts, "figures": figures})
