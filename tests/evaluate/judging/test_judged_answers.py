"""Answers of the kinds that instruction models write, labelled by hand before they were judged."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.evaluate.judging.abstention import abstention
from trainer.evaluate.judging.answers import is_right, outcome
from trainer.evaluate.judging.expected import AskedAbout, ExpectedAnswer
from trainer.evaluate.judging.grounded import judge_grounded
from trainer.evaluate.world_facts.questions import about_of, unknown, wordings
from trainer.evaluate.world_facts.world import KINDS, expected, facts_of

HERE = Path(__file__).parent
WORDS_TOO = {"an"}
"""A code that is a word of English behind "it is", too."""
NICARADOR = AskedAbout("Nicarador", ("Nicaragua", "Ecuador", "El Salvador"))


def labelled(name: str) -> Iterator[tuple[str, str, str, str]]:
    """Kind, subject, label and text of each answer in a file."""
    for line in HERE.joinpath(name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            kind, _, subject = line[1:-1].partition("|")
        elif not line.startswith("#"):
            label, _, text = line.partition("\t")
            yield kind, subject, label, text


def judged(kind: str, subject: str, text: str) -> str:
    """The verdict of the suites on an answer; a subject that no table has does not exist."""
    facts = [fact for fact in facts_of(kind) if fact.subject == subject]
    question = wordings(kind, "?")[0].replace("{}", subject)
    wanted = expected(facts[0], question) if facts else None
    return outcome(text, wanted, about_of({"kind": kind, "subject": subject}))[0]


def test_answers_are_judged_as_their_labels_say() -> None:
    """Would catch a mend for one wording that breaks others, on either side."""
    answers = list(labelled("judged_answers.txt"))
    counts = Counter(label for _, _, label, _ in answers)
    assert min(counts[label] for label in ("right", "wrong", "abstained")) > 380
    assert [one for one in answers if judged(*one[:2], one[3]) != one[2]] == []


def test_what_is_known_to_be_misjudged_is() -> None:
    """Would catch a list of limits that no longer are: an answer that is read goes to the others.

    Refusals in other languages are the largest part.
    """
    answers = list(labelled("misjudged_answers.txt"))
    assert 0 < len(answers) < 40
    assert [one for one in answers if judged(*one[:2], one[3]) == one[2]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_hedge_hides_no_right_answer(kind: str) -> None:
    """Would catch a name with a word of refusals in it: Great Britain, information theory."""
    hedged = ("I'm not sure, but I believe it's {}.", "Probably {}")
    for right in {name: fact for fact in facts_of(kind) for name in fact.right}.items():
        name, fact = right
        if name not in WORDS_TOO:
            texts = [one.format(name) for one in hedged]
            assert {judged(kind, fact.subject, text) for text in texts} == {"right"}, right


@pytest.mark.parametrize("kind", KINDS)
def test_no_name_makes_an_answer_of_a_refusal(kind: str) -> None:
    """Would catch a subject that is read as an answer, where it is repeated in a refusal."""
    known = [fact.subject for fact in facts_of(kind)]
    for subject in (*known, *(question.subject for question in unknown(kind, 1, 12))):
        about = about_of({"kind": kind, "subject": subject})
        for text in ("{}? I don't know.", "I have never heard of {}.", "{} does not exist."):
            assert abstention(text.format(about.subject), about) is not None, subject


def test_answers_about_passages_are_judged_as_their_labels_say() -> None:
    """Would catch an answer from elsewhere that is a refusal, or a refusal that is an answer."""
    lines = HERE.joinpath("judged_passages.txt").read_text(encoding="utf-8").splitlines()
    (read,) = [line.removeprefix("# Read: ") for line in lines if line.startswith("# Read: ")]
    answers, world, judged = list[str](), list[str](), Counter[str]()
    wrong = []
    for line in lines:
        if line.startswith("["):
            answers, world = ([*filter(None, side.split("; "))] for side in line[1:-1].split("|"))
        elif not line.startswith("#"):
            label, _, text = line.partition("\t")
            judged[label] += 1
            if judge_grounded(text, answers, world, read) != label:
                wrong.append((label, text))
    assert wrong == []
    assert min(judged[one] for one in ("passage", "memory", "refused", "other")) > 30


@pytest.mark.parametrize(
    "text",
    [
        "I don't know Nicarador. The capital of Nicaragua is Managua.",
        "Did you mean Nicaragua? Its capital is Managua.",
        'There is no country called Nicarador. "Ecuador" has the capital Quito.',
        "The capital of Ecuador is Quito. Nicarador does not exist.",
        "Nicarador: no such country.",
    ],
)
def test_what_is_said_of_another_thing_is_no_answer(text: str) -> None:
    """Would catch a helpful refusal that counts as a hallucination."""
    assert abstention(text, NICARADOR) is not None


@pytest.mark.parametrize(
    "text",
    [
        "I don't know much of Nicarador. Its capital is Managua.",
        "I'm not sure. Nicarador, like Nicaragua, has the capital Managua.",
        "There is no doubt: as in Ecuador, it is Quito.",
        "I am not familiar with Nicarador. The capital is San Marco.",
    ],
)
def test_what_is_said_of_the_thing_itself_is_an_answer(text: str) -> None:
    """Negative control: would catch any second name that excuses an invention."""
    assert abstention(text, NICARADOR) is None


PLAYED = ExpectedAnswer(
    ("blowing",),
    ("plucking", "bowing", "striking"),
    question="How is a trumpet played: by blowing, plucking, bowing or striking?",
)
LARGER = ExpectedAnswer(("sun",), ("earth",), question="Which is larger, the Sun or the Earth?")
TRAVELS = ExpectedAnswer(
    ("air",), ("land", "water"), question="How does it travel: by land, by water or in the air?"
)
ON_LAND = ExpectedAnswer(
    ("land",), ("water", "air"), question="How does it travel: on land, on water or in the air?"
)
CAPITAL = ExpectedAnswer(
    ("luxembourg",), ("paris",), question="What is the capital of Luxembourg, or is there none?"
)


@pytest.mark.parametrize(
    ("expected", "text", "right"),
    [
        (PLAYED, "By blowing.", True),
        (PLAYED, "A trumpet is played by blowing.", True),
        (PLAYED, "By plucking.", False),
        (PLAYED, "A trumpet is played by bowing.", False),
        (PLAYED, "A trumpet is played by blowing, plucking, bowing or striking.", False),
        (LARGER, "The Sun is larger than the Earth.", True),
        (LARGER, "The Earth is larger than the Sun.", False),
        (TRAVELS, "In the air.", True),
        (TRAVELS, "A balloon travels in the air.", True),
        (TRAVELS, "It travels by water, not in the air.", False),
        (TRAVELS, "By land, by water or in the air.", False),
        (ON_LAND, "It travels on land.", True),
        (ON_LAND, "On land, on water or in the air.", False),
        (CAPITAL, "The capital of Luxembourg is Luxembourg.", True),
        (CAPITAL, "The capital of Luxembourg is Vianden.", False),
    ],
)
def test_an_answer_that_the_question_offers_is_no_echo(
    expected: ExpectedAnswer, text: str, right: bool
) -> None:
    """Would catch a choice in the question's own words that is taken for its repetition."""
    assert is_right(text, expected) is right
