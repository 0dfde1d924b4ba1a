"""A refusal for each question, in one of many wordings, all used about equally often.

Which wordings may be used follows from the question: whether it names what it asks about, by which
words it asks, whether anybody knows the answer, whether there is a reason to say, and how short an
answer it wants. What is written must be a refusal to the judge of answers too.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trainer.honesty.question_words import asked_by, named_subject
from trainer.honesty.reasons import as_clause, as_sentence, reasons_of
from trainer.honesty.wordings import wordings
from trainer.questions.question import Question
from trainer.questions.verifiers import verify
from trainer.recipe.own_samples import OwnSamplesSection

FEW_WORDS = 12
"""Of a refusal where the prompt wants a short answer."""

_BRIEF = re.compile(
    r"\b(?:brief(?:ly)?|concise(?:ly)?|(?:short|one-word) (?:answer|reply|response)"
    r"|(?:in|with|at most|than) (?:a few|few|one|a single|two|three|five|\d) words?)\b",
    re.IGNORECASE,
)
_ONE_SENTENCE = re.compile(r"\b(?:one|a single) sentence\b", re.IGNORECASE)
_TWO_SENTENCES = re.compile(r"[.!?] +\S")


@dataclass(frozen=True)
class Refusal:
    """A text that declines a question, and the wording of the sheet that it was made from."""

    text: str
    wording: str

    @property
    def says_why(self) -> bool:
        """Whether it gives a reason."""
        return "reason}" in self.wording.casefold()


def refusals_of(
    questions: Sequence[Question],
    section: OwnSamplesSection,
    seed: int,
    fits: Callable[[Question, int, str], bool] = lambda question, number, text: True,
) -> dict[str, tuple[Refusal, ...]]:
    """Different refusals of each question, as many as it is given times, by `key_of`.

    A wording is used about as often as every other that the questions leave a choice of; which
    question gets which follows from themselves and the seed, not from their order. Of `section`,
    `reasons` says whether a refusal says why, where there is a reason, `wordings` how many of each
    sort there are. There are fewer where the question's verifier takes no more for a refusal, or
    none that `fits` in the place, of those that the question is given for, that has this number.
    """
    wanted = Counter(map(key_of, questions))
    asked = {key_of(question): question for question in questions}
    offered = {name: _offered(question, section) for name, question in asked.items()}
    # Those that leave the least choice go first, so that the others even it out.
    order = sorted(asked, key=lambda name: (len(offered[name]), draw(seed, "order", name), name))
    uses: Counter[str] = Counter()
    found: dict[str, tuple[Refusal, ...]] = {name: () for name in asked}
    for number in range(max(wanted.values(), default=0)):
        for name in order:
            if number >= wanted[name] or len(found[name]) < number:
                continue
            taken = {refusal.wording for refusal in found[name]}
            ranked = sorted(
                (one for one in offered[name] if one.wording not in taken),
                key=lambda one: (uses[one.wording], draw(seed, name, one.wording)),
            )
            fitting = (
                one
                for one in ranked
                if _declines(asked[name], one.text) and fits(asked[name], number, one.text)
            )
            if (refusal := next(fitting, None)) is not None:
                uses[refusal.wording] += 1
                found[name] += (refusal,)
    return found


def has_refusal(
    question: Question,
    section: OwnSamplesSection,
    fits: Callable[[str], bool] = lambda text: True,
) -> bool:
    """Whether there is a wording for it that its verifier takes for a refusal, and that `fits`."""
    return any(
        fits(refusal.text) and _declines(question, refusal.text)
        for refusal in _offered(question, section)
    )


def key_of(question: Question) -> str:
    """What a question is known by in a set: its id and its prompt, as ids may be of two files."""
    return "\0".join((question.id, question.system or "", question.text))


def draw(seed: int, *parts: str) -> bytes:
    """A draw that follows from the seed and these words alone."""
    return hashlib.sha256("\0".join((str(seed), *parts)).encode("utf-8", "replace")).digest()


def _declines(question: Question, text: str) -> bool:
    return verify(question, text).outcome == "declined"


def _offered(question: Question, section: OwnSamplesSection) -> list[Refusal]:
    """What may be said; where the prompt wants few words, the shorter ones, if there are any."""
    offered = list(_explained(question, section.wordings)) if section.reasons else []
    if not offered:
        offered = list(_unexplained(question, section))
    asked = f"{question.system or ''}\n{question.text}"
    if _BRIEF.search(asked):
        offered = [one for one in offered if len(one.text.split()) <= FEW_WORDS] or offered
    if _ONE_SENTENCE.search(asked):
        offered = [one for one in offered if not _TWO_SENTENCES.search(one.text)] or offered
    return offered


def _explained(question: Question, most: int) -> Iterator[Refusal]:
    """Refusals that say why."""
    known = reasons_of(question)
    if not known:
        return
    sentences, clauses = wordings("reason_sentence")[:most], wordings("reason_clause")[:most]
    for number, wording in enumerate((*sentences, *clauses)):
        reason = known[number % len(known)]
        clause = as_clause(reason)
        if clause is None and wording in clauses:
            continue
        text = wording.format(Reason=as_sentence(reason), reason=clause)
        yield Refusal(re.sub(r"([.!?])\.(?=\s|$)", r"\1", text), wording)


def _unexplained(question: Question, section: OwnSamplesSection) -> Iterator[Refusal]:
    """Refusals of what the model does not know, or nobody does."""
    most = section.wordings
    sorts = ["any", "helping"]
    sorts += ["nobody"] if not question.answerable else ["guessing"] if section.reasons else []
    for wording in (line for sort in sorts for line in wordings(sort)[:most]):
        yield Refusal(wording, wording)
    if (subject := named_subject(question)) is not None:
        for wording in wordings("subject")[:most]:
            text = wording.format(subject=subject)
            yield Refusal(text[0].upper() + text[1:], wording)
    if (asked := asked_by(question)) is not None:
        for wording in wordings("asked")[:most]:
            yield Refusal(wording.format(asked=asked), wording)
