"""Slurs and toxic words: what is dropped, and the innocent senses and discussions that are not.

The words themselves come from the lists; a test that needs an example takes one from there.
"""

import pickle
from pathlib import Path
from typing import Any

import pytest

from trainer.corpus.rules.toxicity import Toxicity, vocabulary
from trainer.corpus.rules.vocabulary import listed
from trainer.errors import DataError, RecipeError
from trainer.recipe.curation import ToxicityRule

SLUR = listed("slurs")[0]
FILLER = "The river rises in the hills and runs slowly to the sea past farms and mills. " * 20


def judge(text: str, **section: Any) -> Any:
    return Toxicity(ToxicityRule(**section))(text, "document")


def reasons(text: str, **section: Any) -> dict[str, Any]:
    outcome = judge(text, **section)
    assert (outcome.text is None) == bool(outcome.findings)
    return {finding.reason: finding.value for finding in outcome.findings}


INNOCENT = [
    "People of Scunthorpe, Penistone, Lightwater and Clitheroe; a shiitake; a classic assassin.",
    "Dick Van Dyke played in Essex. Cockburn and Hancock met Dr. Titley; a therapist in Japan.",
    "a snigger, a niggle, niggardly, Niger and Nigeria, spicy, raccoons, cocoon, retardation",
    "There is a chink in his armour, and light falls through the chinks.",
    "A Maine coon is a large cat. The dyke holds back the water. Frost will nip the buds.",
    "The retarded potential follows; you retard the spark by turning the screw.",
    "Open it in gimp. Eat a cracker with kraut. The tranny of my old van is broken.",
    "The savage beauty of the coast; Carla Savage wrote it; a nip and tuck.",
    "homo sapiens, spastic paralysis, the Redskins won in 1992, you nip the bud",
    "f**k is f to the power k; a*b, sh*t, c*nt are products; x = fu.ck + 3",
    "U n i t e d, a b c d e, f - u - n",
    "Frustrated, she swore: shit, the train was gone.",
    "Kill the process; if you will, shoot the film; natural gas; the death of a king.",
    "yes, sooo goood, hmmmm, aaaargh",
]


@pytest.mark.parametrize("text", INNOCENT)
def test_innocent_text_passes(text: str) -> None:
    """Would catch a listed word found inside another, or in its innocent sense."""
    outcome = judge(text)
    assert (outcome.text, outcome.findings) == (text, ())


def test_every_slur_and_its_plural_is_found_alone_and_in_capitals() -> None:
    """Would catch a list that is not read, or matching that depends on case or number."""
    for word in listed("slurs"):
        plural = word[:-1] + "ies" if word.endswith("ny") else word + "s"
        for form in (word, plural, word.upper(), f"({word.title()}),"):
            assert reasons(f"{FILLER}They saw a {form} there.") == {"slurs": 1}


def test_words_with_innocent_senses_count_in_hostile_company_only() -> None:
    """Would catch such words never counted, or always; a negative control stands beside each."""
    for word in listed("ambiguous"):
        assert reasons(f"you {word}") == {"slurs": 1}
        assert reasons(f"a filthy {word} indeed") == {"slurs": 1}
        assert reasons(f"the {word} was there, and you saw it") == {}


def test_a_discussed_slur_passes_up_to_its_own_limit() -> None:
    """Would catch history, dictionaries and court reports dropped, or any context that excuses."""
    discussed = f"The word {SLUR} is a derogatory term. "
    assert reasons(discussed) == {}
    assert reasons(f'Witnesses said that he shouted "{SLUR}" at them.') == {}
    assert reasons(f"He wrote \u2018{SLUR}\u2019 on the wall.") == {}
    assert reasons((discussed + FILLER) * 5) == {}
    assert reasons((discussed + FILLER) * 6) == {"discussed slurs": 6}
    far = f"A derogatory term. {FILLER} They saw a {SLUR}."
    assert reasons(far) == {"slurs": 1}


def test_the_limits_are_those_of_the_recipe() -> None:
    """Would catch a threshold that is ignored or off by one."""
    text = f"A {SLUR} came. Another {SLUR} went."
    assert reasons(text, slurs=2) == {}
    assert reasons(text, slurs=1) == {"slurs": 2}
    (finding,) = judge(text, slurs=1).findings
    assert (finding.value, finding.threshold) == (2, 1)


def test_toxic_words_are_counted_a_thousand() -> None:
    """Would catch a rate of raw counts, and a short text dropped for one oath."""
    toxic = listed("toxic")[0]
    assert reasons(f"Well, {toxic}!") == {}
    assert reasons(f"{toxic} {toxic} and {toxic}") == {"toxic words a thousand": 15.0}
    words = len((FILLER * 4).split())
    assert reasons(FILLER * 4 + f" {toxic}" * 3) == {}
    found = reasons(FILLER * 4 + f" {toxic}" * 50)
    assert found == {"toxic words a thousand": pytest.approx(1000 * 50 / (words + 50))}


def test_abuse_aimed_at_somebody_is_counted_apart() -> None:
    """Would catch oaths at nobody counted as hostile, or threats and groups overlooked."""
    toxic = listed("toxic")[0]
    limits = {"toxic_words_a_thousand": 1000.0, "hostile_words": 0}
    assert reasons(f"you {toxic}", **limits) == {"hostile words": 1}
    assert reasons(f"all immigrants are {toxic}s", **limits) == {"hostile words": 1}
    assert reasons("I hope you die. Go kill yourself!", **limits) == {"hostile words": 2}
    assert reasons("we should gas the migrants", **limits) == {"hostile words": 1}
    assert reasons(f"{toxic}, it rains, and then you come home", **limits) == {}
    assert reasons("if you kill the parent process, the children die", **limits) == {}
    three = f"You {toxic}. {FILLER}" * 3
    assert reasons(three) == {"hostile words": 3}


@pytest.mark.parametrize(
    "disguise", ["fuuuuck", "f*ck", "fvck", "f u c k", "f.u.c.k", "sh1t", "5hit"]
)
def test_disguises_are_seen_through_as_far_as_precision_allows(disguise: str) -> None:
    """Would catch a disguise no longer read; `fvck` shows what is left alone."""
    expected = {} if disguise == "fvck" else {"toxic words a thousand": 15.0}
    assert reasons(f"{disguise} and {disguise} and {disguise}") == expected


def test_the_lists_are_lower_case_single_words_that_stand_once() -> None:
    """Would catch an entry that can never match, or that stands in two lists with two meanings."""
    names = ("slurs", "ambiguous", "toxic")
    words = [word for name in names for word in listed(name)]
    assert len(words) == len(set(words)) > 80
    for name in (*names, "discussion", "hostile", "insulted"):
        assert all(word.isalpha() and word == word.lower() for word in listed(name)), name
        assert list(listed(name)) == sorted(set(listed(name))), name


def test_further_words_are_read_from_a_file(tmp_path: Path) -> None:
    """Would catch a file that is not read, or whose kinds are mixed up."""
    path = tmp_path / "words.tsv"
    path.write_text("# ours\n\nslur\tGrobian\ntoxic\tlümmel\n", encoding="utf-8")
    assert reasons("ein Grobian kam", words=str(path)) == {"slurs": 1}
    assert reasons("ein Grobian kam") == {}
    assert reasons("Lümmel, Lümmel, LÜMMEL", words=str(path)) == {"toxic words a thousand": 15.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"slur\tone\nslurs\ttwo\n", r"words\.tsv line 2 is not `slur` or `toxic`"),
        (b"slur one\n", r"words\.tsv line 1 is not `slur` or `toxic`, a tab, and a word"),
        (b"\n\ntoxic\ttwo words\n", r"words\.tsv line 3: 'two words' is not one word"),
        (b"toxic\t\n", r"words\.tsv line 1"),
        (b"toxic\tl\xfcmmel\n", r"words\.tsv line 1 is not UTF-8"),
    ],
)
def test_a_bad_file_of_words_is_one_line_with_its_place(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """Would catch a bad line passed over in silence, or an error without its line."""
    path = tmp_path / "words.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        Toxicity(ToxicityRule(words=str(path))).prepare()
    assert "\n" not in str(caught.value)


def test_a_missing_file_of_words_is_named_with_its_key(tmp_path: Path) -> None:
    """Would catch a stack trace for a mistyped path."""
    with pytest.raises(RecipeError, match=r"corpus\.rules\.toxicity\.words: cannot read .*none"):
        Toxicity(ToxicityRule(words=str(tmp_path / "none"))).prepare()


def test_the_rule_travels_to_other_processes() -> None:
    """Would catch state that cannot be pickled."""
    rule = pickle.loads(pickle.dumps(Toxicity(ToxicityRule())))
    assert rule(f"a {SLUR}", "x").text is None
    assert len(vocabulary(None)) > 150
