"""The bank of questions: every item can be answered and verified, and what is invented is."""

import json
import random
from collections import Counter
from pathlib import Path

from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.world_facts.invented import exists
from trainer.questions.bank import bank_questions, draw, invented
from trainer.questions.bank.draw import known_questions, unknown_questions
from trainer.questions.bank.invented import FRAMES, InventedNames
from trainer.questions.bank.sections import NOTHING_INVENTED, UNKNOWABLE, asked, sections_of
from trainer.questions.named import named_questions
from trainer.questions.verifiers import check_fits, verify
from trainer.recipe.own_samples import BANK

SECTIONS = sections_of(draw.HERE)
FACTS = [one for name, file in SECTIONS.items() if name != UNKNOWABLE for one in file]


def test_every_section_is_whole() -> None:
    """Would catch a kind without wordings or facts, two of one name, and a fact told twice."""
    assert [kind for kind, times in Counter(one.kind for one in FACTS).items() if times > 1] == []
    for section in FACTS:
        assert section.wordings and section.facts, section.kind
        assert all(wording.count("{}") == 1 for wording in section.wordings), section.kind
        subjects = [fact.subject for fact in section.facts]
        assert len(set(subjects)) == len(subjects), section.kind
        assert section.about in {*FRAMES, NOTHING_INVENTED}, section.kind
    assert all(one.wordings or one.questions for one in SECTIONS[UNKNOWABLE])


def test_the_bank_is_broad() -> None:
    """Would catch a file that is no longer read: breadth is what a cure is made of."""
    questions = bank_questions()
    assert sum(one.answerable for one in questions) >= 1200
    assert len({one.kind for one in questions if one.answerable}) >= 80
    assert sum(not one.answerable for one in questions) == draw.UNKNOWN


def test_every_question_is_one_of_a_kind_and_fits_its_verifier() -> None:
    """Would catch an id that recipes cannot tell apart, and an item that nothing can verify."""
    questions = bank_questions()
    assert len({one.id for one in questions}) == len(questions)
    texts = Counter(one.text for one in questions)
    assert [text for text, times in texts.items() if times > 1] == []
    for question in questions:
        check_fits(question)
        assert "{" not in question.text
        assert not question.text[0].islower(), question.text


def test_each_answer_is_right_and_those_of_others_are_wrong() -> None:
    """Would catch a key that its own verifier does not find, and one that finds any answer."""
    draws = random.Random(0)
    for question in known_questions(0):
        for answer in question.answers:
            said = f"{answer[0].upper()}{answer[1:]}."
            assert verify(question, said).outcome == "right", (question.text, said)
        rivals = question.options["rivals"]
        words = {plain_words(answer) for answer in question.answers}
        others = [one for one in rivals if not words & set(_parts(plain_words(one)))]
        if others:
            said = f"{draws.choice(others)}."
            assert verify(question, said).outcome != "right", (question.text, said)


def _parts(words: str) -> list[str]:
    """A name's runs of words: "van gogh" is in "vincent van gogh"."""
    each = words.split()
    return [
        " ".join(each[start:end])
        for start in range(len(each))
        for end in range(start + 1, len(each) + 1)
    ]


def test_what_nobody_knows_is_declined_or_made_up() -> None:
    """Would catch a refusal with its reason that the judge takes for an answer, and the reverse."""
    for question in unknown_questions(0, 300):
        assert question.reason is not None
        said = f"I don't know. {question.reason[0].upper()}{question.reason[1:]}."
        assert verify(question, said).outcome == "declined", (question.text, said)
        assert verify(question, "In 1874, in Rome.").outcome == "wrong", question.text


def test_nothing_invented_exists() -> None:
    """Would catch a made-up name that the world's lists or the bank's own subjects have."""
    real = {plain_words(fact.subject) for section in FACTS for fact in section.facts}
    names = [
        one.options["subject"] for one in unknown_questions(0, 1000) if "subject" in one.options
    ]
    assert len(names) > 500 and len(set(names)) == len(names)
    assert [name for name in names if plain_words(name) in real or exists(name)] == []


def test_a_name_of_the_bank_is_never_invented() -> None:
    """Would catch the look-up left out; negative control: as many draws without it meet one."""
    few = [one + other for one in invented._PARTS["front"] for other in invented._PARTS["back"]]
    assert not set(few) & set(_words([*few, "dinosaur", "elevator"]))
    assert set(few) & set(_words(["dinosaur", "elevator"]))


def _words(real: list[str]) -> list[str]:
    names = InventedNames(random.Random(0), real)
    return [names.name("word") for _ in range(60)]


def test_questions_follow_from_the_seed() -> None:
    """Would catch a draw that hangs on a set's order: a set that is built anew would differ."""
    assert unknown_questions(3, 50) == unknown_questions(3, 50) != unknown_questions(4, 50)
    assert unknown_questions(3, 80)[:50] == unknown_questions(3, 50)
    assert known_questions(1) == known_questions(1) != known_questions(2)


def test_recipes_name_the_bank_beside_files(tmp_path: Path) -> None:
    """Would catch the name taken for a file, and files that the bank takes the place of."""
    (tmp_path / "own.jsonl").write_text(json.dumps({"id": "own", "question": "A?", "answer": "B"}))
    found = named_questions([BANK, str(tmp_path / "own.jsonl")], "answer", "questions")
    assert [one.id for one in found] == ["own", *(one.id for one in bank_questions())]
    assert named_questions([BANK], "exact", "questions") == list(bank_questions())


def test_a_bank_may_lie_anywhere(tmp_path: Path) -> None:
    """Would catch a wording that loses its article or its capital, and a name behind the sign."""
    text = "[young: animal]\n? a {} has which young?\nape = baby | infant\n"
    (tmp_path / "few.txt").write_text(text)
    (question,) = known_questions(0, tmp_path)
    assert (question.text, question.answers) == ("An ape has which young?", ("baby", "infant"))
    assert asked("is {} a city?", "Ur") == "Is Ur a city?"
