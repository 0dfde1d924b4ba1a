"""The held-out questions of the experiment on truth: nothing of them is in the bank."""

import random
from collections import Counter

from launch.experiments.truth.held_out_questions import HELD_OUT, held_out_questions
from launch.experiments.truth.held_out_suite import SUITE
from launch.experiments.truth.letter_chains import chained_word, letter_chains
from trainer.evaluate.judging.plain_words import plain_words
from trainer.evaluate.respondent import WrittenAnswer
from trainer.evaluate.suites.suite import ItemRecord, SuiteContext
from trainer.evaluate.world_facts.invented import exists
from trainer.questions.bank import bank_questions, draw
from trainer.questions.bank.sections import BankSection, sections_of
from trainer.questions.verifiers import check_fits, verify

HELD = sections_of(HELD_OUT)
BANK = {one.kind: one for file in sections_of(draw.HERE).values() for one in file}


def subjects(section: BankSection) -> set[str]:
    """What its facts are about, as texts are compared."""
    return {plain_words(fact.subject) for fact in section.facts}


def test_there_are_five_hundred_of_each() -> None:
    """Would catch a file that is no longer read: the goals ask for 500 items a figure."""
    questions = held_out_questions()
    known = sum(one.answerable for one in questions)
    assert known >= 500 and len(questions) - known >= 500
    assert len({one.id for one in questions}) == len({one.text for one in questions})
    assert len({one.id for one in questions}) == len(questions)


def test_no_question_is_in_the_bank() -> None:
    """Would catch a cure that is asked what it was trained on, word for word or by its subject.

    Counted first: who words the bank is not to read the held-out questions in a failure.
    """
    texts = {one.text for one in bank_questions()}
    shared = {"texts": sum(one.text in texts for one in held_out_questions())}
    for section in HELD["new_items"]:
        known = BANK[section.kind]
        shared[f"subjects of {section.kind}"] = len(subjects(section) & subjects(known))
        wordings = set(section.wordings) & set(known.wordings)
        shared[f"wordings of {section.kind}"] = len(wordings)
    trained = {one for section in BANK.values() for one in section.questions}
    never = [one for section in HELD["unknowable"] for one in section.questions]
    shared["unanswerable"] = len(trained.intersection(never))
    assert {name: count for name, count in shared.items() if count} == {}


def test_new_kinds_are_new() -> None:
    """Would catch a kind held out by name alone, whose wordings or subjects the bank has."""
    for section in HELD["new_kinds"]:
        assert section.kind not in BANK
        for known in BANK.values():
            assert not set(section.wordings) & set(known.wordings), (section.kind, known.kind)
    shared = [
        (kind, section.kind, subjects(section) & subjects(known))
        for section in HELD["new_kinds"]
        for kind, known in BANK.items()
    ]
    # The same animal may be asked about, for something else; no kind as a whole may be.
    assert all(len(both) < 8 for *_, both in shared), shared


def test_invented_subjects_are_no_training_names_and_do_not_exist() -> None:
    """Would catch a made-up name that a model was trained to decline, and one that is real."""
    questions = held_out_questions()
    names = {one.options["subject"] for one in questions if not one.answerable and one.options}
    assert len(names) > 450
    trained = {one.options.get("subject") for one in bank_questions() if not one.answerable}
    real = set().union(*(subjects(one) for one in BANK.values()))
    assert not names & trained
    assert [name for name in names if plain_words(name) in real or exists(name)] == []


def test_chains_of_letters_make_no_word_that_they_read() -> None:
    """Would catch the look-up left out: chains of few names give these names back."""
    named = ["glimorafe", "glimodafe", "glimofex"]
    chains, draws = letter_chains(named), random.Random(0)
    without = {chained_word(chains, frozenset(), draws) for _ in range(200)}
    assert without & set(named)
    assert not {chained_word(chains, frozenset(named), draws) for _ in range(200)} & set(named)


def test_each_question_fits_its_verifier_and_its_answer_is_right() -> None:
    """Would catch a key that the judge does not find, and a wording that turns it over."""
    for question in held_out_questions():
        check_fits(question)
        for answer in question.answers:
            assert verify(question, f"{answer}.").outcome == "right", (question.text, answer)
        assert verify(question, "I don't know.").outcome == "declined", question.text


def test_half_of_the_questions_allow_not_to_know() -> None:
    """Would catch a sort of questions that is asked in one manner alone."""
    items = SUITE.items(SuiteContext(respondent=None))  # type: ignore[arg-type]
    told = Counter((item.shown["sort"], item.shown["answerable"]) for item in items)
    half = Counter(
        (item.shown["sort"], item.shown["answerable"]) for item in items if item.shown["told"]
    )
    for sort, count in told.items():
        assert 0.3 < half[sort] / count < 0.7, (sort, half[sort], count)


def test_a_model_that_answers_all_and_one_that_declines_all_are_told_apart() -> None:
    """Would catch figures that count the wrong half of the questions."""
    context = SuiteContext(respondent=None)  # type: ignore[arg-type]
    found = {text: _figures(text, context) for text in ("I don't know.", "Paris")}
    declining, talking = found["I don't know."], found["Paris"]
    assert declining["hallucination"] == 0 and declining["over_refusal"] == 1
    assert talking["hallucination"] == 1 and talking["over_refusal"] == 0
    assert 0 < talking["accuracy"] < 0.05 and declining["accuracy"] == 0


def _figures(text: str, context: SuiteContext) -> dict[str, float]:
    records: list[ItemRecord] = [
        {**item.shown, **SUITE.judge(item, [WrittenAnswer(text, True, (), ())])}
        for item in SUITE.items(context)
    ]
    kinds = SUITE.figures(context)
    rows = {name: [kind.row(one) for one in records] for name, kind in kinds.items()}
    counted = {name: [row[0] for row in found if row is not None] for name, found in rows.items()}
    assert all(len(counted[name]) >= 500 for name in ("hallucination", "accuracy", "over_refusal"))
    return {name: sum(found) / len(found) for name, found in counted.items()}
