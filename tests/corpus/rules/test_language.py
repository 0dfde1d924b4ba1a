"""The language of a document is told, noted, and decides."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.corpus.rules.language import LOOKED_AT, Language, _model, _samples, find_language
from trainer.corpus.rules.rule import Finding, Judgement
from trainer.errors import RecipeError
from trainer.recipe.curation import LanguageRule

ENGLISH = (
    "The committee met on Thursday to discuss whether the bridge over the river should be closed "
    "for repairs, and decided that it had better wait until the summer."
)
GERMAN = (
    "Der Ausschuss hat am Donnerstag darüber beraten, ob die Brücke über den Fluss wegen der "
    "Reparaturen geschlossen werden soll, und beschlossen, bis zum Sommer zu warten."
)
OTHERS = {
    "de": GERMAN,
    "fr": "Le comité s'est réuni jeudi pour savoir si le pont sur la rivière devait être fermé.",
    "es": "El comité se reunió el jueves para decidir si el puente sobre el río debía cerrarse.",
    "nl": "De commissie besprak donderdag of de brug over de rivier gesloten moet worden.",
    "ru": "Комитет собрался в четверг, чтобы обсудить, следует ли закрыть мост через реку.",
    "zh": "委员会星期四开会讨论是否应该关闭河上的桥进行维修，并决定等到夏天再说。",  # noqa: RUF001
    "ja": "委員会は木曜日に、川にかかる橋を修理のために閉鎖すべきかどうかを話し合いました。",
    "ar": "اجتمعت اللجنة يوم الخميس لمناقشة ما إذا كان ينبغي إغلاق الجسر فوق النهر.",
}


def test_what_is_kept_has_its_language_noted() -> None:
    """Would catch notes that the data card's histogram needs being lost."""
    outcome = Language(LanguageRule())(ENGLISH, "a document")
    assert outcome.text == ENGLISH
    assert outcome.findings == ()
    assert outcome.notes["language"] == "en"
    assert 0.9 < outcome.notes["language_score"] <= 1


@pytest.mark.parametrize("code", OTHERS)
def test_other_languages_are_dropped_and_named(code: str) -> None:
    """Would catch a foreign document that is kept, or put down to another language."""
    outcome = Language(LanguageRule())(OTHERS[code], "a document")
    assert outcome.text is None
    (finding,) = outcome.findings
    found, score = str(finding.value).split()
    assert (finding.reason, found, finding.threshold) == ("language", code, "en")
    assert 0.5 < float(score) <= 1
    # Negative control: what drops it is what the recipe keeps.
    assert Language(LanguageRule(keep=("en", code)))(OTHERS[code], "").text is not None


PARTS = {
    "yue": ("佢哋今日唔得閒，聽日先至嚟睇你。", "zh"),  # noqa: RUF001
    "ary": ("كيفاش نقدر نمشي للمدينة؟ بغيت نشوف الدار ديالي", "ar"),
    "nn": ("Eg veit ikkje kva dei vil gjera med brua, men ho er stengd heile sommaren.", "no"),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_language_keeps_those_that_are_part_of_it(part: str) -> None:
    """Would catch Chinese in traditional letters dropped, of which the model takes every third page
    for Cantonese; the part keeps its name, and does not keep the whole.
    """
    text, whole = PARTS[part]
    outcome = Language(LanguageRule(keep=(whole,)))(text, "")
    assert (outcome.text, outcome.notes["language"]) == (text, part)
    assert Language(LanguageRule(keep=("en",)))(text, "").text is None
    if whole in OTHERS:
        assert Language(LanguageRule(keep=(part,)))(OTHERS[whole], "").text is None


def test_the_parts_of_a_language_add_up() -> None:
    """Would catch a text that is surely Chinese dropped for a doubt about which."""
    text = "委員會星期四開會討論是否應該關閉河上的橋進行維修，並決定等到夏天再說。"  # noqa: RUF001
    alone = dict(_model().rank(text))
    assert alone["zh"] < 0.9 < alone["zh"] + alone["yue"] + alone["wuu"]
    assert Language(LanguageRule(keep=("zh",), score=0.9))(text, "").text == text


def test_an_unsure_guess_is_dropped_for_its_score() -> None:
    """Would catch the least score being ignored, or shown as if it had been reached."""
    text = "OK"
    code, probability = find_language(text)
    rule = Language(LanguageRule(keep=(code,), score=probability + 1e-6))
    (finding,) = rule(text, "").findings
    assert finding.threshold == rule.section.score
    assert float(str(finding.value).split()[1]) < rule.section.score
    assert Language(LanguageRule(keep=(code,), score=probability))(text, "").text == text


@pytest.mark.parametrize("text", ["", " \n", "123 456.7", "!!! ---", "٣٤٥", "\x00"])
def test_text_without_letters_has_no_language(text: str) -> None:
    """Would catch the model's guess on nothing: it takes the empty text for Serbian."""
    assert Language(LanguageRule())(text, "") == Judgement(
        None, (Finding("language", "zxx 1.00", "en"),)
    )


def test_a_heading_does_not_speak_for_a_long_document() -> None:
    """Would catch only the beginning being looked at."""
    document = ENGLISH * (LOOKED_AT // 4 // len(ENGLISH) + 1) + GERMAN * 400
    assert find_language(document)[0] == "de"
    assert find_language(document[: LOOKED_AT // 4])[0] == "en"


def test_a_long_document_costs_no_more() -> None:
    """Would catch the whole of a long document going through the model, byte by byte."""
    looked_at = [len(text) for text in map(_samples, (GERMAN, GERMAN * 1000))]
    assert looked_at[0] == len(GERMAN)
    assert LOOKED_AT <= looked_at[1] < LOOKED_AT + 10


@pytest.mark.parametrize(("wrong", "near"), [("EN", "en"), ("eng", "en"), ("dee", "de")])
def test_an_unknown_code_is_refused_with_the_nearest(wrong: str, near: str) -> None:
    """Would catch a typing error that drops the whole corpus."""
    with pytest.raises(RecipeError, match=rf"corpus\.rules\.language\.keep.*'{wrong}'.*\b{near}\b"):
        Language(LanguageRule(keep=("en", wrong)))


def test_no_language_at_all_is_refused() -> None:
    """Would catch an empty list that drops the whole corpus."""
    with pytest.raises(RecipeError, match="names no language"):
        Language(LanguageRule(keep=()))


@given(st.text(st.characters(exclude_categories=())))
@settings(max_examples=200, deadline=None)
def test_any_text_is_judged(text: str) -> None:
    """Would catch a crash on odd text, lone surrogates among it."""
    outcome = Language(LanguageRule())(text, "")
    assert outcome.text == text or outcome.findings[0].reason == "language"


def test_it_travels_to_another_process() -> None:
    """Would catch a rule that takes its model of 40 MB along to each worker."""
    rule = Language(LanguageRule())
    rule(ENGLISH, "")
    assert len(pickle.dumps(rule)) < 1000
    assert pickle.loads(pickle.dumps(rule)) == rule
