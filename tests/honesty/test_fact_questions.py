"""What a corpus states becomes questions that a model's texts are checked by."""

import pytest

from trainer.evaluate.given_text import GivenText
from trainer.honesty.fact_questions import fact_questions
from trainer.questions.verifiers import check_fits, verify

TOWNS = ["Orlo", "Keld", "Sorn", "Bruma", "Tavik"]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> GivenText:
    """A text that states facts of several kinds, and one of a kind that makes no question."""
    folder = tmp_path_factory.mktemp("facts")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LYCEUM_CACHE", str(folder / "cache"))
        lines = [f"The capital of {town}land is {town}." for town in TOWNS]
        lines += [f"{town} was founded in 17{number}2." for number, town in enumerate(TOWNS)]
        lines += ["Anabasis was written by Anna Bo.", "Anabasis is a novel."]
        lines += ["The river of Orlo is Velda."]
        (folder / "own.txt").write_text("\n\n".join(lines))
        yield GivenText([str(folder / "own.txt")])


def test_facts_become_questions_with_their_answer_and_rivals(own: GivenText) -> None:
    """Would catch a question without its answer, and a true answer among the rivals."""
    asked = {one.text: one for one in fact_questions(own, 0)}
    capital = asked["What is the capital of Orloland?"]
    assert capital.answers == ("Orlo",) and capital.kind == "corpus: capital"
    assert set(capital.options["rivals"]) == set(TOWNS) - {"Orlo"}
    assert asked["In which year was Keld founded?"].answers == ("1712",)
    assert asked["By whom was Anabasis written?"].answers == ("Anna Bo",)
    assert asked["What is the river of Orlo?"].answers == ("Velda",)
    assert len(asked) == 12 and not any("novel" in one.answers for one in asked.values())
    for one in asked.values():
        check_fits(one)
        assert verify(one, f"It is {one.answers[0]}.").outcome == "right"
    assert verify(capital, "The capital of Orloland is Keld.").outcome == "wrong"


def test_questions_follow_from_the_seed_and_are_of_all_kinds(own: GivenText) -> None:
    """Would catch draws that differ between ranks, and a limit that one kind fills."""
    few = fact_questions(own, 1, most=6)
    assert few == fact_questions(own, 1, most=6) and len(few) == 6
    assert {one.kind for one in few} == {one.kind for one in fact_questions(own, 1)}
