"""What a rule is: a function of one document's text that keeps, changes or drops it, and says
why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a rule dropped or changed a document: one row of the audit.

    `reason` names the measure that tripped ("short document", "email"), `value` what was measured
    (a number, or a word such as a language; never personal data itself), `threshold` the limit in
    the recipe that it broke.
    """

    reason: str
    value: float | str | None = None
    threshold: float | str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a text.

    `text` is None where the document is dropped. `findings` is empty where it passed unchanged.
    `notes` (JSON values) are kept with the document. `added` is the text of a further document to
    go on behind this one.
    """

    text: str | None
    findings: tuple[Finding, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    added: str | None = None


class Rule(Protocol):
    """A pure function of a text and its document's id; picklable, cheap to build, loads what is
    heavy on first use.
    """

    @property
    def name(self) -> str:
        """How the funnel, the audit and the data card call it."""

    def __call__(self, text: str, document: str) -> Outcome:
        """Judge one text, whose document's id decides what is drawn by chance."""


def kept(text: str, **notes: Any) -> Outcome:
    """Passed, unchanged."""
    return Outcome(text, notes=notes)


def dropped(reason: str, value: float | str | None, threshold: float | str | None) -> Outcome:
    """Dropped for one reason."""
    return Outcome(None, (Finding(reason, value, threshold),))
