"""Hard-wrapped paragraphs become one line each; what is no prose stays byte for byte."""

import textwrap
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.rules.wrapped_texts import (
    ENGLISH,
    NO_PROSE,
    SPACED,
    book,
    paragraphs,
    wrapped,
)
from trainer.corpus.rules.normalize import Normalize
from trainer.corpus.rules.rule import Finding
from trainer.corpus.rules.unwrap import unwrap
from trainer.recipe.curation import NormalizeRule

WIDTHS = (48, 60, 66, 72, 79, 96)


CASES = [
    *(("English", width) for width in WIDTHS),
    *((language, width) for language in SPACED for width in (48, 60, 72)),
]


@pytest.mark.parametrize(("language", "width"), CASES)
def test_what_textwrap_wrapped_comes_back(language: str, width: int) -> None:
    """Would catch a break kept, a word joined to the next, and a language with other marks."""
    whole = paragraphs(language)
    text, joined = unwrap(book(*(wrapped(one, width) for one in whole)))
    assert text == book(*whole)
    assert joined == sum(wrapped(one, width).count("\n") for one in whole)


@pytest.mark.parametrize(
    ("language", "letters"),
    [*product(("Chinese", "Japanese"), (30, 36, 40)), ("Thai", 74), ("Thai", 80)],
)
def test_scripts_without_spaces_are_joined_without_one(language: str, letters: int) -> None:
    """Would catch a space put into a Chinese, Japanese or Thai word."""
    whole = paragraphs(language)
    cut = book(*("\n".join(textwrap.wrap(one, letters)) for one in whole))
    assert unwrap(cut)[0] == book(*whole)


@pytest.mark.parametrize("indent", ["  ", "    ", "\t"])
def test_indented_first_lines_begin_paragraphs(indent: str) -> None:
    """Would catch paragraphs without a blank line between them joined into one."""
    spaces = indent.expandtabs(8)
    lines = [wrapped(one, initial_indent=spaces).replace(spaces, indent, 1) for one in ENGLISH]
    assert unwrap("\n".join(lines))[0] == "\n".join(indent + one for one in ENGLISH)


def test_indented_blocks_keep_their_indent() -> None:
    """Would catch the text of an RFC or a manual page moved to the margin, or left wrapped."""
    blocks = [
        wrapped(one, 72, initial_indent=depth, subsequent_indent=depth)
        for one, depth in zip(ENGLISH, ("   ", "       ", "   "), strict=True)
    ]
    titled = book("3.1.  The road", blocks[0], blocks[1], "   Note:", blocks[2])
    expected = book(
        "3.1.  The road",
        f"   {ENGLISH[0]}",
        f"       {ENGLISH[1]}",
        "   Note:",
        f"   {ENGLISH[2]}",
    )
    assert unwrap(titled)[0] == expected


def test_pages_of_an_rfc_stay_apart() -> None:
    """Would catch the foot of a page, or the head of the next, joined with a paragraph."""
    foot = f"Thornbury{'Informational':^50}[Page 3]"
    head = f"RFC 9999{'The Toll of the Mill':^50}April 1998"
    rule = Normalize(NormalizeRule())
    body = [wrapped(one, initial_indent="   ", subsequent_indent="   ") for one in ENGLISH]
    text = book(body[0], body[1], "", foot + "\n\f\n" + head, "", body[2])
    lines = [f"   {one}" for one in ENGLISH]
    expected = book(lines[0], lines[1], "", foot + "\n\n\n" + head, "", lines[2])
    assert rule(text, "").text == expected


def test_dialogue_keeps_its_paragraphs() -> None:
    """Would catch short speeches, of a line or two, joined with what follows."""
    speech = ['"Is he gone?" she said.', '"He is," said the keeper, "and the keys with him."']
    text = book(wrapped(ENGLISH[0]), *speech, wrapped(ENGLISH[1]))
    assert unwrap(text)[0] == book(ENGLISH[0], *speech, ENGLISH[1])
    run = "\n".join([wrapped(ENGLISH[0]), *speech, wrapped(ENGLISH[1])])
    assert unwrap(run)[0] == "\n".join([ENGLISH[0], *speech, ENGLISH[1]])


def test_a_mail_is_unwrapped_between_its_headers_and_its_signature() -> None:
    """Would catch headers joined, a quotation joined with the answer, a signature with the text."""
    signature = "--\n" + wrapped(
        "Nathaniel Thornbury, keeper " + "of the toll and of the gate " * 4
    )
    quoted = "\n".join(f"> {line}" for line in wrapped(ENGLISH[0], 68).split("\n"))
    parts = [NO_PROSE["mail headers"], "On Thursday, Nathaniel wrote:"]
    text = book(*parts, f"{quoted}\n{wrapped(ENGLISH[1])}", wrapped(ENGLISH[2]), signature)
    expected = book(*parts, f"{quoted}\n{ENGLISH[1]}", ENGLISH[2], signature)
    assert unwrap(text)[0] == expected


def test_a_few_wider_lines_do_not_hide_the_edge_of_the_others() -> None:
    """Would catch a book left wrapped for one note that somebody else has set."""
    wide = "A note by the printer, who had room for more on a line than the keeper had: the gate"
    wide += " was sold in the year of the war, and the dog with it."
    text = book(wrapped(ENGLISH[0], 66), wrapped(ENGLISH[1], 66), wrapped(wide, 79))
    assert unwrap(text)[0] == book(ENGLISH[0], ENGLISH[1], wide)


def test_a_letter_set_narrower_in_a_book_is_unwrapped_too() -> None:
    """Would catch a block judged by the right edge of others alone."""
    letter = wrapped(ENGLISH[1], 54, initial_indent="     ", subsequent_indent="     ")
    text = book(wrapped(ENGLISH[0]), letter, wrapped(ENGLISH[2]))
    assert unwrap(text)[0] == book(ENGLISH[0], f"     {ENGLISH[1]}", ENGLISH[2])


def test_speech_behind_a_dash_is_a_paragraph() -> None:
    """Would catch the dialogue of French or Russian novels left out as a list, or run together."""
    speech = [f"— {one}" for one in paragraphs("French")]
    for between in ("\n", "\n\n"):
        text = between.join(map(wrapped, [*paragraphs("French"), *speech]))
        assert unwrap(text)[0] == between.join([*paragraphs("French"), *speech])


@pytest.mark.parametrize("width", WIDTHS)
def test_speech_behind_a_name_is_a_paragraph(width: int) -> None:
    """Would catch an answer joined with its question where the question fills its last line."""
    names = ("Q", "A", "Mr. Thornbury")
    speech = [f"{name}: {one}" for name, one in zip(names, ENGLISH, strict=True)]
    text = "\n".join(wrapped(one, width) for one in speech)
    assert unwrap(text)[0] == "\n".join(speech)


def test_chinese_paragraphs_begin_with_two_wide_spaces() -> None:
    """Would catch paragraphs without a blank line between them joined into one."""
    whole = [f"\u3000\u3000{one}" for one in paragraphs("Chinese")]
    cut = "\n".join("\n".join(textwrap.wrap(f"＿＿{one[2:]}", 36)) for one in whole)  # noqa: RUF001
    text = cut.replace("＿＿", "\u3000\u3000")  # noqa: RUF001
    assert unwrap(text)[0] == "\n".join(whole)


def test_a_heading_right_above_a_paragraph_stays() -> None:
    """Would catch a chapter left wrapped for its heading, or the heading run into it."""
    headed = [f"Chapter {n}\n{one}" for n, one in enumerate(ENGLISH, 1)]
    text = book(*(f"Chapter {n}\n{wrapped(one)}" for n, one in enumerate(ENGLISH, 1)))
    assert unwrap(text)[0] == book(*headed)


def justified(paragraph: str, width: int = 72) -> str:
    """A paragraph whose lines, but for the last, are padded to the width between words."""
    lines = textwrap.wrap(paragraph, width)
    for number, line in enumerate(lines[:-1]):
        words = line.split()
        gaps = len(words) - 1
        missing = width - len(line)
        spaces = [1 + missing // gaps + (gap < missing % gaps) for gap in range(gaps)]
        lines[number] = "".join(
            word + " " * space for word, space in zip(words, [*spaces, 0], strict=True)
        )
    return "\n".join(lines)


def test_justified_paragraphs_lose_their_padding() -> None:
    """Would catch the spaces that made an even right edge left in the middle of a line, also in a
    paragraph that has no more than one full line.
    """
    short = ENGLISH[2][:104]
    whole = (*ENGLISH, short)
    assert justified(short).count("\n") == 1 and "  " in justified(short)
    assert unwrap(book(*map(justified, whole)))[0] == book(*whole)


@pytest.mark.parametrize("newline", ["\r\n", "\r", "\u2028"])
def test_it_is_a_step_of_normalize_and_can_be_turned_off(newline: str) -> None:
    """Would catch foreign line ends left out, a change that is not in the audit, a dead key."""
    text = newline.join(book(*map(wrapped, ENGLISH)).split("\n"))
    outcome = Normalize(NormalizeRule())(text, "")
    assert outcome.text == book(*ENGLISH)
    breaks = sum(wrapped(one).count("\n") for one in ENGLISH)
    assert outcome.findings[-1] == Finding("hard-wrapped lines joined", breaks)
    off = Normalize(NormalizeRule(unwrap=False))(text, "")
    assert off.text == book(*map(wrapped, ENGLISH))


@pytest.mark.parametrize("word", ["To", "From", "Subject", "Date", "Path", "Received"])
def test_a_paragraph_may_begin_with_the_name_of_a_mail_header(word: str) -> None:
    """Would catch "To cross the river, ..." taken for the head of a mail, and an mbox's joined."""
    whole = f"{word} {ENGLISH[0][0].lower()}{ENGLISH[0][1:]}"
    assert unwrap(book(wrapped(whole), wrapped(ENGLISH[1])))[0] == book(whole, ENGLISH[1])
    mbox = "From toll@example.com Thu Jan  1 10:00:00 1998\nSubject: the gate will be shut on\n"
    mbox += "  Thursday, and what you can do about that in the meantime, and on all of Friday"
    text = book(mbox, wrapped(ENGLISH[0]))
    assert unwrap(text)[0] == book(mbox, ENGLISH[0])


@pytest.mark.parametrize("indent", ["  ", "        "])
def test_one_line_speeches_between_indented_paragraphs_stay_apart(indent: str) -> None:
    """Would catch a paragraph of a novel without blank lines cut behind its first line, because the
    paragraph above it has no other.
    """
    speech = ['"Is he gone?" she said.', '"He is, and the keys with him."']
    whole = [ENGLISH[0], *speech, ENGLISH[1], speech[0], ENGLISH[2]]
    text = "\n".join(wrapped(one, initial_indent=indent) for one in whole)
    assert unwrap(text)[0] == "\n".join(indent + one for one in whole)


def test_stars_between_paragraphs_end_no_chapter() -> None:
    """Would catch all that stands behind a row of stars left wrapped, as if it were a list."""
    text = "\n".join([wrapped(ENGLISH[0]), "* * *", wrapped(ENGLISH[1]), "***", "ENDE"])
    assert unwrap(text)[0] == "\n".join([ENGLISH[0], "* * *", ENGLISH[1], "***", "ENDE"])


def test_a_number_that_ends_a_sentence_begins_no_list() -> None:
    """Would catch a paragraph left wrapped from where a line begins with "4." or "2)"."""
    start = "The fee for carts was raised by the parish in the years from 1894 to 1898 by some"
    for last in ("12. It was never", "4) without a word. It was never"):
        whole = f"{start} {last} lowered again, though the keeper asked for it in every spring."
        cut = f"{start}\n{last} lowered again, though the keeper asked for it in every\nspring."
        assert unwrap(book(wrapped(ENGLISH[0], 82), cut))[0] == book(ENGLISH[0], whole)
    items = f"{start}\n1. pence,\n2. shillings"
    assert unwrap(book(wrapped(ENGLISH[0]), items))[0] == book(ENGLISH[0], items)


def test_a_no_break_space_ends_no_word() -> None:
    """Would catch lines taken for short, because French sets no-break spaces before its marks."""
    mark = "(voir\u00a0le\u00a0chapitre\u00a012)"
    start = "Le meunier a raconté tout cela à sa femme"
    cut = f"{start}\n{mark}, et elle n'en a rien dit à personne dans le\nvillage."
    text = book(wrapped(paragraphs("French")[0], 54), cut)
    assert unwrap(text)[0] == book(paragraphs("French")[0], cut.replace("\n", " "))


@pytest.mark.parametrize("language", ["English", "German", "French", "Russian"])
def test_one_paragraph_is_unwrapped_whatever_its_lines_begin_and_end_with(language: str) -> None:
    """Would catch one left wrapped because chance begins its few lines with the nouns of German, or
    ends them with commas, though none has room for the next word.
    """
    left = [
        (width, one)
        for one in paragraphs(language)
        for width in range(58, 86)
        if unwrap(wrapped(one, width))[0] != one and wrapped(one, width).count("\n") > 3
    ]
    assert left == []
    lines = wrapped(" ".join(paragraphs(language)), 62).split("\n")
    verse = "\n".join(line[0].upper() + line[1:] for line in lines)
    assert unwrap(verse) == (verse, 0), "negative control"


@pytest.mark.parametrize("language", ["Arabic", "Hindi", "Chinese", "Japanese", "Korean", "Thai"])
def test_an_abbreviation_makes_no_heading_of_a_script_without_capitals(language: str) -> None:
    """Would catch paragraphs left wrapped for the name RAID in them, as if all were capitals."""
    whole = [f"{one[:20]} RAID {one[20:]}" for one in paragraphs(language)]
    width = 36 if language in ("Chinese", "Japanese") else 72
    cut = [textwrap.wrap(one, width, break_on_hyphens=False) for one in whole]
    joined = unwrap(book(*("\n".join(lines) for lines in cut)))[0]
    assert joined.count("\n") == 2 * (len(whole) - 1)
    heading = f"{wrapped(ENGLISH[0])}\n\nTHE SECOND PART, IN WHICH THE BRIDGE IS BUILT BY A FEW MEN"
    heading += " OF THE\nVILLAGE"
    assert unwrap(heading)[0].endswith("OF THE\nVILLAGE"), "negative control"


def test_the_joiners_within_persian_words_are_no_symbols() -> None:
    """Would catch Persian left wrapped, of which every other word has a zero-width non-joiner."""
    whole = paragraphs("Persian")
    assert all(one.count("\u200c") > 10 for one in whole)
    for width in (60, 66, 72):
        assert unwrap(book(*(wrapped(one, width) for one in whole)))[0] == book(*whole)


def test_paragraphs_may_all_end_with_a_long_line() -> None:
    """Would catch a text taken for stanzas because chance fills the last lines of its paragraphs,
    though no line in it has room for the next word.
    """
    lines = wrapped(" ".join(ENGLISH), 66).split("\n")
    whole = [" ".join(lines[at : at + 3]) for at in range(0, 9, 3)]
    text = book(*("\n".join(lines[at : at + 3]) for at in range(0, 9, 3)))
    assert all(len(line) > 0.8 * 66 for line in lines[:9])
    assert unwrap(text)[0] == book(*whole)


def test_chinese_with_latin_words_is_joined_where_a_space_was() -> None:
    """Would catch paragraphs left wrapped because textwrap breaks them at the spaces around Latin
    words alone, long before the edge.
    """
    lines = (
        "桥的管理员在每个星期四都会把大车的数目记在本子上,然后把本子交给教区,在那",
        "里再由一个住在磨坊旁边的名叫 Nathaniel",
        "的人把它们全部都加起来,写成一张很长很长的单子,这张单子要挂在教堂的门上面",
        "一直挂到新年以后,因为那时候所有的人都要来看看自己付了多少钱,还有没有欠着",
        "什么没有付清。",
    )
    whole = f"{lines[0]}{lines[1]} {lines[2]}{lines[3]}{lines[4]}"
    cut = "\n".join(textwrap.wrap(paragraphs("Chinese")[0], 36))
    assert unwrap(book(cut, "\n".join(lines)))[0] == book(paragraphs("Chinese")[0], whole)


def test_plus_and_minus_are_no_corner_of_a_table() -> None:
    """Would catch a paragraph left wrapped for "C++ and C+-", and the table of boxes joined."""
    whole = f"The keys Control++ and Control+- change the size of what is shown. {ENGLISH[0]}"
    table = "+-----+-----+\n| the | box |\n+-----+-----+"
    assert unwrap(book(wrapped(whole), table))[0] == book(whole, table)


BLOCKS = st.one_of(
    st.sampled_from([*ENGLISH, *paragraphs("German"), *paragraphs("Chinese")]).flatmap(
        lambda one: st.sampled_from(WIDTHS).map(lambda width: wrapped(one, width))
    ),
    st.sampled_from([*NO_PROSE.values(), *ENGLISH, "", "CHAPTER I", "  * * *"]),
    st.text("ab .,\n -A", max_size=60),
)


@given(st.lists(BLOCKS, max_size=8), st.sampled_from(["\n", "\n\n", "\n    "]))
@settings(max_examples=150, deadline=None)
def test_unwrapping_is_done_once(blocks: list[str], between: str) -> None:
    """Would catch a second pass that joins more, and a character lost or made."""
    text = "\n".join(line.rstrip() for line in between.join(blocks).split("\n"))
    once, joined = unwrap(text)
    assert unwrap(once) == (once, 0)
    assert (once == text) == (joined == 0)
    assert sorted("".join(once.split())) == sorted("".join(text.split()))
