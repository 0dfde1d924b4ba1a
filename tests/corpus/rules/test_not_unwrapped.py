"""What is no prose, or not hard-wrapped, is no line shorter behind unwrapping."""

import textwrap

import pytest

from tests.corpus.rules.wrapped_texts import ENGLISH, NO_PROSE, book, paragraphs, wrapped
from trainer.corpus.rules.unwrap import unwrap


@pytest.mark.parametrize("kind", NO_PROSE)
def test_what_is_no_prose_stays_in_a_wrapped_book(kind: str) -> None:
    """Would catch verse, lists, tables, code and the like joined because their text is wrapped."""
    block = NO_PROSE[kind]
    first, second, third = ENGLISH
    text = book(wrapped(first), wrapped(second), block, wrapped(third))
    assert unwrap(text)[0] == book(first, second, block, third)


@pytest.mark.parametrize("kind", NO_PROSE)
def test_what_is_no_prose_stays_by_itself(kind: str) -> None:
    """Would catch a document without any prose taken for a wrapped one."""
    for text in (NO_PROSE[kind], book(NO_PROSE[kind], NO_PROSE[kind].upper())):
        assert unwrap(text) == (text, 0)


@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_a_text_that_is_not_wrapped_stays(between: str) -> None:
    """Would catch paragraphs that stand on a line each joined with one another."""
    text = between.join((*ENGLISH, *paragraphs("German"), *ENGLISH))
    assert unwrap(text) == (text, 0)


def test_a_sentence_a_line_is_not_wrapped() -> None:
    """Would catch semantic line breaks, which authors set on purpose, taken for a right edge."""
    sentences = " ".join(ENGLISH).replace(". ", ".\n")
    clauses = sentences.replace(", ", ",\n").replace("; ", ";\n")
    for text in (sentences, clauses):
        assert unwrap(text) == (text, 0)


def test_a_patch_stays() -> None:
    """Would catch the lines of a patch, whose first characters count, joined."""
    body = "\n".join(f" {line}" for line in book(*map(wrapped, ENGLISH)).split("\n"))
    text = f"--- a/toll.txt\n+++ b/toll.txt\n@@ -1,9 +1,9 @@\n{body}"
    assert unwrap(text) == (text, 0)


def test_source_code_with_long_comments_stays() -> None:
    """Would catch the docstrings of a program, which is no prose as a whole, joined."""
    comment = "\n".join(f"    {line}" for line in wrapped(ENGLISH[0]).split("\n"))
    function = f'def f(x):\n    """What it does.\n\n{comment}\n    """\n    y = x + 1\n'
    text = (function + "    if y > 2:\n        return y\n    return x\n\n\n") * 3
    assert unwrap(text) == (text, 0)


def test_a_list_behind_a_paragraph_stays() -> None:
    """Would catch items drawn into the sentence that introduces them, without a blank line."""
    text = f"{wrapped(ENGLISH[0])}\n{NO_PROSE['list']}\n\n{wrapped(ENGLISH[1])}"
    assert unwrap(text)[0] == f"{ENGLISH[0]}\n{NO_PROSE['list']}\n\n{ENGLISH[1]}"


RULES_OF_THE_MILL = (
    "本公司员工应当遵守国家法律法规以及公司的各项规章制度并且服从上级的工作安排",
    "上班时间不得从事与工作无关的事情不得擅自离开岗位如果有事应当向主管请假并",
    "爱护公司的财产节约用水用电下班以前应当关闭电脑以及其他的电器设备和门窗等",
)
MARKS = {
    "Chinese numbers": "一、|二、|三、",
    "bracketed numbers": "（一）|（二）|（三）",  # noqa: RUF001
    "wide digits": "（1）|（2）|（3）",  # noqa: RUF001
    "circled numbers": "①|②|③",
    "bullets": "・|・|・",
    "stars": "※|※|※",
    "boxes": "●|◆|■",
}


@pytest.mark.parametrize("marks", MARKS)
def test_the_lists_of_east_asia_stay(marks: str) -> None:
    """Would catch items joined because no space stands behind their marks."""
    pairs = zip(MARKS[marks].split("|"), RULES_OF_THE_MILL, strict=True)
    items = "\n".join(mark + rule for mark, rule in pairs)
    cut = ["\n".join(textwrap.wrap(one, 36)) for one in paragraphs("Chinese")]
    assert unwrap(book(cut[0], items, cut[1]))[0] == book(
        paragraphs("Chinese")[0], items, paragraphs("Chinese")[1]
    )
    assert unwrap(items) == (items, 0)


@pytest.mark.parametrize("letters", ["가나다라", "абвг", "αβγδ"])
def test_lettered_lists_of_other_alphabets_stay(letters: str) -> None:
    """Would catch the items of a law or a manual joined for letters that are not Latin."""
    for mark in (".", ")"):
        texts = [ENGLISH[0][at : at + 66].strip() for at in range(len(letters))]
        pairs = zip(letters, texts, strict=True)
        items = "\n".join(f"{letter}{mark} {text}" for letter, text in pairs)
        if mark == "." or letters[0] != "가":
            assert unwrap(book(wrapped(ENGLISH[0]), items))[0] == book(ENGLISH[0], items)


def test_verse_of_thai_stays() -> None:
    """Would catch stanzas joined, whose lines are as long as one another and have no marks."""
    verse = """\
แล้วสอนว่าอย่าไว้ใจมนุษย์ มันแสนสุดลึกล้ำเหลือกำหนด
ถึงเถาวัลย์พันเกี่ยวที่เลี้ยวลด ก็ไม่คดเหมือนหนึ่งในน้ำใจคน
มนุษย์นี้ที่รักอยู่สองสถาน บิดามารดารักมักเป็นผล
ที่พึ่งหนึ่งพึ่งได้แต่กายตน เกิดเป็นคนคิดเห็นจึ่งเจรจา"""
    cut = "\n".join(textwrap.wrap(paragraphs("Thai")[0], 72))
    assert unwrap(verse) == (verse, 0)
    assert unwrap(book(cut, verse))[0] == book(paragraphs("Thai")[0], verse)


SOURCES = {
    "imports": "    from mill.carts import Cart\n    from mill.tolls import Toll\n    import gates",
    "settings": "name: the-toll-of-the-mill-2024\nsize_factor: 3\nname: the-other-toll-of-it-2025",
    "keywords": "syntax keyword tollWord carts and\nsyntax keyword tollWord gates or\nlet a = 1",
    "vim": '" the words in a comment of vim are as they are, however much they look like\n'
    '" prose that somebody has wrapped at the edge of the page',
    "troff": "The gate is shut by the keeper, who takes the toll from all who come with\n.B carts\n"
    "and from nobody else, whatever the weather may be like on the day on which\n.I they\ncome.",
}


@pytest.mark.parametrize("kind", SOURCES)
def test_source_text_is_joined_neither_in_a_book_nor_alone(kind: str) -> None:
    """Would catch imports, settings or requests of troff run together, as of prose."""
    source = SOURCES[kind]
    assert unwrap(source) == (source, 0)
    text = unwrap(book(wrapped(ENGLISH[0]), source, wrapped(ENGLISH[1])))[0]
    assert text.startswith(ENGLISH[0]) and text.endswith(ENGLISH[1])
    assert {*source.split("\n")} <= {*text.split("\n")} or kind == "troff"
    assert "\n.B carts\n" in text or kind != "troff"


@pytest.mark.parametrize("code", ["import mill\nfrom mill import (\n", "#include <mill.h>\n"])
def test_a_file_of_source_code_stays_whatever_its_comments_say(code: str) -> None:
    """Would catch the docstring or licence at the head of a short module joined; a fenced block
    in a text is none.
    """
    text = f'"""\n{wrapped(ENGLISH[0])}\n"""\n{code}'
    assert unwrap(text) == (text, 0)
    fenced = book(wrapped(ENGLISH[0]), f"```\n{code}```")
    assert unwrap(fenced)[0] == book(ENGLISH[0], f"```\n{code}```")


def test_a_list_of_words_is_no_prose() -> None:
    """Would catch stop words, or names, that fill their lines and have no mark between them."""
    words = [word.lower() for word in " ".join(ENGLISH).split() if word.isalpha()]
    text = wrapped(" ".join(words))
    assert text.count("\n") >= 5
    assert unwrap(text) == (text, 0)
