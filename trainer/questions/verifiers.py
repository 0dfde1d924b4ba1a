"""Whether a text is right in answer to a question, declines it, or is wrong.

A text that abstains (`trainer.evaluate.judging.abstention`) is declined, unless it is itself the
right answer, whole. Where nobody can know, declining is what is right to do: the outcome stays
"declined", and anything else is wrong. A text without a word is wrong as well, unless it is the
right answer: to say nothing must not pay, or a policy learns to.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from trainer.errors import DataError
from trainer.questions.choices import check_choice, is_a_choice_alone, verify_choice
from trainer.questions.exactly import check_exact, verify_exact
from trainer.questions.judged import abstains, check_answer, verify_answer
from trainer.questions.numbers import check_number, verify_number
from trainer.questions.patterns import check_regex, verify_regex
from trainer.questions.question import Question
from trainer.questions.schemas import check_json_schema, is_a_plain_value, verify_json_schema
from trainer.questions.verdict import Verdict as Verdict
from trainer.recipe.questions import VerifierName as VerifierName

_NO_WORD = re.compile(r"\W*")
"""Nothing, or marks alone, as of JSON that was cut."""


@dataclass(frozen=True)
class _Verifier:
    """How one kind of key is verified.

    `reads`: the options that it reads; `keyed`: whether its key are the answers, not an option;
    `whole`: whether the text as it stands is the answer, so that one that abstains may be right.
    """

    verify: Callable[[Question, str], Verdict]
    check: Callable[[Question], None]
    reads: frozenset[str]
    keyed: bool = True
    whole: Callable[[Question, str, Verdict], bool] = lambda question, text, verdict: False


def _is_right(question: Question, text: str, verdict: Verdict) -> bool:
    return verdict.outcome == "right"


def _is_right_whole(question: Question, text: str, verdict: Verdict) -> bool:
    return question.options.get("match") != "search" and verdict.outcome == "right"


VERIFIERS: dict[VerifierName, _Verifier] = {
    "answer": _Verifier(
        *(verify_answer, check_answer, frozenset({"rivals", "form", "subject", "others"})),
        # The judge looks for abstention itself, behind the bare answer.
        whole=lambda question, text, verdict: True,
    ),
    "exact": _Verifier(
        *(verify_exact, check_exact, frozenset({"case_sensitive"})),
        whole=_is_right,
    ),
    "number": _Verifier(verify_number, check_number, frozenset({"tolerance"})),
    "choice": _Verifier(
        *(verify_choice, check_choice, frozenset({"choices"})),
        whole=lambda question, text, verdict: is_a_choice_alone(question, text) is not None,
    ),
    "regex": _Verifier(
        *(verify_regex, check_regex, frozenset({"pattern", "match", "ignore_case"})),
        keyed=False,
        whole=_is_right_whole,
    ),
    "json_schema": _Verifier(
        *(verify_json_schema, check_json_schema, frozenset({"schema"})),
        keyed=False,
        whole=lambda question, text, verdict: verdict.outcome == "right" or is_a_plain_value(text),
    ),
}
OPTIONS = frozenset().union(*(one.reads for one in VERIFIERS.values()))
"""The keys of an item that some verifier reads."""


def verify(question: Question, text: str) -> Verdict:
    """What a text comes to as an answer to a question that fits its verifier (`check_fits`)."""
    silent = _NO_WORD.fullmatch(text) is not None
    if not question.answerable:
        if silent:
            return Verdict("wrong", "says nothing")
        if abstains(question, text):
            return Verdict("declined", "abstains, and nobody can know")
        return Verdict("wrong", "answers what nobody can know")
    verifier = VERIFIERS[question.verifier]
    verdict = verifier.verify(question, text)
    if silent:
        return verdict if verdict.outcome == "right" else Verdict("wrong", "says nothing")
    if not verifier.whole(question, text, verdict) and abstains(question, text):
        return Verdict("declined", "abstains")
    return verdict


def check_fits(question: Question) -> None:
    """Raise DataError where the question's verifier does not fit it, naming where it was read."""
    name = question.verifier
    verifier = VERIFIERS.get(name) if isinstance(name, str) else None
    if verifier is None:
        known = ", ".join(VERIFIERS)
        raise DataError(f"{question.named}: the verifier {name!r} is none of {known}: mend it")
    if not question.text.strip():
        raise DataError(f"{question.named}: the question is empty: leave the item out")
    if any(not answer.strip() for answer in question.answers):
        raise DataError(
            f'{question.named}: an answer is empty; where nobody can know, write "answer": null'
        )
    for key in ("rivals", "others"):
        held = question.options.get(key, ())
        if not isinstance(held, list | tuple) or not all(isinstance(one, str) for one in held):
            raise DataError(f'{question.named}: "{key}" is no list of texts')
    for key in ("case_sensitive", "ignore_case"):
        if not isinstance(question.options.get(key, False), bool):
            raise DataError(f'{question.named}: "{key}" is neither true nor false')
    for key in ("subject", "form"):
        if not isinstance(question.options.get(key, ""), str):
            raise DataError(f'{question.named}: "{key}" is no string')
    if not question.answerable and (verifier.keyed or not question.options):
        return  # Nobody can know: any verifier does.
    if verifier.keyed and not question.answers:
        key = next(iter(question.options.keys() & {"pattern", "schema"}))
        raise DataError(
            f'{question.named}: "{key}" is no key for verifier {name}: set its verifier to'
            f" {'regex' if key == 'pattern' else 'json_schema'}, or give an answer"
        )
    verifier.check(question)
