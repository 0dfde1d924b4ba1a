"""The interface of a rule: a function of a document's text that passes, changes or drops it, with
the reasons.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a rule dropped or changed a document: one row of the audit.

    `reason`: the name of the measure ("short document", "email"); `value`: what was measured (a
    number, or a word such as a language; never personal data itself); `threshold`: the limit in the
    recipe that it broke.
    """

    reason: str
    value: float | str | None = None
    threshold: float | str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The result of a rule.

    `text`: as the rule leaves it, None where the document is dropped; `findings`: empty where it
    passed unchanged; `notes`: JSON values such as the language; `added`: the text of a further
    document to insert after this one.
    """

    text: str | None
    findings: tuple[Finding, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    added: str | None = None


class Rule(Protocol):
    """A pure function of a text and its document's id.

    It is picklable and cheap to construct, and loads models and lists on first use. A method
    `prepare`, where there is one, loads them before the first document.
    """

    @property
    def name(self) -> str:
        """The rule's name in the funnel, the audit and the data card."""

    def __call__(self, text: str, document: str) -> Judgement:
        """Judge one text; the document's id takes the place of a random number."""


@runtime_checkable
class RuleByLanguage(Rule, Protocol):
    """A rule that judges a text by the language that it is written in; called without one, it takes
    the text for English.
    """

    def in_language(self, text: str, code: str) -> Judgement:
        """Judge one text in the language of one of py3langid's codes."""

    def left_out(self, code: str) -> tuple[str, ...]:
        """The rule's reasons that are not looked for in a language, for want of a limit or list."""


def _no_files(_section: Any) -> list[str]:
    return []


def _has_settings(settings: Any) -> bool:
    return bool(settings)


@dataclass(frozen=True)
class RuleDescription:
    """One key of `corpus.rules`, for the build, the data card and the README.

    Attributes:
        rules: The rules for a section of the recipe, in order; none where it asks for nothing.
        behind_duplicates: Whether they run after the removal of duplicates, or before it.
        summary: What the rule does, for the README's table.
        not_applied: What the data card says of a corpus built without it.
        limits: The known limits that the data card lists where it was applied.
        files: The files that a section names, on which the corpus's cache key depends.
        had_work: Whether a section, as curation.json stores it, asks for anything.

    """

    rules: Callable[[Any], Sequence[Rule]]
    behind_duplicates: bool
    summary: str
    not_applied: str
    limits: str | None = None
    files: Callable[[Any], list[str]] = _no_files
    had_work: Callable[[Any], bool] = _has_settings


def kept(text: str, **notes: Any) -> Judgement:
    """The judgement of a text that passes unchanged."""
    return Judgement(text, notes=notes)


def dropped(reason: str, value: float | str | None, threshold: float | str | None) -> Judgement:
    """The judgement of a document dropped for one reason."""
    return Judgement(None, (Finding(reason, value, threshold),))
