"""Counterfactual copies: what is swapped, what is not, and for which documents."""

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.corpus.rules.counterfactual import Counterfactual
from trainer.corpus.rules.gender_swap import swap_gender
from trainer.corpus.rules.vocabulary import listed, pairs
from trainer.recipe.curation import BalanceRule

SWAPPED = [
    ("He is a king.", "She is a queen."),
    ("SHE SAID", "HE SAID"),
    ("Mr. Smith and Mrs Jones", "Ms. Smith and Mr Jones"),
    ("Miss Jones, I miss her", "Mr Jones, I miss him"),
    ("Stephen King met Ms Prince, a prince.", "Stephanie King met Mr Prince, a princess."),
    ("He's here; he'd go, he said he'll.", "She's here; she'd go, she said she'll."),
    ("'He went', she said, 'himself.'", "'She went', he said, 'herself.'"),
    ("...he\u2014she--him", "...she\u2014he--her"),
    ("his mother-in-law and father", "her father-in-law and mother"),
    ("Thank you, ma'am.", "Thank you, sir."),
    ("John told his sons; John's wife", "Mary told her daughters; Mary's husband"),
    ("She gave her a book.", "He gave him a book."),
    ("She gave her book away.", "He gave his book away."),
    ("I saw her. I saw her and left.", "I saw him. I saw him and left."),
    ("I saw her\nmother", "I saw his\nfather"),
    ("Let her go; it made her laugh.", "Let him go; it made him laugh."),
    ("told her that, to her in time", "told him that, to him in time"),
    ("her own, her very first, her 3 dogs", "his own, his very first, his 3 dogs"),
    (
        "The book is his. His was red. It is his own.",
        "The book is hers. Hers was red. It is her own.",
    ),
    (
        "He gave her his book. She gave him her book.",
        "She gave him her book. He gave her his book.",
    ),
    (
        "He told her her rights, and lent her our car.",
        "She told him his rights, and lent him our car.",
    ),
    ("He found her another, and gave her no sign.", "She found him another, and gave him no sign."),
    ("his in-laws, her no-nonsense way", "her in-laws, his no-nonsense way"),
    ("a friend of hers, hers is red", "a friend of his, his is red"),
    ("They saw him in Rome.", "They saw her in Rome."),
]

UNTOUCHED = [
    "he or she, him/her, his or her book, s/he, she and he",
    "https://example.org/she?q=he www.he.com she@he.com mail.her@example.com",
    "`he` and ```\nher = his\n``` and he_is, his2, her.name, man(1), x=he, he=1, /usr/man/he",
    "the man page, man pages, a man-in-the-middle, man 5 proc, man-made, he-goat",
    "Shepherd theme other mandate humane sheer history ushers",
    "John and Mary went to Paris.",  # names alone may be anybody's
    "12 ms, MS Windows, Mr, the Mrs",
    "I miss the train",
    ">>> father = his",
]


def judge(text: str, document: str = "document", **section: Any) -> Any:
    return Counterfactual(BalanceRule(**section))(text, document)


@pytest.mark.parametrize(("text", "expected"), SWAPPED)
def test_gendered_terms_swap_together(text: str, expected: str) -> None:
    """Would catch a term left behind, "her" taken for the wrong pronoun, or a lost capital."""
    assert swap_gender(text)[0] == expected


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_is_no_gendered_word_stays(text: str) -> None:
    """Would catch changes to code, URLs, addresses, compounds, or what names both genders."""
    assert swap_gender(text) == (text, 0)


# Him, his, her and hers are decided by the words around, and one-way terms do not come back.
REVERSIBLE = [word for pair in pairs("gender_pairs") for word in pair]
NAMES = [name for pair in pairs("name_pairs") for name in pair]
OTHERS = ["river", "the", "and", "walked", "Paris", "item_1", "`he`", "https://she.org/he", "12"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*REVERSIBLE, *NAMES, *OTHERS]),
            st.sampled_from([str.lower, str.upper, str.capitalize, str]),
            st.sampled_from([" ", ", ", ".\n", "; ", "'s ", "\u2014"]),
        ),
        max_size=30,
    )
)
def test_swapping_twice_gives_the_original(parts: list[tuple[str, Any, str]]) -> None:
    """Would catch pairs that are not each other's, or case that is lost on the way."""
    text = "".join((word if word in NAMES else case(word)) + end for word, case, end in parts)
    text = text.replace("https://she.org/he\u2014", "")  # the dash would be part of the URL
    once, swapped = swap_gender(text)
    assert swap_gender(once)[0] == text
    assert (once == text) == (swapped == 0)


def test_every_term_stands_in_one_pair_only() -> None:
    """Would catch a word with two counterparts, of which one would win in silence."""
    for words in (REVERSIBLE, NAMES):
        assert len(words) == len(set(words)) > 90
    one_way = [line.split()[0] for line in listed("gender_one_way")]
    assert not set(one_way) & set(REVERSIBLE)


def test_the_copy_stands_beside_the_document_or_in_its_place() -> None:
    """Would catch a copy that is lost, or an original that is."""
    beside = judge("He ran.", counterfactual=1.0)
    assert (beside.text, beside.added) == ("He ran.", "She ran.")
    instead = judge("He ran.", counterfactual=1.0, replace=True)
    assert (instead.text, instead.added) == ("She ran.", None)
    for outcome in (beside, instead):
        ((reason, value),) = [(f.reason, f.value) for f in outcome.findings]
        assert (reason, value) == ("gendered terms swapped", 1)


def test_nothing_happens_without_a_share_or_a_gendered_term() -> None:
    """The negative control: a rule that always swapped would pass the tests above."""
    for outcome in (judge("He ran."), judge("It ran.", counterfactual=1.0)):
        assert outcome.added is None and outcome.findings == ()
    assert judge("He ran.").text == "He ran."


def test_the_share_is_met_and_hangs_on_the_id_alone() -> None:
    """Would catch chance that differs between runs, or a share that is not the one asked for."""
    ids = [f"doc-{number}" for number in range(4000)]
    chosen = {name for name in ids if judge("He ran.", name, counterfactual=0.25).added}
    # Four standard deviations of a binomial of 4000 and 0.25 are 0.027.
    assert abs(len(chosen) / len(ids) - 0.25) < 0.027
    again = {name for name in ids if judge("She sat.", name, counterfactual=0.25).added}
    more = {name for name in ids if judge("He ran.", name, counterfactual=0.5).added}
    assert again == chosen < more


def test_the_rule_travels_to_other_processes() -> None:
    """Would catch state that cannot be pickled."""
    rule = pickle.loads(pickle.dumps(Counterfactual(BalanceRule(counterfactual=1.0))))
    assert rule("He ran.", "x").added == "She ran."


def test_long_runs_take_linear_time() -> None:
    """Would catch a pattern that backtracks: these would take minutes, not milliseconds."""
    for piece in ("a", "`", "```", "he/", "he-", "a.", "man ", "://", "he@", "'"):
        text = "she " + piece * 100_000
        assert swap_gender(text)[0].startswith("he ")
