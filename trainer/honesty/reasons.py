"""Why a question is declined, in words that may be said: its own, or what follows from its text."""

import re

from trainer.honesty.question_words import named_subject
from trainer.honesty.wordings import wordings
from trainer.questions.question import Question

_PRIVATE = re.compile(
    r"\b(?:my|mine)\b|\b(?:am|was|do|did|have|had|will|should) I\b|\bI (?:am|was|did|had|have)\b",
)
_FUTURE = re.compile(
    r"\bwill\b|\b(?:next|coming) (?:day|week|month|year|decade|century)\b|\btomorrow\b"
    r"|\bfrom (?:now|today)\b",
    re.IGNORECASE,
)
_STAYS_CAPITAL = re.compile(r"I\b|[^A-Z]")
_LOWERED = re.compile(
    r"(?:It|This|That|There|These|They|The|A|An|No|Nobody|Nothing|None|Only|We|You|Your|My|Such)\b"
)


def reasons_of(question: Question) -> tuple[str, ...]:
    """The reasons that may be said, as clauses without a full stop; () where there is none.

    The question's own goes before what follows from its text. Nothing follows where somebody knows
    the answer: that the model does not know it is all that there is to say.
    """
    if question.answerable:
        return ()
    if question.reason and (own := question.reason.strip().rstrip(".")):
        return (_as_named(own, question),)
    if _PRIVATE.search(question.text):
        return wordings("private")
    return wordings("future") if _FUTURE.search(question.text) else ()


def _as_named(reason: str, question: Question) -> str:
    """A reason that ends in the bare subject, with the article that the question gives it."""
    subject, named = question.options.get("subject"), named_subject(question)
    if named is None or not isinstance(subject, str):
        return reason
    return re.sub(
        rf"(?<!the )(?<!an )(?<!a )(?<![\w\"]){re.escape(subject)}$", lambda _: named, reason
    )


def as_sentence(reason: str) -> str:
    """A reason as it begins a sentence."""
    return reason[0].upper() + reason[1:]


def as_clause(reason: str) -> str | None:
    """A reason as it stands within a sentence; None where its first word may be a name."""
    if "." in reason or "?" in reason or "!" in reason:
        return None
    if _STAYS_CAPITAL.match(reason):
        return reason
    return reason[0].lower() + reason[1:] if _LOWERED.match(reason) else None
