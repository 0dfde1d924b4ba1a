"""The quality rules decide what datatrove's filters decide, and say what was measured."""

import ast
import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import load_word_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.corpus.rules.published_filters import (
    DUPLICATE_N_GRAMS,
    FILTERS,
    REASONS,
    TOP_N_GRAMS,
    published,
    published_alone,
)
from tests.corpus.rules.texts import PROSE, TEXTS
from trainer.corpus.rules.quality import quality_rules
from trainer.corpus.rules.quality_measures import MEASURES
from trainer.corpus.rules.rule import Finding, Rule
from trainer.corpus.rules.splitting import words_of
from trainer.recipe.curation import (
    C4Quality,
    FineWebQuality,
    GopherQuality,
    GopherRepetition,
    QualityRules,
)

ANY_TEXT = st.one_of(TEXTS, st.text(st.characters(exclude_categories=())))
SHARES = st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0])
NUMBERS = st.sampled_from([0.0, 0.1, 2.0, 3.5, 9.0])
COUNTS = st.sampled_from([0, 1, 3, 20])
POSITIVE = st.sampled_from([1, 3, 30, 1000])
KINDS = {
    "Share": SHARES,
    "NonNegative": NUMBERS,
    "Count": COUNTS,
    "Positive": POSITIVE,
    "bool": st.booleans(),
}


def rule_of(section: Any) -> Rule:
    names = {
        GopherRepetition: "gopher_repetition",
        GopherQuality: "gopher_quality",
        C4Quality: "c4",
        FineWebQuality: "fineweb",
    }
    chosen = {name: section if type(section) is kind else None for kind, name in names.items()}
    (rule,) = quality_rules(QualityRules(**chosen))
    return rule


def sections(kind: type) -> Any:
    """Any thresholds that the recipe takes, zero often among them."""
    values = {}
    for name, field in kind.model_fields.items():  # type: ignore[attr-defined]
        if field.annotation is bool:
            values[name] = st.booleans()
        elif field.annotation is float:
            values[name] = SHARES if "less" in _limits(field) else NUMBERS
        else:
            values[name] = COUNTS if "ge" in _limits(field) else POSITIVE
    return st.builds(kind, **values)


def _limits(field: Any) -> set[str]:
    kinds = {"Le": "less", "Ge": "ge", "Gt": "gt"}
    return {kinds[type(limit).__name__] for limit in field.metadata}


ANY_SECTION = st.one_of(*(sections(kind) for kind in FILTERS))


def test_the_rules_stand_in_the_papers_order_and_may_be_left_out() -> None:
    """Would catch a rule lost, or one that runs though the recipe leaves it out."""
    names = ["gopher repetition", "gopher quality", "c4", "fineweb"]
    assert [rule.name for rule in quality_rules(QualityRules())] == names
    assert [rule.name for rule in quality_rules(QualityRules(c4=None))] == [*names[:2], names[3]]


def test_prose_passes_every_rule_unchanged() -> None:
    """Would catch thresholds mixed up: the other tests have little that passes."""
    for rule in quality_rules(QualityRules()):
        outcome = rule(PROSE, "a document")
        assert (outcome.text, outcome.findings) == (PROSE, ()), rule.name


@given(TEXTS)
@settings(max_examples=300, deadline=None)
@example("\n")
@example("")
def test_the_recipes_defaults_decide_as_datatroves(text: str) -> None:
    """Would catch a threshold handed to the wrong argument, or a default that is not the paper's.

    C4's terminal punctuation differs on purpose, and the words of Gopher's shares of words, which
    `published_filters` holds.
    """
    for section, library in (
        (GopherRepetition(), GopherRepetitionFilter()),
        (
            GopherQuality(alphabetic_words=0.0, symbols_a_word=1e9),
            GopherQualityFilter(max_non_alpha_words_ratio=0.0, max_symbol_word_ratio=0.0),
        ),
        (C4Quality(), C4QualityFilter(filter_no_terminal_punct=False)),
        (FineWebQuality(), FineWebQualityFilter()),
    ):
        document = Document(text=text, id="")
        result = library.filter(document)
        outcome = rule_of(section)(text, "")
        assert (outcome.text is not None) == (result is True), type(section)
        if result is True:
            assert outcome.text == document.text


@given(ANY_SECTION, ANY_TEXT)
@settings(max_examples=1500, deadline=None)
@example(FineWebQuality(punctuated_lines=0.0, short_lines=1.0), "IS_ALPHA")
@example(GopherQuality(minimum_words=0), "!!!")
@example(GopherQuality(minimum_words=0), "")
@example(GopherRepetition(), "a\ud800")
@example(GopherQuality(minimum_words=0), "a\ud800")
@example(C4Quality(), "It is a\ud800 b.")
@example(C4Quality(minimum_words_a_line=0), "\n\n a b. [1] \n\n")
@example(C4Quality(minimum_sentences=0), "x")
def test_any_text_is_judged_and_the_value_breaks_the_threshold(section: Any, text: str) -> None:
    """Would catch a crash on odd text, a value measured otherwise than the filter measures it, a
    threshold that is not the recipe's, and a change that the audit does not hear of.
    """
    outcome = rule_of(section)(text, "")
    if outcome.text is not None:
        assert outcome.text
        assert (outcome.text != text) == bool(outcome.findings)
        return
    (finding,) = outcome.findings
    if finding.reason in ("no text", "no words", "not Unicode"):
        return
    assert isinstance(finding.value, int | float)
    if isinstance(section, C4Quality):
        sentences = finding.reason == "too few sentences"
        assert finding.threshold == (section.minimum_sentences if sentences else 0)
        assert (finding.value < finding.threshold) == sentences
        return
    (measure,) = (one for one in MEASURES[type(section)] if one.reason == finding.reason)
    assert finding.threshold == getattr(section, measure.key)
    if measure.least:
        assert finding.value < finding.threshold
    else:
        assert finding.value > finding.threshold


# datatrove takes the mean of no words; ours refuses first.
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
@given(ANY_SECTION, ANY_TEXT)
@settings(max_examples=1500, deadline=None)
@example(GopherRepetition(duplicate_lines=0.0), "a\nb\na\nc")
@example(C4Quality(minimum_words_a_line=0, minimum_sentences=0), "\n\n a b.[1] \n\n c ")
@example(C4Quality(minimum_sentences=2), "Mr. A. saw it. He ran.\nRead the terms of use here.")
@example(C4Quality(), "It is a\ud800 b.")
@example(FineWebQuality(short_lines=1.0), "One.\nTwo.\nThree.\nFour.")
def test_any_limits_decide_as_datatroves_filters(section: Any, text: str) -> None:
    """Would catch a measure that is not the published one: another verdict, reason or text."""
    passed, reason = published(section, text)
    outcome = rule_of(section)(text, "")
    if any(finding.reason in ("unbroken symbols", "no words") for finding in outcome.findings):
        return  # ours alone: datatrove would hang, or take the mean of nothing
    assert outcome.text == passed
    if passed is None:
        assert [finding.reason for finding in outcome.findings] == [reason]


def test_every_reason_that_datatrove_can_give_is_ours() -> None:
    """Would catch a new version's new reason, which the oracle would have no word for."""
    for kind, library in FILTERS.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(library)))):
            if isinstance(node, ast.ClassDef) and node.name == library.__name__:
                names = set(_reasons(node))
        assert len(names) >= 3
        assert names - {"empty"} == set(REASONS[kind]), library
        if kind is not C4Quality:
            assert set(REASONS[kind].values()) == {one.reason for one in MEASURES[kind]}


def _reasons(node: ast.AST) -> Any:
    """What stands in `return False, REASON`, with the numbers put into formatted ones."""
    for found in ast.walk(node):
        if isinstance(found, ast.Return) and isinstance(found.value, ast.Tuple):
            reason = found.value.elts[1]
            if isinstance(reason, ast.Constant):
                yield reason.value
            else:
                text = ast.unparse(reason)
                sizes = TOP_N_GRAMS if "top" in text else DUPLICATE_N_GRAMS
                yield from (eval(text, {"n": n}) for n in sizes)


def test_a_comma_is_no_word_without_a_letter() -> None:
    """Would catch Gopher's 80% rule taken of datatrove's words, of which punctuation marks are a
    fifth in ordinary prose: it then drops more than half of a library's docstrings.
    """
    comma = "the horse, to the dogs, the hen, the cow, the pig, the bee, "
    section = GopherQuality(minimum_words=1, minimum_word_length=0.0)
    assert rule_of(section)(comma, "").text == comma
    assert published_alone(section, comma) == "too few alphabetic words", "negative control"
    numbers = "the cat 1 , 2 = 3 to 4 of 5 - 6"
    (finding,) = rule_of(section)(numbers, "").findings
    assert finding.reason == "too few alphabetic words"
    assert finding.value == pytest.approx(4 / 13), "a symbol that stands alone counts"


LINES = "The same line stands here again and again.\n"
TRIPPED = [
    (GopherRepetition(), "One here.\n\nOne here.\n\nTwo.", "duplicate paragraphs", 1 / 3),
    (
        GopherRepetition(duplicate_paragraphs=1.0),
        "12345\n\n12345\n\n123456",
        "duplicate paragraph characters",
        5 / 20,
    ),
    (GopherRepetition(), "1\n2\n1\n1\n", "duplicate lines", 0.4),
    (
        GopherRepetition(duplicate_lines=1.0),
        "12345\n12345\n12345678",
        "duplicate line characters",
        5 / 20,
    ),
    (GopherQuality(), "Too short to be of use.", "too few words", 6),
    (GopherQuality(maximum_words=9), PROSE, "too many words", len(PROSE.split())),
    (GopherQuality(minimum_words=1), "a b c", "short words", 1.0),
    (GopherQuality(minimum_words=1), "incomprehensibilities", "long words", 21.0),
    (GopherQuality(minimum_words=1), "four, words, and, #", "hashes", 0.25),
    (GopherQuality(minimum_words=1), "four words ... here", "ellipses", 0.25),
    (GopherQuality(minimum_words=1), "- every line\n- has bullets", "bullet lines", 1.0),
    (
        GopherQuality(minimum_words=1, symbols_a_word=1.0),
        "this trails…\nand this…",
        "lines that trail off",
        1.0,
    ),
    (GopherQuality(minimum_words=1), "year 1984 2001", "too few alphabetic words", 1 / 3),
    (GopherQuality(minimum_words=1), "the cat sat", "too few stop words", 1),
    (C4Quality(), "There was lorem ipsum in it, lorem ipsum!", "lorem ipsum", 2),
    (C4Quality(), "It does return {} then.", "curly brackets", 1),
    (C4Quality(), "This is one. This is two.\n\nAnd three here.", "too few sentences", 3),
    (FineWebQuality(), "no line\nends in anything", "too few punctuated lines", 0.0),
    (FineWebQuality(), "One.\nTwo.\nSix.\n" + LINES, "short lines", 0.75),
    (FineWebQuality(), LINES * 2, "duplicate line characters", 0.5),
    (
        FineWebQuality(short_lines=1.0),
        "One.\nTwo.\nThree.\nFour.",
        "line breaks",
        3 / 8,
    ),
]


def test_every_measure_is_told_by_hand_once() -> None:
    """Would catch a measure that only the random texts, which may not reach it, speak for."""
    planted = {(type(section), reason) for section, _, reason, _ in TRIPPED}
    for kind, reasons in REASONS.items():
        missing = {reason for reason in reasons.values() if (kind, reason) not in planted}
        assert {reason for reason in missing if "gram" not in reason} == set(), kind


@pytest.mark.parametrize(("section", "text", "reason", "value"), TRIPPED)
def test_a_planted_fault_is_named_and_measured(
    section: Any, text: str, reason: str, value: float
) -> None:
    """Would catch a reason put down to another one, and a value that is off; told by hand."""
    (finding,) = rule_of(section)(text, "").findings
    assert finding.reason == reason
    assert finding.value == pytest.approx(value)


@pytest.mark.parametrize("n", [*TOP_N_GRAMS, *DUPLICATE_N_GRAMS])
def test_repeated_n_grams_are_named_by_their_length(n: int) -> None:
    """Would catch the thresholds of n-grams shifted by one."""
    key = f"top_{n}_gram" if n in TOP_N_GRAMS else f"duplicate_{n}_grams"
    others = {name: 1.0 for name in GopherRepetition.model_fields if name != key}
    section = GopherRepetition(**others, **{key: 0.1})
    (finding,) = rule_of(section)(
        "one two three four five six seven eight nine ten " * 3, ""
    ).findings
    assert finding.reason == key.replace("_", " ").replace(f" {n} gram", f" {n}-gram")
    assert finding.value > 0.1 == finding.threshold


ZEROS = [
    (GopherRepetition, "duplicate_lines", "One.\nTwo.\nOne.\n" + PROSE),
    (GopherRepetition, "duplicate_paragraphs", "One.\n\nTwo.\n\nOne.\n\n" + PROSE),
    (GopherRepetition, "duplicate_line_characters", "One.\nTwo.\nOne.\n" + PROSE),
    (GopherRepetition, "duplicate_paragraph_characters", "One.\n\nTwo.\n\nOne.\n\n" + PROSE),
    (GopherRepetition, "top_2_gram", PROSE),
    (GopherQuality, "symbols_a_word", PROSE + " We are #1."),
    (GopherQuality, "bullet_lines", PROSE + "\n- a bullet"),
    (GopherQuality, "ellipsis_lines", PROSE + "\nand so on ..."),
    (GopherQuality, "maximum_word_length", PROSE),
    (FineWebQuality, "duplicate_line_characters", PROSE + "\nX.\nX."),
    (FineWebQuality, "newlines_a_word", PROSE),
    (FineWebQuality, "short_lines", PROSE + "\nX."),
]


@pytest.mark.parametrize(("kind", "key", "text"), ZEROS)
def test_a_largest_share_of_zero_allows_none(kind: type, key: str, text: str) -> None:
    """Would catch zero turning a check off, as it does in datatrove."""
    assert rule_of(kind())(text, "").text == text, "negative control: the default lets it pass"
    (finding,) = rule_of(kind(**{key: 0.0}))(text, "").findings
    assert finding.threshold == 0
    assert finding.value is not None and float(finding.value) > 0


def test_c4_tells_how_many_lines_it_removed() -> None:
    """Would catch a rewritten document whose audit does not say what was taken out."""
    lines = ["  " + line for line in PROSE.split("\n")]
    lines += ["", "Menu", " Home ", "Please turn on JavaScript.", "Read our privacy policy now."]
    lines += ["x" * 1001 + " is a long word", "It is cited here.[12]"]
    text = "\n".join(lines)
    outcome = rule_of(C4Quality())(text, "")
    assert outcome.text == PROSE + "\nIt is cited here."
    assert outcome.findings == (
        Finding("lines with a long word removed", 1),
        Finding("lines with few words removed", 2),
        Finding("lines on JavaScript removed", 1),
        Finding("lines on policies removed", 1),
        Finding("blank lines removed", 1),
        Finding("citation marks removed", 1),
        Finding("white space around lines removed", 4),
    )


def test_c4_tells_lines_without_punctuation_from_blank_ones() -> None:
    """Would catch blank lines counted as sentences that lack their full stop."""
    section = C4Quality(terminal_punctuation=True)
    outcome = rule_of(section)("A heading of words\n\n" + PROSE, "")
    assert outcome.text == PROSE
    assert outcome.findings == (
        Finding("lines without terminal punctuation removed", 1),
        Finding("blank lines removed", 1),
    )


def test_a_document_does_not_count_for_the_next() -> None:
    """Would catch the lines that C4 removed being summed over documents."""
    rule = rule_of(C4Quality())
    first = rule("Menu\n" + PROSE, "")
    rule("Menu\nMenu\nx {", "")
    assert rule("Menu\n" + PROSE, "") == first


@pytest.mark.parametrize("unit", ["😀", "(", "'s", "US$", "='"])
@pytest.mark.parametrize("kind", [GopherRepetition, GopherQuality, FineWebQuality])
def test_unbroken_symbols_are_not_split(
    kind: type, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch one document of 100 kB holding up a build for a quarter of an hour."""
    rule = rule_of(kind())
    splitter = load_word_tokenizer(Languages.english)

    def split(text: str) -> None:
        raise AssertionError(f"{len(text)} characters went to the splitter")

    for name in ("word_tokenize", "sent_tokenize", "span_tokenize"):
        monkeypatch.setattr(splitter, name, split)
    (finding,) = rule(PROSE + " " + unit * (100_000 // len(unit)), "").findings
    assert finding.reason == "unbroken symbols"
    assert finding.threshold == 1000
    with pytest.raises(AssertionError, match="went to the splitter"):
        rule(PROSE + f" And {kind.__name__} {unit}.", "")  # no text that datatrove remembers


def test_long_runs_of_letters_are_split_as_ever() -> None:
    """Would catch the guard against symbols dropping Chinese, addresses or encoded bytes."""
    library = GopherRepetitionFilter()
    for text in ("委员会星期四开会讨论，并决定等到夏天再说。" * 60, "QUJDREVGRw+/" * 300):  # noqa: RUF001
        result = library.filter(Document(text=text, id=""))
        outcome = rule_of(GopherRepetition())(text, "")
        assert (outcome.text is not None) == (result is True)
        assert all(finding.reason != "unbroken symbols" for finding in outcome.findings)


def test_rules_travel_to_another_process() -> None:
    """Would catch a rule that takes a filter, and its statistics, along to each worker."""
    for rule in quality_rules(QualityRules()):
        rule(PROSE, "")
        assert len(pickle.dumps(rule)) < 2000
        assert pickle.loads(pickle.dumps(rule)) == rule


def test_rules_behind_one_another_split_a_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch the splitter, nearly all of the rules' time, called by each rule anew."""
    splitter = load_word_tokenizer(Languages.english)
    words_of(PROSE)  # the splitter is ready
    split, texts = splitter.word_tokenize, []
    monkeypatch.setattr(splitter, "word_tokenize", lambda text: texts.append(text) or split(text))
    for section in (GopherRepetition(), GopherQuality(), FineWebQuality()):
        assert rule_of(section)(PROSE + " More.", "").text is not None
    assert texts == [PROSE + " More."]


SILENT = """
import socket, warnings
warnings.simplefilter("always")
def refuse(*arguments, **keywords):
    raise AssertionError("reached for the network")
socket.socket.connect = socket.getaddrinfo = refuse
from trainer.corpus.rules.language import Language
from trainer.corpus.rules.normalize import Normalize
from trainer.corpus.rules import splitting
from trainer.corpus.rules.quality import quality_rules
from trainer.recipe.curation import GopherQuality, LanguageRule, NormalizeRule, QualityRules
quality = quality_rules(QualityRules()) + quality_rules(
    QualityRules(gopher_quality=GopherQuality(minimum_words=0))
)
for rule in (Normalize(NormalizeRule()), Language(LanguageRule()), *quality):
    for text in ("It is a fine day, and the cat has come. " * 20, "!!!", "caf\\u00c3\\u00a9", ""):
        rule(text, "")
"""


def test_nothing_is_downloaded_and_nothing_printed() -> None:
    """Would catch a model fetched on first use, and the logs and warnings of the libraries."""
    done = subprocess.run(
        [sys.executable, "-c", SILENT], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
