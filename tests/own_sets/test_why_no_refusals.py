"""Why no set of refusals is made is said of what is lacking, with a mend that mends it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.honesty.asked import RIGHT, WRONG, question, sampled
from trainer.errors import DataError
from trainer.honesty.refusal_examples import refusal_examples
from trainer.own_sets.making import _check_refusals
from trainer.questions.samples import AnswerSample, SampledQuestion
from trainer.recipe.own_samples import RefusalsSection

SECTION = RefusalsSection(questions=("q.jsonl",))
LEAVING = SECTION.model_copy(update={"wrong": "leave"})
KNOWN = sampled(question(1), RIGHT)
OTHER = sampled(question(2), "It is in Ruva.")
NOT_KNOWN = sampled(question(3), WRONG)
UNKNOWABLE = sampled(question(4, False), WRONG)
CUT = sampled(question(5), "{0} lies in Ruva, which is")
ANYTHING = SampledQuestion(
    replace(question(6), answers=(), verifier="regex", options={"pattern": "(?s).*"}),
    (AnswerSample("7.", True, "wrong", ""),),
)
"""Its verifier takes a refusal for a right text."""


def answer(example: Mapping[str, Any]) -> str:
    return str(example["messages"][-1]["content"])


def short(example: Mapping[str, Any]) -> bool:
    """Drops what is known of the first town alone."""
    return answer(example) != "Town1 lies in Ruva."


def known_alone(example: Mapping[str, Any]) -> bool:
    """Drops each refusal."""
    return "Ruva" in answer(example)


@pytest.mark.parametrize(
    ("asked", "section", "usable", "said", "mend"),
    [
        ([KNOWN, UNKNOWABLE], SECTION, short, "learn only to refuse: of 1 questions", "_length"),
        ([NOT_KNOWN, UNKNOWABLE], SECTION, None, "knows none", "ask easier ones"),
        ([NOT_KNOWN], LEAVING, None, "knows none that it can be shown", "ask easier ones"),
        ([CUT, UNKNOWABLE], SECTION, None, "no right text stands by itself", "refusals.tokens"),
        ([KNOWN, UNKNOWABLE], SECTION, known_alone, "nothing is left to refuse: of 1", "_length"),
        ([KNOWN, OTHER], SECTION, short, "the model knows 2", "ask some that it gets wrong"),
        ([KNOWN, NOT_KNOWN], LEAVING, None, "the 1 that the model gets wrong", "wrong=decline"),
        ([KNOWN, ANYTHING], SECTION, None, "takes no wording", "another verifier"),
        ([KNOWN], SECTION, lambda one: False, "would learn nothing: of 1 questions", "_length"),
    ],
)
def test_the_lacking_side_is_named_and_what_lacks_there(
    asked: list[SampledQuestion],
    section: RefusalsSection,
    usable: Callable[[Mapping[str, Any]], bool] | None,
    said: str,
    mend: str,
) -> None:
    """Would catch sequence_length to be raised where the model knows nothing, and the like."""
    usable = usable or (lambda example: True)
    _, counts = refusal_examples(asked, section, 0, usable)
    with pytest.raises(DataError) as failed:
        _check_refusals(asked, section, counts)
    assert said in str(failed.value) and mend in str(failed.value), failed.value
    assert ("sequence_length" in str(failed.value)) == (mend == "_length")


def test_a_set_of_both_sides_is_left_in_peace() -> None:
    """Negative control: would catch a check that refuses all."""
    both = [KNOWN, UNKNOWABLE]
    _check_refusals(both, SECTION, refusal_examples(both, SECTION, 0)[1])
