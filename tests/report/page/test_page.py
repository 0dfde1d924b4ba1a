"""The page as text: nothing of what it is given is markup, and numbers are known as numbers."""

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.page.gallery import SECTIONS, gallery
from trainer.report.page.blocks import (
    Columns,
    Command,
    Drawing,
    Folded,
    KeyFigures,
    Page,
    PageSection,
    Prose,
    Samples,
    StepChain,
)
from trainer.report.page.render import beginning, render
from trainer.report.page.table import DataTable, ValuedText, value_of
from trainer.report.page.visible import visible
from trainer.report.plots.bars import funnel

VOID = {"meta"}


class Elements(HTMLParser):
    """The elements of a page, each with its attributes, and whether all are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


def everywhere(text: str) -> Page:
    """A page that has one text at every place of every block."""
    blocks = [
        Prose(text),
        DataTable([text, "n"], [[text, 1], [text, text], ["b", ValuedText(text, 2.0)]], text),
        Samples(text, {text: text, "b": text}, {text: text}),
        Samples(text + " word" * 150, {"long": " word" * 150 + text}),
        Command(text, text),
        KeyFigures([(text, text, text)]),
        StepChain([(text, text)]),
        Drawing(funnel([(text, 3), (text, 2)], text, text), text),
    ]
    nested = [Columns(blocks), Folded(text, blocks)]
    return Page(text, text, [PageSection(text, [*blocks, *nested], text)], text)


# Of each kind that the template tells apart: a word, a number with a unit, nothing, code.
PLAIN = ("harmless", "1 s", "none", "`x`")
HARMLESS = Elements("".join(render(everywhere(text)) for text in PLAIN))


@settings(max_examples=30, deadline=None)
@given(st.text(min_size=1).filter(str.strip) | st.text("<>&\"'/x=!-", min_size=1))
def test_no_text_becomes_markup(text: str) -> None:
    """Would catch a place of the template where a text is inserted as it is."""
    seen = Elements(render(everywhere(text)))
    assert seen.open == []
    assert set(seen.names) <= {*HARMLESS.names}
    assert seen.attributes <= HARMLESS.attributes
    assert seen.names.count("script") == seen.names.count("style") == 1


def test_a_text_inserted_as_it_is_would_be_found() -> None:
    """Negative control: an element and an attribute that no block makes are seen."""
    seen = Elements('<p onclick="x"><blink></blink></p>')
    assert not set(seen.names) <= {*HARMLESS.names}
    assert not seen.attributes <= HARMLESS.attributes


def test_the_policy_lets_nothing_of_the_page_down() -> None:
    """Would catch an attribute that the policy forbids, or an address that could be asked."""
    text = render(gallery())
    assert "style" not in HARMLESS.attributes
    assert not [name for name in Elements(text).attributes if name.startswith("on")]
    assert not re.search(r"""(src|href)=["'](?!#)""", text)
    assert not re.search(r"url\(|@import|https?:", text)


def test_equal_pages_give_equal_text() -> None:
    """Would catch a count or an id that goes on from the page before."""
    assert render(gallery()) == render(gallery())


def test_no_id_comes_twice() -> None:
    """Would catch a drawing or a title that comes again and takes the first one's id with it."""
    page = gallery()
    twice = Page(page.title, page.lead, [*page.sections, *page.sections, PageSection("你好", [])])
    ids = re.findall(r'<[^>]* id="([^"]+)"', render(twice))
    assert len(ids) == len(set(ids)) > 2 * len(SECTIONS)
    assert {"the-run", "the-run-2", "section"} <= set(ids)
    labels = " ".join(re.findall(r'aria-labelledby="([^"]+)"', render(twice))).split()
    assert set(labels) <= set(ids)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x1b[31m", "a[U+0000]b[U+001B][31m"),
        ("tab\tand\nline\r\nend\r", "tab\tand\nline\nend[U+000D]"),
        ("user\u202etxt.exe", "user[U+202E]txt.exe"),
        ("\u2066x\u2069\u200f", "[U+2066]x[U+2069][U+200F]"),
        ("lone \ud83d surrogate", "lone \ufffd surrogate"),
        ("\x85\x7f\ufffe", "[U+0085][U+007F][U+FFFE]"),
        ("e\u0301, 👩\u200d💻 and עברית", "e\u0301, 👩\u200d💻 and עברית"),
    ],
)
def test_what_nobody_sees_is_shown(text: str, shown: str) -> None:
    """Would catch a NUL that cuts a page, or marks that show a text in another order than it is."""
    assert visible(text) == shown
    assert shown in render(everywhere(text)).encode().decode()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.81 (0.77-0.85)", 0.81),
        ("0.79 [0.75, 0.83]", 0.79),
        ("\u22121,234.5", -1234.5),
        ("+3", 3.0),
        ("1e-5", 1e-5),
        ("3e\u22125", 3e-5),
        ("12.3%", 0.123),
        ("<0.1%", 0.001),
        ("4.1k tokens/s", 4100.0),
        ("4,100 tokens/s", 4100.0),
        ("135M", 135e6),
        ("900 MiB", 900 * 2**20),
        ("1.2 GiB", 1.2 * 2**30),
        ("3 min", 180.0),
        ("1.5 h", 5400.0),
        ("2 h 14 min", 8040.0),
        ("45 s", 45.0),
        ("250 ms", 0.25),
        ("0.5 \u00b1 0.1", 0.5),
        ("~7 GB", 7e9),
    ],
)
def test_a_number_is_known_with_its_unit(text: str, value: float) -> None:
    """Would catch 900 MiB that sorts above 1.2 GiB, or 1,200 below 45."""
    assert value_of(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "step 9", "2026-11-29", "1.16.0", "12th", "v2", "1,2,3", "-"])
def test_what_only_looks_like_a_number_is_text(text: str) -> None:
    """Would catch dates and versions that all sort as the number that they begin with."""
    assert math.isnan(value_of(text))


def test_a_column_is_of_numbers_where_all_its_cells_are() -> None:
    """Would catch one "no figure" that makes a column of numbers one of words."""
    rows = [
        ["a", 1, "0.5", None, True, (0.5, 0.4, 0.6)],
        ["b", 2.5, "none", None, False, (math.nan, math.nan, math.nan)],
        ["c", math.inf, "x", None, True, (0.25, math.nan, math.nan)],
    ]
    table = DataTable(list("abcdef"), rows, "t")
    assert table.numeric == [False, True, False, True, False, True]
    assert [cell.text for cell in table.body[1]] == [
        "b",
        "2.5",
        "none",
        "\u2013",
        "no",
        "no figure",
    ]
    with pytest.raises(ValueError, match="a row of 1 cells under 6 columns"):
        DataTable(list("abcdef"), [["a"]], "t")


@given(st.text(max_size=1100) | st.text(" \n-a", max_size=40))
def test_a_command_is_whole(text: str) -> None:
    """Would catch a space, an indent or a word that is lost where a line may break."""
    assert "".join(Command(text).words) == text.strip("\n")


def test_a_key_figure_is_told_from_its_unit() -> None:
    """Would catch the hours of a run in large type and its minutes in small."""
    parts = [KeyFigures.parts(number) for number in ("1.4 GiB", "6 h 5 min", "done", " 3 ")]
    assert parts == [("1.4", "GiB"), ("6 h 5 min", ""), ("done", ""), ("3", "")]


def test_code_in_a_text_is_set_as_code() -> None:
    """Would catch back quotes on the page, or a lone one that makes code of all that follows."""
    text = render(Page("t", "", [PageSection("s", [Prose("a `b <i>` c"), Prose("it`s")])]))
    assert "a <code>b &lt;i&gt;</code> c" in text and "it`s" in text


@given(st.text(max_size=2000))
def test_a_long_text_is_folded_and_loses_nothing(text: str) -> None:
    """Would catch a character that falls between what is shown and what has to be opened."""
    shown, rest = beginning(text)
    assert shown + rest == text
    assert (not rest) == (len(text) <= 625) and len(shown) <= 625
