"""What of a question's own words a refusal may take up: its subject, and the words it asks by."""

import re

from trainer.questions.question import Question

LONGEST_SUBJECT = 6
"""Words of what is named in a refusal; more of them are a title or a question of their own."""

_VERB = (
    r"(?:is|are|was|were|do|does|did|has|have|had|can|will|would|could|should|must"
    r"|means|makes|comes|lives|gives|made|gave|won|wrote|invented|discovered)"
)
_ASKED = re.compile(
    r"(?:^|[:,] )(?P<asked>who (?!is\b|are\b|was\b|were\b)|when |where |why "
    r"|how (?:many|much|often|old|long|far|tall|high|big|large) "
    r"|(?:(?:in|on|at|of|from|to|by|for|with) )?"
    rf"(?:whom |(?:which|what) (?!{_VERB}\b|of\b)[a-z]+ (?={_VERB}\b)))",
    re.IGNORECASE,
)
"""The words that a question begins with, where a sentence may end in them."""


def named_subject(question: Question) -> str | None:
    """What the question asks about, as a sentence may name it; None where it cannot be told how.

    A name, or a noun with its article or quotation marks; not a bare noun, which may want one.
    """
    subject = question.options.get("subject")
    if not isinstance(subject, str) or not 0 < len(subject.split()) <= LONGEST_SUBJECT:
        return None
    held = re.search(
        rf"(?:\b(?P<article>the|an?) )?(?P<mark>[\"\u201c]?)(?P<name>{re.escape(subject)})"
        r"(?P<end>[\"\u201d]?)(?!\w)",
        question.text,
        re.IGNORECASE,
    )
    if held is None:
        return None
    named = held["name"]
    if held["mark"] and held["end"]:
        return f'"{subject}"'
    if held["article"]:
        return f"{held['article'].lower()} {named}"
    if re.match(r"(?:the|an?) ", named, re.IGNORECASE):
        return named[0].lower() + named[1:]
    return subject if subject[0].isupper() else None


def asked_by(question: Question) -> str | None:
    """The words that a question asks by, as may follow "I don't know": "when", "which singer"."""
    held = _ASKED.search(question.text)
    return None if held is None else held["asked"].strip().lower()
