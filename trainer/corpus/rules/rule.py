"""What a rule is: a function of one document's text that keeps, changes or drops it, and says
why.
"""

from collections.abc import Callable, Mapping, Sequence
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
class Judgement:
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

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text, whose document's id decides what is drawn by chance."""


def _no_files(_section: Any) -> list[str]:
    return []


def _has_settings(settings: Any) -> bool:
    return bool(settings)


@dataclass(frozen=True)
class RuleDescription:
    """What the house says of one key of `corpus.rules`: the chain, the data card and the README.

    Attributes:
        rules: The rules that a section of the recipe asks for, in order; none where it has
            nothing to do.
        behind_duplicates: Whether they are applied behind the removal of duplicates, or before it.
        summary: What it does, as the README's table says it.
        not_applied: What the data card says of a corpus that was made without it.
        limits: What the data card tells its readers to beware of, where it was applied.
        files: The files that a section names, which are part of what a corpus is made from.
        had_work: Whether settings, as curation.json keeps them, gave it anything to do.

    """

    rules: Callable[[Any], Sequence[Rule]]
    behind_duplicates: bool
    summary: str
    not_applied: str
    limits: str | None = None
    files: Callable[[Any], list[str]] = _no_files
    had_work: Callable[[Any], bool] = _has_settings


def kept(text: str, **notes: Any) -> Judgement:
    """Passed, unchanged."""
    return Judgement(text, notes=notes)


def dropped(reason: str, value: float | str | None, threshold: float | str | None) -> Judgement:
    """Dropped for one reason."""
    return Judgement(None, (Finding(reason, value, threshold),))
