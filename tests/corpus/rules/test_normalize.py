"""Normalization mends what is broken, says what it did, and leaves the rest alone."""

import pickle
import unicodedata
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer.corpus.rules.normalize import Normalize
from trainer.corpus.rules.rule import Finding, Judgement
from trainer.recipe.curation import NormalizeRule

FORMS = st.sampled_from(["NFC", "NFKC", "none"])


def normalized(
    text: str, unicode: Literal["NFC", "NFKC", "none"] = "NFC", mend: bool = True
) -> Judgement:
    return Normalize(NormalizeRule(unicode=unicode, mend_mojibake=mend))(text, "a document")


def reasons(outcome: Judgement) -> list[str]:
    return [finding.reason for finding in outcome.findings]


@pytest.mark.parametrize(
    ("text", "mended", "reason"),
    [
        ("The cafÃ© is shut.", "The café is shut.", "mojibake mended"),
        ("It isnâ€™t here.", "It isn’t here.", "mojibake mended"),  # noqa: RUF001
        ("one\r\ntwo\rthree\ffour\u2028five", "one\ntwo\nthree\nfour\nfive", "line ends"),
        ("bell\x07 and \x1b[31mred\x1b[0m", "bell and red", "control characters removed"),
        ("\ufefffirst", "first", "control characters removed"),
        ("cafe\u0301", "café", "characters normalized"),
        ("one  \ntwo\t\n\nthree\u00a0", "one\ntwo\n\nthree", "white space at line ends"),
    ],
)
def test_each_fault_is_mended_and_named(text: str, mended: str, reason: str) -> None:
    """Would catch a step left out, done by another step, or not told to the audit."""
    outcome = normalized(text)
    assert outcome.text == mended
    assert reasons(outcome) == [reason]


@pytest.mark.parametrize(
    "text",
    [
        "“Curly” quotes – and dashes… are ‘right’.",  # noqa: RUF001
        "Write &lt;b&gt; for bold; &amp; stands for &.",
        "Crème brûlée, naïve façade, Ærøskøbing, 1 000 €",
        "日本語の文章です。ｶﾀｶﾅ ＡＢＣ",  # noqa: RUF001
        "Привет, мир. مرحبا بالعالم. שלום",
        "ﬁnd the ligature; x² is not x2",
        "a family: 👩\u200d👩\u200d👧",
        "plain ASCII\n\n    indented\ttab",
    ],
)
def test_sound_text_is_left_alone(text: str) -> None:
    """Would catch ftfy's other habits: uncurled quotes, unescaped HTML, folded widths."""
    assert normalized(text) == Judgement(text)


def test_nfkc_folds_what_nfc_keeps() -> None:
    """Would catch the recipe's form being ignored."""
    text = "ﬁnd x² ＡＢＣ"  # noqa: RUF001
    assert normalized(text).text == text
    assert normalized(text, "NFKC").text == "find x2 ABC"
    assert normalized("cafe\u0301", "none").text == "cafe\u0301"


def test_mending_can_be_turned_off() -> None:
    """Would catch `mend_mojibake: false` that mends all the same, or turns off too much."""
    outcome = normalized("cafÃ©\x07\r\ntwo ", mend=False)
    assert outcome.text == "cafÃ©\x07\ntwo"
    assert reasons(outcome) == ["line ends", "white space at line ends"]


def test_counts_are_what_changed() -> None:
    """Would catch a value of the audit that counts something else."""
    outcome = normalized("cafÃ©\nsound\nnaÃ¯ve\r\n\x00\x01\x02x  \n")
    assert outcome.findings == (
        Finding("mojibake mended", 2),
        Finding("line ends", 1),
        Finding("control characters removed", 3),
        Finding("white space at line ends", 2),
    )


@pytest.mark.parametrize("text", ["", "\n \t", "\x00\x01\ufeff", "\u2028\r\n\u00a0"])
def test_nothing_but_white_space_is_dropped(text: str) -> None:
    """Would catch an empty document going on."""
    assert normalized(text) == Judgement(None, (Finding("no text"),))


@pytest.mark.parametrize("text", ["a\ud800b", "\udcff", "é\ude00"])
def test_lone_surrogates_are_dropped(text: str) -> None:
    """Would catch a text that fails as soon as it is written."""
    assert normalized(text) == Judgement(None, (Finding("not Unicode"),))


@example("a\r", "NFC", True)
@example("x\u0344 \u1fcf", "NFKC", False)
@given(st.text(st.characters(exclude_categories=())), FORMS, st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_text_comes_out_whole_or_is_dropped_with_a_reason(
    text: str, form: Literal["NFC", "NFKC", "none"], mend: bool
) -> None:
    """Would catch a crash on odd text, a change without a finding, and a fault left behind."""
    outcome = normalized(text, form, mend)
    if outcome.text is None:
        assert reasons(outcome)[0] in ("no text", "not Unicode")
        return
    assert (outcome.text != text) == bool(outcome.findings)
    assert outcome.text.encode().strip()
    assert form == "none" or unicodedata.is_normalized(form, outcome.text)
    assert all(line == line.rstrip() for line in outcome.text.split("\n"))
    assert not set("\r\v\f\x85\u2028\u2029") & set(outcome.text)
    if mend:
        controls = {letter for letter in outcome.text if unicodedata.category(letter) == "Cc"}
        assert controls <= {"\t", "\n"}


@given(st.text(st.characters(max_codepoint=0x7F)))
@settings(max_examples=400, deadline=None)
def test_the_fast_path_decides_as_the_slow_one(text: str) -> None:
    """Would catch the short cut for clean ASCII passing a fault that the full chain mends."""
    rule = Normalize(NormalizeRule())
    assert rule(text, "") == (rule._mended(text) if text.strip() else rule(text, ""))
    assert (rule(text, "").text == text) or rule(text, "").findings


def test_it_travels_to_another_process() -> None:
    """Would catch a rule that a worker cannot be given."""
    rule = Normalize(NormalizeRule())
    rule("cafÃ©", "")
    assert pickle.loads(pickle.dumps(rule)) == rule
